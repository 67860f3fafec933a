//! Targets of a whole run: how much data was used where it lay, and how much memory was resident.
//!
//! `bitnet run` is started as a process of its own, as a user would, and watched.

use crate::target::{Chart, Validation, Verdict};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What the model is given, and how much it writes.
const PROMPT: &str = "Once upon a time there was a machine that";
const TOKENS: &str = "24";
/// The two models.
const DEMO: &str = "demo model";
const LARGE: &str = "2b4t-shaped file";
/// Between two looks at the memory of a running process.
const LOOK: Duration = Duration::from_millis(2);

/// Runs the demo model and one in the shape of a real one. What fails is a row that says so: the other rows stand.
pub(crate) fn models(validation: &mut Validation, bitnet: &Path, work: &Path) {
    let mut chart = Chart::new("memory", "Peak resident memory of bitnet run", "MiB");
    let large = synthesize(bitnet, work);
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
    validation: &mut Validation,
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

/// A file with the shapes of microsoft/bitnet-b1.58-2B-4T, written once.
fn synthesize(bitnet: &Path, work: &Path) -> Result<std::path::PathBuf> {
    if !bitnet.is_file() {
        bail!(
            "no bitnet command at {}: build it, or name it with --bitnet",
            bitnet.display()
        );
    }
    let path = work.join("2b4t-i2_s.gguf");
    if path.is_file() {
        return Ok(path);
    }
    std::fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let unfinished = work.join("2b4t-i2_s.gguf.part");
    eprintln!("validate: writing {}", path.display());
    let mut command = Command::new(bitnet);
    command.args(["synth", "--shape", "2b4t", "--type", "i2_s", "--seed", "1"]);
    let status = command
        .arg(&unfinished)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", bitnet.display()))?;
    if !status.success() {
        bail!("bitnet synth failed ({status})");
    }
    std::fs::rename(&unfinished, &path)
        .with_context(|| format!("cannot rename {}", unfinished.display()))?;
    Ok(path)
}

fn inspect(bitnet: &Path, model: Option<&Path>) -> Result<Value> {
    let mut command = Command::new(bitnet);
    command.args(["inspect", "--json"]).args(model);
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", bitnet.display()))?;
    if !output.status.success() {
        bail!(
            "bitnet inspect failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("bitnet inspect --json printed no JSON")
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
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", bitnet.display()))?;
    let peak = watch(&mut child)?;
    // The report is smaller than a pipe holds, so the process never waited for this.
    let output = child
        .wait_with_output()
        .context("cannot wait for bitnet run")?;
    if !output.status.success() {
        bail!(
            "bitnet run failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let report =
        serde_json::from_slice(&output.stdout).context("bitnet run --json printed no JSON")?;
    Ok(Run { report, peak })
}

/// The high-water mark of a process's resident memory, looked at until it ends. `None` where the system has no
/// /proc.
fn watch(child: &mut Child) -> Result<Option<u64>> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    while child
        .try_wait()
        .context("cannot wait for bitnet run")?
        .is_none()
    {
        let seen = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        peak = peak.max(seen.map(|kilobytes| kilobytes * 1024));
        thread::sleep(LOOK);
    }
    Ok(peak)
}

/// "Share" may mean bytes, which is what a copy costs, or operations: each is a row.
fn zero_copy(validation: &mut Validation, name: &str, report: &Value) {
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
    validation: &mut Validation,
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
