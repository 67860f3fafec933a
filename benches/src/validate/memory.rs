//! Targets of a whole run: how much data was used where it lay, and how much memory was resident.
//!
//! `bitnet run` is started as a process of its own, as a user would, and watched.

use anyhow::{Context, Result};
use bitnet_benchmarks::process;
use bitnet_benchmarks::report::{Chart, Report, Verdict};
use bitnet_benchmarks::synthetic::Recipe;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What the model is given, and how much it writes.
const PROMPT: &str = "Once upon a time there was a machine that";
const TOKENS: &str = "24";
/// The two models.
const DEMO: &str = "demo model";
const LARGE: &str = "2b4t-shaped file";

/// Runs the demo model and one in the shape of a real one. What fails is a row that says so: the other rows stand.
pub(crate) fn models(validation: &mut Report, bitnet: &Path, work: &Path) {
    let mut chart = Chart::new("memory", "Peak resident memory of bitnet run", "MiB");
    let large = Recipe::I2S_F16.file(bitnet, work);
    let models = [(DEMO, Ok(None)), (LARGE, large.map(Some))];
    for (name, path) in models {
        let measured =
            path.and_then(|path| model(validation, &mut chart, bitnet, name, path.as_deref()));
        if let Err(error) = measured {
            let what = format!("load + generate, {name}");
            let target = "≥ 80 % zero-copy; memory ≤ 1.10";
            let why = format!("{error:#}");
            validation.target(what, target, "", Verdict::Unmeasured, why.trim());
        }
    }
    validation.charts.push(chart);
}

fn model(
    validation: &mut Report,
    chart: &mut Chart,
    bitnet: &Path,
    name: &str,
    path: Option<&Path>,
) -> Result<()> {
    let shape = inspect(bitnet, path)?;
    let run = run(bitnet, path)?;
    zero_copy(validation, name, &run.report);
    resident(validation, chart, name, &shape, &run)
}

fn inspect(bitnet: &Path, model: Option<&Path>) -> Result<Value> {
    let mut command = Command::new(bitnet);
    command.args(["inspect", "--json"]).args(model);
    let finished = process::run(&mut command, "bitnet inspect")?;
    serde_json::from_slice(&finished.stdout).context("bitnet inspect --json printed no JSON")
}

/// What a run said of itself, and the most memory it was seen with.
struct Run {
    report: Value,
    peak: Option<u64>,
}

fn run(bitnet: &Path, model: Option<&Path>) -> Result<Run> {
    let mut command = Command::new(bitnet);
    command.args([
        "run",
        PROMPT,
        "--json",
        "--stats",
        "--temp",
        "0",
        "--ignore-end",
    ]);
    command.args(["-n", TOKENS]);
    if let Some(model) = model {
        command.arg("-m").arg(model);
    }
    let finished = process::run(&mut command, "bitnet run")?;
    let report =
        serde_json::from_slice(&finished.stdout).context("bitnet run --json printed no JSON")?;
    Ok(Run {
        report,
        peak: finished.peak,
    })
}

/// "Share" may mean bytes, which is what a copy costs, or operations: each is a row.
fn zero_copy(validation: &mut Report, name: &str, report: &Value) {
    for (unit, key) in [
        ("bytes", "share_of_bytes"),
        ("operations", "share_of_operations"),
    ] {
        let what = format!("zero-copy share of {unit}, load + generate, {name}");
        match report["memory"]["zero_copy"][key].as_f64() {
            Some(share) => validation.target(
                what,
                "≥ 80 %",
                format!("{:.1} %", 100.0 * share),
                Verdict::of(share >= 0.8),
                "",
            ),
            None => {
                let note = format!("bitnet run --stats reports no {key}");
                validation.target(what, "≥ 80 %", "", Verdict::Unmeasured, note);
            }
        }
    }
}

fn resident(
    validation: &mut Report,
    chart: &mut Chart,
    name: &str,
    shape: &Value,
    run: &Run,
) -> Result<()> {
    let number = |value: &Value, what: &str| {
        value
            .as_u64()
            .with_context(|| format!("bitnet reports no {what} of the {name}"))
    };
    let weights = number(&shape["memory"]["weights_bytes"], "weights_bytes")?;
    let per_token = number(&shape["memory"]["kv_bytes_per_token"], "kv_bytes_per_token")?;
    let hidden = number(&shape["architecture"]["hidden"], "hidden width")?;
    let feed_forward = number(&shape["architecture"]["feed_forward"], "feed_forward width")?;
    let vocabulary = number(&shape["tokenizer"]["tokens"], "vocabulary")?;
    let prompt = number(&run.report["prompt_tokens"], "prompt_tokens")?;
    let generated = number(&run.report["generated_tokens"], "generated_tokens")?;
    let cache = per_token * (prompt + generated);
    // The widest point of the prompt's forward pass: the residual, gate and up of every token; and the logits of one.
    let activations = 4 * (prompt * (hidden + 2 * feed_forward) + vocabulary);
    let least = weights + cache + activations;

    // The program itself is more than the demo model.
    let judged = name == LARGE;
    let what = format!("peak resident memory of bitnet run, {name}");
    let target = if judged {
        "≤ 1.10"
    } else {
        "(a small model: for information)"
    };
    let Some(peak) = run.peak else {
        let note = "only Linux tells the peak of another process";
        validation.target(what, target, "", Verdict::Unmeasured, note);
        return Ok(());
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (part, bytes) in [
        ("weights", weights),
        ("keys and values", cache),
        ("activations", activations),
        ("peak measured", peak),
    ] {
        chart.bar(name, part, mib(bytes));
    }
    let ratio = peak as f64 / least as f64;
    let measured = format!(
        "{ratio:.3} ({:.1} MiB of at least {:.1} MiB)",
        mib(peak),
        mib(least)
    );
    if judged {
        let note = format!(
            "{:.1} MiB are not in the sum: the program, its tokenizer, what the pool keeps ready",
            mib(peak.saturating_sub(least))
        );
        validation.target(what, target, measured, Verdict::of(ratio <= 1.10), note);
    } else {
        validation.note(format!(
            "{what}: {measured}; of a model this small, most is the program."
        ));
    }
    Ok(())
}
