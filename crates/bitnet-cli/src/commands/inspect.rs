//! `bitnet inspect`: what is in a model file and what it needs to run.
//!
//! It reads files that cannot be run too, and says why not.

mod tensors;

use super::print_json;
use crate::open::open_file;
use crate::{printable, units};
use anstyle::Style;
use bitnet::chat::{ChatTemplate, ChatTemplates};
use bitnet::file::{Gguf, ModelFile, SafeTensorsModel};
use bitnet::{Architecture, KvType, WindowRotation};
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use tensors::{Census, TypeCount};

/// Arguments of `bitnet inspect`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet inspect model.gguf
  bitnet inspect hf:microsoft/bitnet-b1.58-2B-4T        a folder of safetensors
  bitnet inspect 2b4t --json | jq .memory")]
pub(crate) struct Arguments {
    /// A path, an address, hf:owner/repo[/file] or a short name; without it, the built-in demo model
    model: Option<OsString>,

    /// The same as MODEL, as the other commands have it
    #[arg(
        short = 'm',
        long = "model",
        value_name = "MODEL",
        conflicts_with = "model"
    )]
    named: Option<OsString>,

    /// Print JSON, with the chat template in full
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    container: String,
    architecture: Option<Shape>,
    /// Why the file cannot be run, as far as its description says.
    obstacle: Option<String>,
    tokenizer: Option<Vocabulary>,
    chat_template: Option<String>,
    /// The names of all templates.
    chat_templates: Vec<String>,
    /// Why the default one cannot be used.
    chat_template_error: Option<String>,
    tensors: usize,
    /// Tensors of drafts of next tokens and of a part that sees, which are not run.
    #[serde(skip_serializing_if = "is_zero")]
    left_out_tensors: usize,
    parameters: u64,
    bytes: u64,
    bits_per_weight: f64,
    types: Vec<TypeCount>,
    ternary: Option<Ternary>,
    memory: Option<Memory>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Shape {
    name: String,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
    rope_base: f32,
    rope_scaling: String,
    activation: String,
    /// D for each gated delta net, W for each attention in a window and A for each other attention, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    mixers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta_nets: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<String>,
}

#[derive(Serialize)]
struct Vocabulary {
    kind: String,
    pre: Option<String>,
    tokens: Option<usize>,
}

#[derive(Serialize)]
struct Ternary {
    weights: u64,
    bytes: u64,
    bits_per_weight: f64,
    /// Weights that were counted: those of types this runtime decodes.
    counted: u64,
    zeros: u64,
    zero_share: Option<f64>,
}

#[derive(Serialize)]
struct Memory {
    weights_bytes: u64,
    /// In all layers. Those with a window keep a part of the context.
    kv_bytes_per_token: u64,
    context: usize,
    kv_bytes: u64,
    /// States of delta nets at the few positions at which they are kept. They do not grow with the context.
    state_bytes: u64,
    total_bytes: u64,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let file = open_file(self.model.or(self.named).as_deref())?;
        let report = Report::new(&file);
        if self.json {
            print_json(&report)
        } else {
            print(&report)
        }
    }
}

/// The object that `--json` prints.
///
/// # Errors
/// If the file cannot be found, downloaded or read.
pub(crate) fn report(model: Option<&OsStr>) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::to_value(Report::new(&open_file(model)?))?)
}

impl Report {
    fn new(file: &ModelFile) -> Self {
        let architecture = match file {
            ModelFile::Gguf(file) => Architecture::from_gguf(file),
            ModelFile::SafeTensors(file) => Architecture::from_config(file),
        };
        let (architecture, obstacle) = match architecture {
            Ok(architecture) => (Some(architecture), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let hybrid = architecture
            .as_ref()
            .and_then(|architecture| architecture.hybrid.as_ref());
        let (container, tokenizer, census) = match file {
            ModelFile::Gguf(file) => (
                format!("GGUF version {}", file.version()),
                gguf_vocabulary(file),
                Census::of_gguf(file, hybrid),
            ),
            ModelFile::SafeTensors(file) => (
                "safetensors".to_owned(),
                checkpoint_vocabulary(file),
                Census::of_checkpoint(file, hybrid),
            ),
        };
        let memory = architecture
            .as_ref()
            .and_then(|architecture| Memory::of(architecture, census.resident_bytes));
        let templates = ChatTemplates::listed_in(file);
        let default_template = templates.default_template();
        let bits = |bytes: u64, elements: u64| bytes as f64 * 8.0 / elements.max(1) as f64;
        Self {
            file: file.name().to_owned(),
            container,
            architecture: architecture.map(|architecture| Shape::new(architecture, file)),
            obstacle,
            tokenizer,
            chat_template: default_template
                .and_then(ChatTemplate::source)
                .map(str::to_owned),
            chat_templates: templates.names().map(str::to_owned).collect(),
            chat_template_error: default_template
                .and_then(|template| template.compile().err())
                .map(|error| error.to_string()),
            tensors: census.types.iter().map(|kind| kind.tensors).sum(),
            left_out_tensors: census.left_out,
            parameters: census.parameters,
            bytes: census.bytes,
            bits_per_weight: bits(census.bytes, census.parameters),
            ternary: (census.ternary > 0).then(|| Ternary {
                weights: census.ternary,
                bytes: census.ternary_bytes,
                bits_per_weight: bits(census.ternary_bytes, census.ternary),
                counted: census.counted,
                zeros: census.zeros,
                zero_share: (census.counted > 0)
                    .then(|| census.zeros as f64 / census.counted as f64),
            }),
            types: census.types,
            memory,
            warnings: census.warnings,
        }
    }
}

impl Memory {
    /// Memory of a model with as many bytes of weights, and of one session; `None` if its heads are misshapen.
    fn of(architecture: &Architecture, weights_bytes: u64) -> Option<Self> {
        // The type that processors use unless they are told otherwise.
        let kv = KvType::F16;
        let context = architecture.default_context();
        let bytes = |positions| {
            let bytes = architecture.state_bytes(positions, kv);
            bytes.ok().map(|bytes| bytes as u64)
        };
        let (all, state_bytes) = (bytes(context)?, bytes(0)?);
        Some(Self {
            weights_bytes,
            kv_bytes_per_token: architecture.kv_bytes_per_position(kv),
            context,
            kv_bytes: all - state_bytes,
            state_bytes,
            total_bytes: weights_bytes.saturating_add(all),
        })
    }
}

impl Shape {
    fn new(architecture: Architecture, file: &ModelFile) -> Self {
        let mut rope_scaling = architecture.rope_scaling.to_string();
        if let ModelFile::Gguf(file) = file
            && file.tensor("rope_freqs.weight").is_some()
        {
            let divided = "frequencies divided by rope_freqs.weight";
            rope_scaling = match rope_scaling.as_str() {
                "none" => divided.to_owned(),
                scaling => format!("{scaling}, {divided}"),
            };
        }
        let draw = |layer| match architecture.window_of(layer) {
            Some(_) => 'W',
            None if architecture.is_recurrent(layer) => 'D',
            None => 'A',
        };
        let has_kinds = architecture.hybrid.is_some() || architecture.windows.is_some();
        let mixers = has_kinds.then(|| (0..architecture.layers).map(draw).collect());
        let delta_nets = architecture.hybrid.as_ref().map(|hybrid| {
            let heads = hybrid.delta;
            format!(
                "{} value heads of {}, {} key heads of {}, convolution over {} positions",
                heads.value, heads.value_dim, heads.key, heads.key_dim, heads.taps
            )
        });
        let experts = architecture.mixture.as_ref().map(|mixture| {
            format!(
                "{} of width {} in each layer, of which a token meets {} ({} parameters rest), {}",
                mixture.experts,
                mixture.width,
                mixture.used,
                units::count(architecture.idle_parameters()),
                clamps(&mixture.limits),
            )
        });
        let windows = architecture.windows.as_ref().map(|windows| {
            let sliding = windows.slides.iter().filter(|slides| **slides);
            let (rotation, others) = match windows.rotation {
                WindowRotation::WindowsAlone => (
                    format!("rotating {} columns of a head", architecture.rope.dims),
                    ", without rotation",
                ),
                WindowRotation::OwnBase(base) => (format!("rotary base {base}"), ""),
            };
            format!(
                "{} layers attend to {} positions, {rotation}; the others to all{others}",
                sliding.count(),
                windows.positions,
            )
        });
        Self {
            experts,
            windows,
            name: architecture.name,
            layers: architecture.layers,
            hidden: architecture.hidden,
            feed_forward: architecture.feed_forward,
            heads: architecture.heads.query,
            kv_heads: architecture.heads.kv,
            head_dim: architecture.heads.dim,
            context: architecture.context,
            rope_base: architecture.rope.base,
            rope_scaling,
            activation: format!("{:?}", architecture.gate).to_lowercase(),
            mixers,
            delta_nets,
        }
    }
}

/// The clamps of a mixture's layers in words.
fn clamps(limits: &[Option<f32>]) -> String {
    match limits {
        [first, others @ ..] if others.iter().all(|other| other == first) => match first {
            Some(limit) => format!("clamped at {limit}"),
            None => "not clamped".to_owned(),
        },
        _ => "clamped layer by layer".to_owned(),
    }
}

fn gguf_vocabulary(file: &Gguf) -> Option<Vocabulary> {
    let kind = file.string("tokenizer.ggml.model").ok()??;
    Some(Vocabulary {
        kind: kind.to_owned(),
        pre: file.string("tokenizer.ggml.pre").ok()?.map(str::to_owned),
        tokens: file
            .strings("tokenizer.ggml.tokens")
            .ok()?
            .map(|tokens| tokens.len()),
    })
}

fn checkpoint_vocabulary(file: &SafeTensorsModel) -> Option<Vocabulary> {
    let text = file.sibling("tokenizer.json").ok()??;
    let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(Vocabulary {
        kind: json["model"]["type"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned(),
        pre: None,
        tokens: token_count(&json),
    })
}

/// How many tokens a tokenizer.json has: those of the model, by text or as a list, and the added ones that are not among them.
fn token_count(json: &serde_json::Value) -> Option<usize> {
    let vocabulary = &json["model"]["vocab"];
    let listed: HashSet<&str> = match vocabulary {
        serde_json::Value::Object(ids) => ids.keys().map(String::as_str).collect(),
        serde_json::Value::Array(pieces) => pieces
            .iter()
            .filter_map(|piece| piece[0].as_str())
            .collect(),
        _ => return None,
    };
    let added: HashSet<&str> = json["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|token| token["content"].as_str())
        .filter(|content| !listed.contains(content))
        .collect();
    Some(listed.len() + added.len())
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let bold = Style::new().bold();
    writeln!(out, "{bold}{}{bold:#}", printable::line(&report.file))?;
    // What stands in a file is its author's.
    let mut line = |name: &str, value: String| {
        let value = printable::line(&value);
        writeln!(out, "  {name:<15} {value}")
    };
    line("container", report.container.clone())?;
    if let Some(shape) = &report.architecture {
        line("architecture", shape.name.clone())?;
        line(
            "shape",
            format!(
                "{} layers, width {}, feed-forward {} ({})",
                shape.layers, shape.hidden, shape.feed_forward, shape.activation
            ),
        )?;
        line(
            "attention",
            format!(
                "{} heads of {}, {} for keys and values, context {}, rotary base {}",
                shape.heads, shape.head_dim, shape.kv_heads, shape.context, shape.rope_base
            ),
        )?;
        if let Some(experts) = &shape.experts {
            line("experts", experts.clone())?;
        }
        if let Some(windows) = &shape.windows {
            line("windows", windows.clone())?;
        }
        if let Some(nets) = &shape.delta_nets {
            line("delta nets", nets.clone())?;
        }
        if let Some(mixers) = &shape.mixers {
            let other = match shape.windows {
                Some(_) => "W: attention in a window",
                None => "D: gated delta net",
            };
            line("layers", format!("{mixers}  ({other}, A: attention)"))?;
        }
        if shape.rope_scaling != "none" {
            line("rotary scaling", shape.rope_scaling.clone())?;
        }
    }
    if let Some(obstacle) = &report.obstacle {
        line("cannot run", obstacle.clone())?;
    }
    if let Some(vocabulary) = &report.tokenizer {
        let pre = vocabulary.pre.as_ref().map(|pre| format!(" ({pre})"));
        let tokens = vocabulary.tokens.map(|tokens| format!(", {tokens} tokens"));
        line(
            "tokenizer",
            format!(
                "{}{}{}",
                vocabulary.kind,
                pre.unwrap_or_default(),
                tokens.unwrap_or_default()
            ),
        )?;
    }
    line(
        "chat template",
        match (&report.chat_template_error, &report.chat_template) {
            (Some(error), _) => format!("cannot be used: {error}"),
            (None, Some(template)) => {
                let count = template.chars().count();
                match report.chat_templates.as_slice() {
                    [] | [_] => format!("{count} characters"),
                    names => format!("{count} characters; by name: {}", names.join(", ")),
                }
            }
            (None, None) => "none".to_owned(),
        },
    )?;
    line(
        "parameters",
        format!(
            "{} in {} tensors, {}, {:.3} bits each",
            units::count(report.parameters),
            report.tensors,
            units::bytes(report.bytes),
            report.bits_per_weight
        ),
    )?;
    if report.left_out_tensors > 0 {
        line(
            "left out",
            format!(
                "{} tensors of drafts of next tokens, or of a part that sees",
                report.left_out_tensors
            ),
        )?;
    }
    if let Some(ternary) = &report.ternary {
        let zeros = ternary
            .zero_share
            .map(|share| format!(", {:.1} % of them zero", share * 100.0));
        line(
            "ternary",
            format!(
                "{}, {}, {:.3} bits each{}",
                units::count(ternary.weights),
                units::bytes(ternary.bytes),
                ternary.bits_per_weight,
                zeros.unwrap_or_default()
            ),
        )?;
    }
    if let Some(memory) = &report.memory {
        line(
            "memory",
            format!(
                "{} = {} of weights + {} of f16 keys and values for {} tokens{}",
                units::bytes(memory.total_bytes),
                units::bytes(memory.weights_bytes),
                units::bytes(memory.kv_bytes),
                memory.context,
                match memory.state_bytes {
                    0 => String::new(),
                    bytes => format!(" + {} of states", units::bytes(bytes)),
                }
            ),
        )?;
    }
    for warning in &report.warnings {
        line("warning", warning.clone())?;
    }
    writeln!(
        out,
        "\n  {:<10} {:>8} {:>14} {:>10}",
        "type", "tensors", "parameters", "size"
    )?;
    for kind in &report.types {
        writeln!(
            out,
            "  {:<10} {:>8} {:>14} {:>10}",
            printable::line(&kind.name),
            kind.tensors,
            units::count(kind.parameters),
            units::bytes(kind.bytes)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn added_tokens_count_once() {
        let added = json!([{"id": 1, "content": "b"}, {"id": 2, "content": "<|eot_id|>"}]);
        let of = |vocab: serde_json::Value| {
            token_count(&json!({"model": {"vocab": vocab}, "added_tokens": added}))
        };
        assert_eq!(of(json!({"a": 0, "b": 1})), Some(3));
        assert_eq!(of(json!([["a", -1.0], ["b", -2.0], ["c", -3.0]])), Some(4));
        assert_eq!(of(json!(null)), None);
        assert_eq!(token_count(&json!({"model": {"vocab": {"a": 0}}})), Some(1));
    }
}
