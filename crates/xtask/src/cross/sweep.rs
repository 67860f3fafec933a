//! Models, the plans that are run on them, and what came of it.

use super::table::Row;
use crate::program::finish;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Ternary types × embedding types × architectures of the synthetic files: each type once or more.
const SYNTHETIC: [(&str, &str, &str); 6] = [
    ("i2_s", "f16", "bitnet-b1.58"),
    ("tq1_0", "q8_0", "llama"),
    ("tq2_0", "q6_k", "qwen3"),
    ("q2_0", "f16", "bitnet"),
    ("pq2_0", "q8_0", "qwen3"),
    ("ptq1_0", "q8_0", "llama"),
];

/// The built-in model's name, here and for `bitnet-digest`.
const DEMO: &str = "demo";

/// Tokens enough for a batch of 64 and a rest.
const SHORT: usize = 67;
/// Tokens enough for a batch of 512.
const LONG: usize = 512;

/// The type of keys and values that every model is run with. One model is run with all types.
const DEFAULT_KV: &str = "f16";

/// Types of keys and values.
const KV: [&str; 3] = ["f16", "f32", "int8"];

/// One call of `bitnet-digest`.
struct Plan {
    tokens: usize,
    threads: &'static str,
    batches: &'static str,
    kv: &'static str,
    /// Whether on every model, or on the first synthetic one alone.
    all_models: bool,
}

/// How much is run: emulated CPUs are slow, and WebAssembly has one thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Full,
    SingleThread,
    Emulated,
}

impl Work {
    const fn plans(self) -> &'static [Plan] {
        const fn plan(tokens: usize, threads: &'static str, batches: &'static str) -> Plan {
            Plan {
                tokens,
                threads,
                batches,
                kv: DEFAULT_KV,
                all_models: true,
            }
        }
        const fn one_model(tokens: usize, threads: &'static str, batches: &'static str) -> Plan {
            Plan {
                tokens,
                threads,
                batches,
                kv: "f16,f32,int8",
                all_models: false,
            }
        }
        match self {
            Self::Full => {
                &const {
                    [
                        plan(SHORT, "1,2,3,7", "1,3,64"),
                        plan(LONG, "1,2,3,7", "512"),
                        one_model(SHORT, "1,2,3,7", "1,3,64"),
                        one_model(LONG, "1,2,3,7", "512"),
                    ]
                }
            }
            Self::SingleThread => {
                &const { [plan(SHORT, "1", "1,3,64"), one_model(LONG, "1", "512")] }
            }
            Self::Emulated => {
                &const {
                    [
                        plan(SHORT, "1", "64"),
                        one_model(SHORT, "1,2,3,7", "1,3,64"),
                        one_model(LONG, "1,2,3,7", "512"),
                    ]
                }
            }
        }
    }
}

/// Where `bitnet-digest` runs.
pub(super) struct Sweep {
    /// What the table calls it.
    pub(super) target: String,
    /// The program and its first arguments.
    pub(super) command: Vec<OsString>,
    pub(super) work: Work,
}

/// The models and what the command says of them.
pub(super) struct Models {
    command: PathBuf,
    /// Files, or [`DEMO`]; a synthetic one first.
    names: Vec<String>,
    /// By model, number of tokens and type of keys and values.
    reference: BTreeMap<(String, usize, &'static str), String>,
}

impl Models {
    /// Writes the synthetic files into `folder` and computes the reference on the scalar kernels.
    pub(super) fn make(command: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let mut names = Vec::new();
        for (ternary, embedding, arch) in SYNTHETIC {
            let path = folder.join(format!("{ternary}.gguf"));
            let mut synth = Command::new(command);
            synth
                .args([
                    "synth",
                    "--type",
                    ternary,
                    "--embedding",
                    embedding,
                    "--arch",
                    arch,
                ])
                .arg(&path);
            finish(&mut synth, "bitnet synth")?;
            names.push(path.display().to_string());
        }
        names.push(DEMO.to_owned());
        let mut models = Self {
            command: command.to_owned(),
            names,
            reference: BTreeMap::new(),
        };
        for (index, name) in models.names.clone().into_iter().enumerate() {
            for tokens in [SHORT, LONG] {
                for kv in KV {
                    if index == 0 || kv == DEFAULT_KV {
                        let digest = models.logits(&name, (tokens, kv), "scalar", LONG)?;
                        models.reference.insert((name.clone(), tokens, kv), digest);
                    }
                }
            }
        }
        Ok(models)
    }

    /// What `bitnet logits --digest` says on one kernel set.
    fn logits(
        &self,
        model: &str,
        (tokens, kv): (usize, &str),
        isa: &str,
        batch: usize,
    ) -> Result<String> {
        let mut logits = Command::new(&self.command);
        logits
            .args([
                "logits",
                "--digest",
                "--tokens",
                &ids(tokens),
                "--batch",
                &batch.to_string(),
                "--kv",
                kv,
            ])
            .env("BITNET_ISA", isa);
        if model != DEMO {
            logits.args(["--model", model]);
        }
        Ok(output(&mut logits)?.trim().to_owned())
    }
}

/// Runs every sweep, as many at a time as there are cores, then the command on each kernel set of this machine.
pub(super) fn run(models: &Models, sweeps: &[Sweep]) -> Result<Vec<Row>> {
    let calls: Vec<(usize, &Plan)> = sweeps
        .iter()
        .enumerate()
        .flat_map(|(index, sweep)| sweep.work.plans().iter().map(move |plan| (index, plan)))
        .collect();
    // The slowest come last in the list and are begun first.
    let waiting = Mutex::new(calls);
    let rows = Mutex::new(BTreeMap::<(usize, String), Row>::new());
    let work = || -> Result<()> {
        loop {
            let next = waiting.lock().map_err(poisoned)?.pop();
            let Some((index, plan)) = next else {
                return Ok(());
            };
            let sweep = &sweeps[index];
            let said = output(&mut call(sweep, plan, models))?;
            let mut rows = rows.lock().map_err(poisoned)?;
            for line in said.lines() {
                let [model, isa, threads, batch, kv, digest] = fields(line)?;
                let row = rows
                    .entry((index, isa.to_owned()))
                    .or_insert_with(|| Row::new(&sweep.target, isa));
                let mut expected = models.reference.iter();
                let expected = expected.find(|((name, tokens, known), _)| {
                    name == model && *tokens == plan.tokens && *known == kv
                });
                let model = Path::new(model)
                    .file_stem()
                    .map_or_else(|| model.into(), |stem| stem.to_string_lossy());
                row.add(
                    &model,
                    (threads, batch, kv),
                    expected.is_some_and(|(_, expected)| expected == digest),
                );
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a sweep panicked")))
    })?;

    let mut rows: Vec<Row> = rows.into_inner().map_err(poisoned)?.into_values().collect();
    let own: Vec<String> = rows
        .iter()
        .filter(|row| {
            sweeps
                .first()
                .is_some_and(|sweep| row.target == sweep.target)
        })
        .map(|row| row.isa.clone())
        .collect();
    for isa in own {
        let mut row = Row::new("bitnet logits", &isa);
        for model in &models.names {
            let digest = models.logits(model, (SHORT, DEFAULT_KV), &isa, 64)?;
            let name = Path::new(model)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy();
            let equal = models.reference.get(&(model.clone(), SHORT, DEFAULT_KV)) == Some(&digest);
            row.add(&name, ("all", "64", DEFAULT_KV), equal);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn call(sweep: &Sweep, plan: &Plan, models: &Models) -> Command {
    let mut words = sweep.command.iter();
    let mut command = Command::new(words.next().map_or_else(OsString::new, Clone::clone));
    command.args(words);
    command.args([&ids(plan.tokens), plan.threads, plan.batches, plan.kv]);
    let count = if plan.all_models {
        models.names.len()
    } else {
        1
    };
    command.args(models.names.iter().take(count));
    command
}

/// Token ids that every model has, without a pattern that repeats.
fn ids(count: usize) -> String {
    let ids: Vec<String> = (0..count)
        .map(|i| ((i * i * 7 + i * 31 + 11) % 251).to_string())
        .collect();
    ids.join(",")
}

fn fields(line: &str) -> Result<[&str; 6]> {
    let words: Vec<&str> = line.split(' ').collect();
    // A path may have spaces; the other fields have none.
    match words.as_slice() {
        [.., isa, threads, batch, kv, digest] if words.len() >= 6 => {
            let rest: usize = [isa, threads, batch, kv, digest]
                .iter()
                .map(|word| word.len() + 1)
                .sum();
            Ok([&line[..line.len() - rest], isa, threads, batch, kv, digest])
        }
        _ => bail!(
            "bitnet-digest printed {line:?}, where model, kernel set, threads, batch, type of keys and values and digest were expected"
        ),
    }
}

/// What `command` prints; what it says on stderr is shown.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({})", output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{name} printed something else than text"))
}

fn poisoned<T>(_: std::sync::PoisonError<T>) -> anyhow::Error {
    anyhow::anyhow!("a sweep panicked")
}
