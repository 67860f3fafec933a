//! What is asked of the GPU backend, and whether this run reached it. A ratio is formed of figures of this run alone.

use crate::kernels::Measured;
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
pub(crate) fn tell(
    figures: &Figures,
    kernels: Option<&Measured>,
    device: &str,
    report: &mut Report,
) {
    let ours = |test| Key::new(FILE, OURS, 0, test);
    let theirs = |test| Key::new(FILE, OXBITNET, 0, test);
    let decode = figures.median(&ours(Test::Decode(LONG)));
    let name = format!("decode {LONG} from an empty context, greedy");
    for least in [700.0, 1000.0] {
        speed(report, &name, least, decode);
    }
    for (texts, least) in [(8, 6_000.0), (32, 18_000.0), (64, 25_000.0)] {
        let together = figures.median(&ours(Test::Parallel(texts)));
        speed(
            report,
            &format!("decode of {texts} texts together"),
            least,
            together,
        );
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
    if let Some(kernels) = kernels {
        of_kernels(kernels, device, report);
    }
}

/// Microseconds of a product in a chain of dependent ones, without norm and rounding, as a program of nothing else reached on
/// [`FLOOR_DEVICE`].
const FLOORS: [(&str, f64); 2] = [("gemv 13824×2560, gated", 6.0), ("gemv 2560×6912", 5.3)];
const FLOOR_DEVICE: &str = "H200";

fn of_kernels(kernels: &Measured, device: &str, report: &mut Report) {
    let batches = kernels.decoded.batches as f64;
    let of_layers: usize = kernels
        .decoded
        .kernels
        .iter()
        .map(|time| time.dispatches)
        .filter(|count| count / kernels.decoded.batches >= kernels.layers)
        .sum();
    let per_layer = of_layers as f64 / batches / kernels.layers as f64;
    report.target(
        "dispatches of a layer at decode",
        "≤ 6",
        format!("{per_layer:.2}"),
        Verdict::of(per_layer <= 6.0),
        "",
    );
    for (label, floor) in FLOORS {
        let found = kernels
            .decoded
            .kernels
            .iter()
            .find(|time| time.kernel == label);
        let each = found.map(|time| 1e6 * time.seconds / time.dispatches as f64);
        let verdict = match each {
            Some(each) if device.contains(FLOOR_DEVICE) => Verdict::of(each <= 1.15 * floor),
            _ => Verdict::Unmeasured,
        };
        report.target(
            format!("{label}, one after the other, with norm and rounding"),
            format!("≤ 1.15× of {floor} µs"),
            each.map_or(String::new(), |each| {
                format!("{each:.2} µs, {:.2}×", each / floor)
            }),
            verdict,
            format!(
                "{floor} µs is of an earlier run on an {FLOOR_DEVICE}, without norm and rounding"
            ),
        );
    }
    for (times, name, least) in [
        (&kernels.full, "dense", 0.9),
        (&kernels.decoded, "screen ", 0.85),
    ] {
        let heads = times.kernels.iter();
        for head in heads.filter(|time| time.kernel.starts_with(name)) {
            let share = head.bytes as f64 / head.seconds / kernels.floors.read;
            report.target(
                format!("{}, the head, of the bandwidth of reading", head.kernel),
                format!("≥ {:.0} %", 100.0 * least),
                format!("{:.0} %", 100.0 * share),
                Verdict::of(share >= least),
                "",
            );
        }
    }
    let (bytes, verdict) = match kernels.loading {
        Some(bytes) => (
            format!("{:.1} MB", bytes as f64 / 1e6),
            Verdict::of(bytes <= 64_000_000),
        ),
        None => (String::new(), Verdict::Unmeasured),
    };
    report.target(
        "more memory of the host while it loads a file",
        "≤ 64 MB",
        bytes,
        verdict,
        "memory of the process alone, without pages of the file; looked at after each tensor",
    );
    let back = kernels.decoded.read_back as f64 / batches;
    report.target(
        "bytes read back for a token",
        "≤ 16",
        format!("{back:.0}"),
        Verdict::of(back <= 16.0),
        "",
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
