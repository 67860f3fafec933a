//! Long contexts and many texts at once, measured on one file: their table.

use crate::programs::{FULL, LARGE, LlamaCpp, Plan, SCREENED, VARIANTS, Variant};
use crate::tables::percent;
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::report::{Report, Table};

/// The ways in which ours is measured.
pub(crate) fn variants() -> impl Iterator<Item = &'static Variant> {
    let measured = [FULL, SCREENED];
    VARIANTS
        .iter()
        .filter(move |variant| measured.contains(&variant.name))
}

/// Writes the table into the report, for the given numbers of threads.
pub(crate) fn tell(figures: &Figures, plan: &Plan, threads: &[usize], report: &mut Report) {
    let (prefill, decode) = (Test::Prefill(plan.long), Test::Decode(plan.decode));
    let deep = Test::DecodeAfter(plan.decode, plan.depth);
    let mut head = vec!["program".to_owned(), "threads".to_owned()];
    head.extend([
        format!("prefill {}", plan.long),
        "×".to_owned(),
        format!("decode {} behind {}", plan.decode, plan.depth),
        "×".to_owned(),
        "of depth 0".to_owned(),
    ]);
    for texts in plan.texts {
        head.extend([format!("{texts} together"), "×".to_owned()]);
    }
    let mut table = Table {
        title: "Long contexts and many texts".to_owned(),
        note: format!(
            "Tokens/s on {LARGE}; × is over llama.cpp with the same threads. Together: so many texts of {0} tokens, each behind \
             a prompt of {0}, and the tokens of all are counted. Keys and values of both programs are f16.",
            plan.each
        ),
        head,
        rows: Vec::new(),
    };
    for &threads in threads {
        let ours = variants().map(|variant| variant.name);
        for who in ours.chain([LlamaCpp::NAME]) {
            let key = |test| Key::new(LARGE, who, threads, test);
            if figures.median(&key(deep)).is_none() {
                continue;
            }
            let speed = |test| {
                let speed = figures.median(&key(test));
                speed.map_or("–".to_owned(), |speed| format!("{speed:.2}"))
            };
            let times = |test| {
                let theirs = Key::new(LARGE, LlamaCpp::NAME, threads, test);
                let ratio = figures.ratio(&key(test), &theirs);
                let ratio = ratio.filter(|_| who != LlamaCpp::NAME);
                ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"))
            };
            let mut cells = vec![who.to_owned(), threads.to_string()];
            for test in [prefill, deep] {
                cells.extend([speed(test), times(test)]);
            }
            cells.push(percent(figures.ratio(&key(deep), &key(decode))));
            for texts in plan.texts {
                let test = Test::Parallel(*texts);
                cells.extend([speed(test), times(test)]);
            }
            table.row(cells);
        }
    }
    if !table.rows.is_empty() {
        report.tables.push(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let plan = Plan::new(true, None);
        let mut figures = Figures::default();
        let mut report = Report::new("peers", "t", "c".into());
        tell(&figures, &plan, &[1], &mut report);
        assert!(report.tables.is_empty());
        let key = |test| Key::new(LARGE, FULL, 1, test);
        figures.add(key(Test::Decode(plan.decode)), 20.0);
        figures.add(key(Test::DecodeAfter(plan.decode, plan.depth)), 15.0);
        figures.add(key(Test::Parallel(8)), 60.0);
        tell(&figures, &plan, &[1], &mut report);
        let row = &report.tables[0].rows[0];
        let expected = [
            FULL, "1", "–", "–", "15.00", "–", "75 %", "–", "–", "60.00", "–",
        ];
        assert_eq!(row, &expected);
    }
}
