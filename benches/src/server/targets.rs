//! The targets of the server, and whether this run reached them.

use crate::scenes::{Intruder, Shared, Users};
use crate::{AT_ONCE, COMPANY, Plan, STREAMS};
use bitnet::EngineOptions;
use bitnet_benchmarks::report::{Report, Table, Verdict};
use std::collections::BTreeMap;

const OURS: &str = "bitnet";
const LLAMA: &str = "llama-server";

/// Measurements by program.
#[derive(Default)]
pub(crate) struct Seen {
    /// By number of users, too.
    pub(crate) users: BTreeMap<(usize, &'static str), Users>,
    pub(crate) intruder: BTreeMap<&'static str, Intruder>,
    /// By number of users that ask at once, too.
    pub(crate) shared: BTreeMap<(usize, &'static str), Shared>,
    /// Tokens per second of many streams through HTTP.
    pub(crate) streamed: Option<f64>,
    /// The same through the engine alone.
    pub(crate) alone: Option<f64>,
    /// Texts that are the same alone and in company, of how many.
    pub(crate) same: Option<(usize, usize)>,
}

/// Writes table and targets into the report.
pub(crate) fn tell(seen: &Seen, plan: &Plan, report: &mut Report) {
    report.tables.push(table(seen, plan));
    for (users, faster) in plan.users.into_iter().zip([3.5, 4.0]) {
        let both = seen
            .users
            .get(&(users, OURS))
            .zip(seen.users.get(&(users, LLAMA)));
        let name = format!("{users} users, tokens/s in all, against llama-server");
        let speeds = both.map(|(ours, theirs)| (ours.tokens_per_second, theirs.tokens_per_second));
        at_least(report, name, faster, speeds);
        let name = format!("{users} users, p95 to first token, against llama-server");
        let firsts = both.map(|(ours, theirs)| (ours.first_p95, theirs.first_p95));
        at_most(report, name, 0.35, firsts);
    }
    let (ours, theirs) = (seen.intruder.get(OURS), seen.intruder.get(LLAMA));
    let longest = ours
        .zip(theirs)
        .map(|(ours, theirs)| (ours.longest, theirs.longest));
    let name = format!(
        "a prompt of {} among {COMPANY} texts: longest pause of the others, against llama-server",
        plan.long
    );
    at_most(report, name, 0.2, longest);
    let steps = ours.map(|ours| {
        // A chunk of the long prompt takes its share of the time to its first token.
        let chunk = EngineOptions::default().mixed_step_tokens as f64;
        let chunk = ours.first * chunk / plan.long.max(1) as f64;
        (ours.longest, 1.5 * ours.usual + chunk)
    });
    let name = "the same pause, against 1.5 usual steps and a chunk".to_owned();
    at_most(report, name, 1.0, steps);
    for at_once in AT_ONCE {
        let shared = seen.shared.get(&(at_once, OURS));
        let name = format!(
            "first token of {} users with a prefix of {}, {at_once} at once, against the first of them",
            plan.shared.1, plan.shared.0
        );
        let pair = shared.map(|shared| (shared.others, shared.first));
        at_most(report, name, 0.15, pair);
    }
    let name = format!("{STREAMS} streams through HTTP against the engine alone, tokens/s");
    at_least(report, name, 0.95, seen.streamed.zip(seen.alone));
    if let Some((same, all)) = seen.same {
        let verdict = Verdict::of(same == all);
        let name = "texts that are the same alone and in company";
        report.target(
            name,
            format!("{all} of {all}"),
            format!("{same} of {all}"),
            verdict,
            "",
        );
    }
}

fn at_least(report: &mut Report, name: String, least: f64, pair: Option<(f64, f64)>) {
    row(report, name, format!("≥ {least}×"), pair, |ratio| {
        ratio >= least
    });
}

fn at_most(report: &mut Report, name: String, most: f64, pair: Option<(f64, f64)>) {
    row(report, name, format!("≤ {most}×"), pair, |ratio| {
        ratio <= most
    });
}

fn row(
    report: &mut Report,
    name: String,
    target: String,
    pair: Option<(f64, f64)>,
    met: impl Fn(f64) -> bool,
) {
    let Some((ours, other)) = pair else {
        report.target(
            name,
            target,
            "",
            Verdict::Unmeasured,
            "one of the two did not run: see the notes",
        );
        return;
    };
    let ratio = ours / other;
    let measured = format!("{ratio:.3}× ({ours:.3} / {other:.3})");
    report.target(name, target, measured, Verdict::of(met(ratio)), "");
}

fn table(seen: &Seen, plan: &Plan) -> Table {
    let (prompted, tokens) = plan.asked;
    let mut table = Table::new(
        "What users see",
        format!(
            "Users ask at the same moment for {tokens} tokens behind {prompted}. The long prompt has {} tokens and comes while \
             {COMPANY} texts are written. The prefix has {} tokens; one user asks first, then {} more, one after the other or in groups.",
            plan.long, plan.shared.0, plan.shared.1
        ),
        &["what", OURS, LLAMA],
    );
    let mut add = |what: String, values: [Option<f64>; 2], digits: usize| {
        let cells =
            values.map(|value| value.map_or("–".to_owned(), |value| format!("{value:.digits$}")));
        let [ours, theirs] = cells;
        table.row([what, ours, theirs]);
    };
    for users in plan.users {
        let of = |get: fn(&Users) -> f64| {
            [OURS, LLAMA].map(|who| seen.users.get(&(users, who)).map(get))
        };
        add(
            format!("{users} users: tokens/s in all"),
            of(|it| it.tokens_per_second),
            1,
        );
        add(
            format!("{users} users: p95 to first token, s"),
            of(|it| it.first_p95),
            2,
        );
    }
    let of = |get: fn(&Intruder) -> f64| [OURS, LLAMA].map(|who| seen.intruder.get(who).map(get));
    add("usual time between tokens, s".into(), of(|it| it.usual), 3);
    add(
        "longest while the long prompt is read, s".into(),
        of(|it| it.longest),
        3,
    );
    add(
        "first token of the long prompt, s".into(),
        of(|it| it.first),
        2,
    );
    for at_once in AT_ONCE {
        let of = |get: fn(&Shared) -> f64| {
            [OURS, LLAMA].map(|who| seen.shared.get(&(at_once, who)).map(get))
        };
        let first = "first token of the first user with the prefix, s".to_owned();
        add(first, of(|it| it.first), 2);
        let others = format!("first token of the others, {at_once} at once, s");
        add(others, of(|it| it.others), 3);
    }
    add(
        format!("{STREAMS} streams through HTTP, tokens/s"),
        [seen.streamed, None],
        1,
    );
    add(
        format!("{STREAMS} texts through the engine alone, tokens/s"),
        [seen.alone, None],
        1,
    );
    table
}
