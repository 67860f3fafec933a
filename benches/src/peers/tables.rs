//! Tables and charts of all figures.

use crate::facts::Facts;
use crate::programs::{FIRST, LlamaCpp, Plan, VARIANTS};
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::report::{Chart, Report, Table};

/// Writes the figures into the report, for the given numbers of threads.
pub(crate) fn tell(
    figures: &Figures,
    facts: &[Facts],
    plan: &Plan,
    threads: &[usize],
    report: &mut Report,
) {
    if facts.is_empty() {
        return;
    }
    report.tables.push(machine(figures, threads, report));
    let decode = Test::Decode(plan.decode);
    let longest = Test::Prefill(plan.longest());
    let mut head = vec!["program and file".to_owned(), "threads".to_owned()];
    head.extend(plan.prompts.iter().map(|n| format!("prefill {n}")));
    head.extend(
        [
            "×",
            "of int8 peak",
            &format!("decode {}", plan.decode),
            "×",
            "GB/s",
            "of bandwidth",
            "first token s",
            "peak MB",
        ]
        .map(str::to_owned),
    );
    let mut table = Table {
        title: "Speed and memory".to_owned(),
        note: format!(
            "Tokens/s; × is over llama.cpp on the same file with the same threads, for the longest prompt and for decode. GB/s: \
             weights, head, keys and values that one token reads, from the file's tensors, over its time. Share of the int8 peak: \
             products with ternary weights alone. First token: the whole process with a prompt of {FIRST} tokens, the file in the \
             page cache. Peak: resident memory, file pages included."
        ),
        head,
        rows: Vec::new(),
    };
    let mut decoding = Chart::new("peers", "Decode", "tokens/s");
    let mut reading = Chart::new(
        "peers-prefill",
        &format!("Prefill {}", plan.longest()),
        "tokens/s",
    );
    for fact in facts {
        for &threads in threads {
            let place = format!("{}, {threads} thr", fact.name);
            for who in programs() {
                let key = |test| Key::new(fact.name, who, threads, test);
                let Some(speed) = figures.median(&key(decode)) else {
                    continue;
                };
                let prefill = figures.median(&key(longest)).unwrap_or(f64::NAN);
                decoding.bar(&place, who, speed);
                reading.bar(&place, who, prefill);
                let times = |test| {
                    let theirs = Key::new(fact.name, LlamaCpp::NAME, threads, test);
                    let own = who == LlamaCpp::NAME;
                    let ratio = figures.ratio(&key(test), &theirs).filter(|_| !own);
                    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"))
                };
                let mut cells = vec![format!("{who} {}", fact.name), threads.to_string()];
                cells.extend(plan.prompts.iter().map(|n| {
                    let speed = figures.median(&key(Test::Prefill(*n)));
                    speed.map_or("–".to_owned(), |speed| format!("{speed:.1}"))
                }));
                cells.push(times(longest));
                cells.push(percent(of_peak(figures, &key(longest), fact)));
                cells.push(format!("{speed:.2}"));
                cells.push(times(decode));
                cells.push(format!(
                    "{:.1}",
                    bytes(figures, &key(decode), fact, plan) * speed / 1e9
                ));
                cells.push(percent(of_bandwidth(figures, &key(decode), fact, plan)));
                let first = figures.median(&key(Test::FirstToken));
                cells.push(first.map_or("–".to_owned(), |seconds| format!("{seconds:.2}")));
                let peak = figures.median(&key(Test::Peak));
                cells.push(peak.map_or("–".to_owned(), |bytes| format!("{:.0}", bytes / 1e6)));
                table.row(cells);
            }
        }
    }
    report.tables.push(table);
    report.charts.extend([decoding, reading]);
}

/// Ours, then theirs.
fn programs() -> impl Iterator<Item = &'static str> {
    let ours = VARIANTS.iter().map(|variant| variant.name);
    ours.chain([LlamaCpp::NAME])
}

fn machine(figures: &Figures, threads: &[usize], report: &Report) -> Table {
    let mut table = Table::new(
        "The machine in the same run",
        format!(
            "{}: memory read sequentially, in the fastest of a few ways; int8 multiply-accumulates out of registers.",
            report.machine.join(", ")
        ),
        &["threads", "read GB/s", "int8 GMAC/s"],
    );
    for &threads in threads {
        let of = |test, digits: usize| {
            let value = figures.median(&Key::machine(threads, test));
            value.map_or("–".to_owned(), |value| {
                format!("{:.digits$}", value / 1e9)
            })
        };
        table.row([
            threads.to_string(),
            of(Test::Bandwidth, 1),
            of(Test::Int8Peak, 0),
        ]);
    }
    table
}

/// Bytes that one token reads: what the program itself says (it may have repacked weights), else what the tensors say.
pub(crate) fn bytes(figures: &Figures, decode: &Key, fact: &Facts, plan: &Plan) -> f64 {
    let (test, all) = match decode.test {
        Test::DecodeAfter(_, depth) => {
            // A test of twice the length reads as many keys and values on average.
            (Test::BytesAfter(depth), fact.bytes_per_token(2 * depth))
        }
        _ => (Test::BytesPerToken, fact.bytes_per_token(plan.decode)),
    };
    let said = Key {
        test,
        ..decode.clone()
    };
    figures.median(&said).unwrap_or(all)
}

/// The share of the machine's bandwidth that decoding reaches, measured in the same rounds.
pub(crate) fn of_bandwidth(
    figures: &Figures,
    decode: &Key,
    fact: &Facts,
    plan: &Plan,
) -> Option<f64> {
    let bandwidth = Key::machine(decode.threads, Test::Bandwidth);
    let ratio = figures.ratio(decode, &bandwidth)?;
    Some(ratio * bytes(figures, decode, fact, plan))
}

/// The share of the machine's int8 peak that prefill reaches.
pub(crate) fn of_peak(figures: &Figures, prefill: &Key, fact: &Facts) -> Option<f64> {
    let peak = Key::machine(prefill.threads, Test::Int8Peak);
    Some(figures.ratio(prefill, &peak)? * fact.ternary as f64)
}

/// A share in percent, or a dash.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::FULL;

    #[test]
    fn shares_come_from_the_bytes_of_the_file() {
        let fact = Facts {
            name: "f",
            weight_bytes: 900,
            head_bytes: 400,
            ternary: 10,
            cache_bytes: 50,
        };
        let plan = Plan {
            rounds: 1,
            prompts: &[8],
            decode: 4,
            ..Plan::new(true, None)
        };
        let mut figures = Figures::default();
        let decode = Key::new("f", FULL, 1, Test::Decode(4));
        let prefill = Key::new("f", FULL, 1, Test::Prefill(8));
        figures.add(decode.clone(), 2.0);
        figures.add(prefill.clone(), 6.0);
        figures.add(Key::machine(1, Test::Bandwidth), 4000.0);
        figures.add(Key::machine(1, Test::Int8Peak), 120.0);
        assert_eq!(of_bandwidth(&figures, &decode, &fact, &plan), Some(0.5));
        assert_eq!(of_peak(&figures, &prefill, &fact), Some(0.5));
        // A head that reads only a part of itself says so.
        figures.add(Key::new("f", FULL, 1, Test::BytesPerToken), 500.0);
        assert_eq!(of_bandwidth(&figures, &decode, &fact, &plan), Some(0.25));
        let mut report = Report::new("peers", "t", "c".into());
        tell(&figures, &[fact], &plan, &[1], &mut report);
        let text = report.terminal();
        assert!(text.contains("bitnet f") && text.contains("50 %"), "{text}");
        assert_eq!(percent(None), "–");
    }
}
