//! `cargo xtask bench-against PROGRAM`: this tree's `bitnet` command beside an earlier build of it, on the same synthetic
//! models, in turns. Refuses programs whose logits differ, and prints the ratio of their medians: above 1 this tree is faster.

use crate::program::{build, file_name, target_folder};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Models: shape, ternary type, embedding type, architecture.
const MODELS: [[&str; 4]; 3] = [
    ["700m", "i2_s", "f16", "bitnet-b1.58"],
    ["700m", "tq2_0", "q6_k", "qwen3"],
    ["125m", "tq1_0", "q8_0", "llama"],
];

/// Arguments of the measurement.
#[derive(Args)]
pub(crate) struct Measurement {
    /// The earlier build of the `bitnet` command
    program: PathBuf,

    /// Turns of both programs on every model
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Tokens of the prefill test
    #[arg(long, default_value_t = 256)]
    prompt: usize,

    /// Tokens of the decode test
    #[arg(long, default_value_t = 48)]
    tokens: usize,

    /// Handed on to `bitnet bench`, for example `--device wgpu`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Measures both programs and prints a table.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let own = target_folder()?.join("release").join(file_name("bitnet"));
    let programs = [measurement.program.as_path(), own.as_path()];
    println!(
        "{:40} {:>10} {:>10} {:>8}",
        "test, tokens/s", "earlier", "this", "ratio"
    );
    for [shape, ternary, embedding, arch] in MODELS {
        let name = format!("{shape}-{ternary}-{embedding}-{arch}.gguf");
        let file = target_folder()?.join(&name);
        if !file.exists() {
            let mut synth = Command::new(&own);
            synth.arg("synth").arg(&file);
            synth.args(["--shape", shape, "--type", ternary]);
            synth.args(["--embedding", embedding, "--arch", arch]);
            printed(&mut synth)?;
        }
        compare_digests(programs, &file)?;
        let mut rates: BTreeMap<(String, u64), [Vec<f64>; 2]> = BTreeMap::new();
        for round in 0..measurement.rounds {
            for turn in 0..2 {
                // The first of a pair may find a colder machine: each is first in turn.
                let which = (turn + round) % 2;
                for (test, rate) in bench(programs[which], &file, measurement)? {
                    rates.entry(test).or_default()[which].push(rate);
                }
            }
        }
        for ((test, threads), rates) in rates {
            let [earlier, this] = rates.map(median);
            let test = format!("{shape} {ternary} {embedding} {test}, {threads}t");
            let ratio = this / earlier;
            println!("{test:40} {earlier:10.2} {this:10.2} {ratio:8.3}");
        }
    }
    Ok(())
}

/// Refuses programs whose logits differ.
fn compare_digests(programs: [&Path; 2], file: &Path) -> Result<()> {
    let digest = |program: &Path| {
        let mut logits = Command::new(program);
        logits.args(["logits", "--digest", "--tokens", "1,5,9,400,17,3", "-m"]);
        printed(logits.arg(file))
    };
    let [earlier, this] = [digest(programs[0])?, digest(programs[1])?];
    ensure!(
        earlier == this,
        "{}: the earlier program's logits have the digest {earlier}, this tree's {this}",
        file.display()
    );
    Ok(())
}

/// Tokens per second of each test and number of threads.
fn bench(
    program: &Path,
    file: &Path,
    measurement: &Measurement,
) -> Result<Vec<((String, u64), f64)>> {
    let mut command = Command::new(program);
    command.args(["bench", "--json", "-r", "1", "-m"]).arg(file);
    command.arg("-p").arg(measurement.prompt.to_string());
    command.arg("-n").arg(measurement.tokens.to_string());
    if measurement.more.is_empty() {
        command.args(["-t", "1,2"]);
    }
    let report = printed(command.args(&measurement.more))?;
    let report: Value = serde_json::from_str(&report).context("bitnet bench printed no JSON")?;
    let results = report["results"].as_array().context("no results")?;
    let of = |result: &Value| {
        let test = result["test"].as_str()?.to_owned();
        let threads = result["threads"].as_u64().unwrap_or(0);
        Some(((test, threads), result["tokens_per_second"].as_f64()?))
    };
    Ok(results.iter().filter_map(of).collect())
}

fn printed(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
