//! What is asked of the GPU backend, and whether this run reached it. A ratio is formed of figures of this run alone.

use crate::{DEPTH, LONG, OURS, OXBITNET, SHORT};
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::report::{Report, Verdict};
use bitnet_benchmarks::synthetic::Recipe;

/// Decode of Microsoft's CUDA pipeline for this model (W2A8, CUDA graphs) on an H200: another run's figure, since it is in
/// no registry and cannot be run by a chore.
const CUDA_W2A8: f64 = 288.0;

/// The file that the targets are about.
const FILE: &str = Recipe::I2S_F16.name;

/// Writes the targets into the report.
pub(crate) fn tell(figures: &Figures, report: &mut Report) {
    let ours = |test| Key::new(FILE, OURS, 0, test);
    let theirs = |test| Key::new(FILE, OXBITNET, 0, test);
    let decode = figures.median(&ours(Test::Decode(LONG)));
    let name = format!("decode {LONG} from an empty context, greedy");
    for least in [700.0, 1000.0] {
        speed(report, &name, least, decode);
    }
    let deep = figures.median(&ours(Test::DecodeAfter(SHORT, DEPTH)));
    let measured = deep.map_or(String::new(), |speed| format!("{speed:.1} tokens/s"));
    report.target(
        format!("decode {SHORT} behind {DEPTH} tokens"),
        "shown",
        measured,
        deep.map_or(Verdict::Unmeasured, |_| Verdict::Met),
        "",
    );
    let rows = [
        (Test::Decode(LONG), Test::Decode(SHORT), 35.0),
        (Test::Prefill(512), Test::Prefill(512), 40.0),
        (Test::Prefill(128), Test::Prefill(128), 30.0),
    ];
    for (test, other, least) in rows {
        let what = match test {
            Test::Prefill(tokens) => format!("prefill {tokens} against oxbitnet"),
            _ => "decode against oxbitnet".to_owned(),
        };
        let target = format!("≥ {least}×");
        match figures.ratio(&ours(test), &theirs(other)) {
            Some(ratio) => {
                let both = [ours(test), theirs(other)].map(|key| figures.median(&key));
                let [a, b] = both.map(|speed| speed.unwrap_or(f64::NAN));
                let measured = format!("{ratio:.1}× ({a:.1} / {b:.1} tokens/s)");
                report.target(what, target, measured, Verdict::of(ratio >= least), "");
            }
            None => {
                report.target(
                    what,
                    target,
                    "",
                    Verdict::Unmeasured,
                    "oxbitnet did not run",
                );
            }
        }
    }
    let measured = decode.map_or(String::new(), |speed| {
        format!(
            "{:.2}× ({speed:.1} / {CUDA_W2A8} tokens/s)",
            speed / CUDA_W2A8
        )
    });
    report.target(
        "decode against Microsoft's CUDA W2A8 pipeline on an H200",
        "≥ 2.4×",
        measured,
        Verdict::Unmeasured,
        "their figure is of an earlier run on an H200, not of this one",
    );
}

fn speed(report: &mut Report, what: &str, least: f64, measured: Option<f64>) {
    let target = format!("≥ {least} tokens/s");
    match measured {
        Some(speed) => {
            let shown = format!("{speed:.1} tokens/s");
            report.target(what, target, shown, Verdict::of(speed >= least), "");
        }
        None => report.target(what, target, "", Verdict::Unmeasured, ""),
    }
}
