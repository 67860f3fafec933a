//! `bitnet convert`: safetensors and GGUF, and the ternary types among themselves.

use crate::interrupt::Interrupt;
use crate::open::{LayoutArgument, resolve};
#[cfg(feature = "plots")]
use crate::plot::{self, Line};
use crate::printable;
use crate::progress::Steps;
use bitnet::file::convert::{
    ConvertOptions, ConvertReport, ConvertType, Fit, FitRotation, ScaleRule, convert_with,
};
use bitnet::{Model, Perplexity};
use serde_json::{Value as Json, json};
#[cfg(feature = "plots")]
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

/// Tokens of a stretch of the text that is scored on its own, at most.
const WINDOW: usize = 512;

/// Arguments of `bitnet convert`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet convert hf:microsoft/bitnet-b1.58-2B-4T 2b4t.gguf --type i2_s   packed safetensors to GGUF
  bitnet convert model-i2_s.gguf model-tq2_0.gguf --type tq2_0           2.0625 bits, a scale for every 256 weights
  bitnet convert model.gguf folder --type safetensors                    for this program and for transformers 5
  bitnet convert floats small.gguf --type pq2_0 --quantize least-squares --errors errors.svg --text held-out.txt
                                                                         floats to ternary weights, and what that costs

Ternary codes are carried exactly and never quantized again; what is rounded is reported,
and what the output cannot hold is refused. --quantize makes floating-point weights ternary:
a model that was not trained for it does not survive that unharmed, which --text measures.")]
pub(crate) struct Arguments {
    /// The model: a path, an address, hf:owner/repo[/file] or a short name
    input: OsString,

    /// The file to write; for safetensors a folder, new or empty
    out: PathBuf,

    /// What to write: i2_s, tq1_0, tq2_0, q2_0, ptq1_0 or pq2_0 (GGUF), or safetensors
    #[arg(long = "type", value_name = "TYPE")]
    to: ConvertType,

    /// Byte order of I2_S tensors in the input: a is usual, b is written on ARM by some builds of bitnet.cpp
    #[arg(long, value_enum, default_value_t)]
    i2s_layout: LayoutArgument,

    /// Make floating-point projections ternary: by absmean or least-squares, for each block of the type, or the whole matrix for i2_s
    #[arg(long, value_name = "RULE")]
    quantize: Option<ScaleRule>,

    /// Rotate the columns first, in Hadamard blocks of COLUMNS (the largest that fits, unless given) with random signs (qwen3)
    #[arg(long, value_name = "COLUMNS", requires = "quantize", num_args = 0..=1, default_missing_value = "0")]
    rotate: Option<usize>,

    /// Chooses the signs of the rotation
    #[arg(long, value_name = "N", requires = "rotate", default_value_t = 0)]
    seed: u64,

    /// Write how far each rounded matrix is from before: a picture (.svg) or numbers (.json)
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,

    /// Measure the perplexity of this text before and after
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let format = self.errors.as_deref().map(ErrorFormat::of).transpose()?;
        let text = match &self.text {
            Some(path) => {
                Some(fs::read_to_string(path).map_err(|error| bitnet::Error::io(path, error))?)
            }
            None => None,
        };
        let input = resolve(&self.input)?;
        let interrupt = Interrupt::watch()?;
        let rotation = self.rotate.map(|block| FitRotation {
            block,
            seed: self.seed,
        });
        let options = ConvertOptions {
            i2s_layout: self.i2s_layout.into(),
            fit: self.quantize.map(|scales| Fit { scales, rotation }),
            cancel: interrupt.cancel(),
        };
        let report = {
            let mut steps = Steps::new("converting");
            let mut progress = |done, all| steps.set(done, all);
            convert_with(&input, &self.out, self.to, &options, &mut progress)?
        };
        let said = format!("{}: {report}", self.out.display());
        writeln!(stdout(), "{}", printable::text(&said))?;
        let scores = match &text {
            Some(text) => {
                let scores = [score(&input, text)?, score(&self.out, text)?];
                for (score, when) in scores.iter().zip(["before", "after"]) {
                    let Perplexity { value, error, .. } = score;
                    writeln!(stdout(), "perplexity {when}: {value:.4} ± {error:.4}")?;
                }
                Some(scores)
            }
            None => None,
        };
        match (format, &self.errors) {
            (Some(format), Some(path)) => {
                let content = format.content(&report, scores.as_ref())?;
                fs::write(path, content).map_err(|error| bitnet::Error::io(path, error).into())
            }
            _ => Ok(()),
        }
    }
}

/// How well a model predicts a text.
fn score(model: &Path, text: &str) -> anyhow::Result<Perplexity> {
    let model = Model::open(model)?;
    let window = model.context().min(WINDOW);
    let mut steps = Steps::new("scoring");
    Ok(bitnet::perplexity(&model, text, window, |done, all, _| {
        steps.set(done as u64, all as u64);
    })?)
}

/// The form in which errors are written.
#[derive(Clone, Copy)]
enum ErrorFormat {
    #[cfg(feature = "plots")]
    Svg,
    Json,
}

impl ErrorFormat {
    /// By the end of a file's name.
    fn of(path: &Path) -> anyhow::Result<Self> {
        let end = path.extension().and_then(|end| end.to_str());
        match end {
            #[cfg(feature = "plots")]
            Some("svg") => Ok(Self::Svg),
            #[cfg(not(feature = "plots"))]
            Some("svg") => anyhow::bail!(
                "--errors {}: this program was built without pictures (feature plots): expected a name that ends in .json",
                path.display()
            ),
            Some("json") => Ok(Self::Json),
            _ => anyhow::bail!(
                "--errors {}: expected a name that ends in .svg or .json",
                path.display()
            ),
        }
    }

    fn content(
        self,
        report: &ConvertReport,
        scores: Option<&[Perplexity; 2]>,
    ) -> anyhow::Result<String> {
        match self {
            #[cfg(feature = "plots")]
            Self::Svg => picture(report, scores),
            Self::Json => Ok(format!("{:#}\n", numbers(report, scores))),
        }
    }
}

/// The errors of matrices, as JSON.
fn numbers(report: &ConvertReport, scores: Option<&[Perplexity; 2]>) -> Json {
    let matrix = |error: &bitnet::file::convert::MatrixError| {
        json!({
            "name": error.name,
            "rows": error.rows,
            "cols": error.cols,
            "sqnr_db": error.metrics.sqnr_db,
            "cosine": error.metrics.cosine,
            "mse": error.metrics.mse,
            "max_error": error.metrics.max_error,
        })
    };
    let mut all = json!({ "matrices": report.errors.iter().map(matrix).collect::<Vec<_>>() });
    if let Some([before, after]) = scores {
        let score = |score: &Perplexity| json!({ "value": score.value, "error": score.error, "tokens": score.tokens });
        all["perplexity"] = json!({ "before": score(before), "after": score(after) });
    }
    all
}

/// Signal over noise by layer, a line for each kind of matrix.
#[cfg(feature = "plots")]
fn picture(report: &ConvertReport, scores: Option<&[Perplexity; 2]>) -> anyhow::Result<String> {
    anyhow::ensure!(
        !report.errors.is_empty(),
        "--errors: no matrix was rounded, so there is nothing to draw"
    );
    let mut kinds: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for error in &report.errors {
        let place = error
            .name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'));
        if let Some((layer, kind)) = place {
            let kind = kind.strip_suffix(".weight").unwrap_or(kind);
            let point = (layer.parse()?, error.metrics.sqnr_db);
            kinds.entry(kind).or_default().push(point);
        }
    }
    let lines: Vec<Line> = kinds
        .into_iter()
        .map(|(name, points)| Line {
            name: name.to_owned(),
            points,
        })
        .collect();
    let title = match scores {
        Some([before, after]) => {
            format!(
                "Ternary weights: perplexity {:.2} before, {:.2} after",
                before.value, after.value
            )
        }
        None => "Ternary weights: signal over noise of each matrix".to_owned(),
    };
    plot::lines(&title, ["layer", "signal over noise, dB"], &lines)
}
