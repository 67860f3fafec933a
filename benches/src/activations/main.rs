//! The cost of rounding activations, and whether a rotation makes it cheaper: `cargo xtask activations`.
//!
//! Each choice of [`Activations`] runs on held-out text beside f32 of the same weights. The demo model is judged as it is, and with
//! its matrices rotated and rounded to ternary groups of 128 again, as Bonsai 2 has them; a forward pass of its own
//! ([`exact`]) judges its weights rotated without that loss, and sees the rows that the matrices multiply.

mod exact;
mod outliers;
mod rotated;

use anyhow::{Context, Result};
use bitnet::file::{Bytes, Gguf};
use bitnet::{Activations, KvType, LogitsFor, Model, ModelOptions};
use bitnet_benchmarks::report::{Report, Table};
use clap::Parser;
use exact::{Exact, Treatment};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tokens that are read together, from the first position on.
const WINDOW: usize = 256;

/// Judge the rounding of activations and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// Fewer tokens: a look, not a result
    #[arg(long)]
    quick: bool,
}

/// The roundings, and what tables call them.
const ROUNDINGS: [(Activations, &str); 2] = [
    (Activations::Int8, "int8 per token"),
    (Activations::Int8Groups, "int8 per group of 128"),
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| {
        let path = root.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let demo = Bytes::from(read("crates/bitnet-demo/data/demo.gguf")?);
    let text = String::from_utf8(read("crates/bitnet-demo/data/heldout.txt")?)?;
    let tiny = Bytes::from(read("crates/bitnet/tests/bonsai2/tiny-bonsai2.gguf")?);
    let demo_file = Gguf::parse("demo", demo.clone())?;
    let rotated = rotated::file(&demo_file)?;

    let open = |name: &str, bytes: &Bytes, activations| {
        let options = ModelOptions {
            activations,
            kv: Some(KvType::F32),
            ..ModelOptions::default()
        };
        Model::from_bytes(name, bytes.clone(), &options)
    };
    let held_out = {
        let model = open("demo", &demo, Activations::F32)?;
        let options = bitnet::tokenizer::EncodeOptions {
            add_bos: false,
            parse_special: false,
        };
        model.tokenizer().encode(&text, options)?
    };
    let most = if arguments.quick { 512 } else { 4096 };
    let held_out = &held_out[..held_out.len().min(most)];
    // Its weights are random, and so is a walk over its vocabulary.
    let walk: Vec<u32> = (0..1024u32)
        .map(|i| (i * i * 7 + i * 31 + 5) % 250)
        .collect();

    let mut report = Report::new(
        "activations",
        "The rounding of activations",
        "cargo xtask activations".into(),
    );
    let mut table = Table::new(
        "Roundings beside f32 of the same weights",
        format!(
            "Mean Kullback-Leibler divergence of the next token in nats, how often the likeliest token is the same, and the perplexity \
             with the rounding and with f32. The demo model reads {} tokens of held-out text in windows of {WINDOW}, the random model \
             {} tokens.",
            held_out.len(),
            walk.len(),
        ),
        &[
            "model",
            "activations",
            "mean KL",
            "same top-1",
            "perplexity",
            "with f32",
        ],
    );
    let mut divergences = Vec::new();
    for (name, bytes, tokens) in [
        ("demo model", &demo, held_out),
        ("demo model, rotated, ternary again", &rotated, held_out),
        ("random Bonsai 2 (the golden file)", &tiny, &walk[..]),
    ] {
        eprintln!("activations: {name}");
        let exact = logits(&open(name, bytes, Activations::F32)?, tokens)?;
        for (activations, called) in ROUNDINGS {
            let found = logits(&open(name, bytes, activations)?, tokens)?;
            let agreement = Agreement::of(&exact, &found, tokens);
            divergences.push(agreement.kl);
            table.row(agreement.row(name, called));
        }
    }
    let model = Exact::new(&demo_file)?;
    let tokens = &held_out[..held_out
        .len()
        .min(if arguments.quick { WINDOW } else { 1024 })];
    let plain = model.logits(tokens, Treatment::default(), &mut |_, _| ());
    let runtime = logits(&open("demo", &demo, Activations::F32)?, tokens)?;
    let difference = Agreement::of(&runtime, &plain, tokens).kl;
    for rotates in [false, true] {
        eprintln!("activations: exact products, rotated: {rotates}");
        for (rounding, called) in ROUNDINGS {
            let treatment = Treatment { rotates, rounding };
            let found = model.logits(tokens, treatment, &mut |_, _| ());
            let agreement = Agreement::of(&plain, &found, tokens);
            let name = match rotates {
                true => "demo model, rotated, weights exact",
                false => "demo model, weights exact",
            };
            table.row(agreement.row(name, called));
        }
    }
    report.note(format!(
        "Weights exact: products of floats with the demo model's own weights in a forward pass of this program's own, over {} tokens; \
         rows are rotated, rounded and rotated back, which is to multiply the rotated weights without rounding these. Its divergence from the runtime with f32 is {difference:.1e}.",
        tokens.len()
    ));
    report.note(format!(
        "Rotations are Hadamard transforms of {} columns behind random signs. The rotated demo model was rounded to ternary again without \
         training; what that cost it is the difference of the perplexities with f32.",
        rotated::BLOCK
    ));
    report.note(format!(
        "int8 per token is the default, since it alone runs on integer kernels: its divergence on the demo model is {:.1e} nats, and on the \
         rotated one {:.1e}; per group of 128 it is {:.1e} and {:.1e}. `--activations int8-groups` multiplies floats and is there to judge by.",
        divergences[0], divergences[2], divergences[1], divergences[3],
    ));
    report.tables.push(table);
    report
        .tables
        .push(outliers::table(&model, &tokens[..tokens.len().min(512)]));
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!(
        "report: {}",
        arguments.report.join("activations.md").display()
    );
    Ok(())
}

/// Logits of every token, in windows.
fn logits(model: &Model, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut session = model.session()?;
    let mut rows = Vec::new();
    for window in tokens.chunks(WINDOW) {
        session.reset();
        let logits = session.forward(window, LogitsFor::All)?;
        rows.extend(logits.chunks_exact(model.vocabulary()).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// How two ways to compute the same model agree.
struct Agreement {
    kl: f64,
    same_top: f64,
    perplexity: f64,
    exact_perplexity: f64,
}

impl Agreement {
    fn of(exact: &[Vec<f32>], found: &[Vec<f32>], tokens: &[u32]) -> Self {
        let (mut kl, mut same, mut losses, mut scored) = (0.0, 0usize, [0.0; 2], 0usize);
        for (at, (exact, found)) in exact.iter().zip(found).enumerate() {
            let [p, q] = [exact, found].map(|logits| log_softmax(logits));
            kl += p
                .iter()
                .zip(&q)
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
            same += usize::from(top(exact) == top(found));
            let next = tokens.get(at + 1).filter(|_| (at + 1) % WINDOW > 0);
            if let Some(next) = next {
                losses[0] -= q[*next as usize];
                losses[1] -= p[*next as usize];
                scored += 1;
            }
        }
        let rows = exact.len().max(1) as f64;
        let [perplexity, exact_perplexity] = losses.map(|loss| (loss / scored.max(1) as f64).exp());
        Self {
            kl: kl / rows,
            same_top: same as f64 / rows,
            perplexity,
            exact_perplexity,
        }
    }

    fn row(&self, model: &str, activations: &str) -> [String; 6] {
        [
            model.into(),
            activations.into(),
            format!("{:.2e}", self.kl),
            format!("{:.2} %", 100.0 * self.same_top),
            format!("{:.4}", self.perplexity),
            format!("{:.4}", self.exact_perplexity),
        ]
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let shifted = logits.iter().map(|logit| f64::from(logit - most));
    let total: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|logit| logit - total.ln()).collect()
}

fn top(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}
