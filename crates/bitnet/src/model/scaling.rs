//! Rotary scaling: how a model that reads further than it was pretrained to stretches the angles of its positions.
//!
//! Every kind is turned into divisors of the frequencies and a magnitude of cos and sin, which is all that a backend
//! knows of it ([`Rope`](bitnet_core::Rope)). Formulas: YaRN (arXiv 2309.00071) and Llama 3.1, as in transformers'
//! `modeling_rope_utils.py`; llama.cpp computes the same for the keys that it reads.

mod config;

pub(crate) use config::ConfigRope;

use crate::file::Gguf;
use crate::{Error, Result};
use std::f64::consts::TAU;
use std::fmt;

/// How frequencies change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalingKind {
    /// They do not.
    None,
    /// All are divided by `factor`.
    Linear {
        /// How many times further the model reads.
        factor: f64,
    },
    /// YaRN: slow ones are divided by `factor`, fast ones stay, those between are blended.
    Yarn {
        /// How many times further the model reads.
        factor: f64,
        /// Positions the model was pretrained for.
        original: f64,
        /// Rotations over the original positions from which on a pair stays as it is; 32 as a rule.
        beta_fast: f64,
        /// Rotations up to which a pair is divided by the whole factor; 1 as a rule.
        beta_slow: f64,
        /// Whether the ends of the blend are rounded outwards to whole pairs; true as a rule.
        truncate: bool,
    },
    /// Llama 3.1: as YaRN, blended by wavelength.
    Llama3 {
        /// How many times further the model reads.
        factor: f64,
        /// Rotations over the original positions up to which a pair is divided by the whole factor.
        low: f64,
        /// Rotations from which on a pair stays as it is.
        high: f64,
        /// Positions the model was pretrained for.
        original: f64,
    },
    /// "Dynamic NTK": nothing changes up to the model's context. Beyond it the base would depend on the length of the
    /// text, so longer sessions are refused.
    Dynamic {
        /// How many times further the model reads.
        factor: f64,
    },
}

/// Rotary scaling of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    /// How frequencies change.
    pub kind: ScalingKind,
    /// Multiplies cos and sin of the elements that rotate.
    pub magnitude: f64,
}

/// What YaRN multiplies cos and sin by where a file does not say.
fn yarn_magnitude(factor: f64, scale: f64) -> f64 {
    if factor > 1.0 {
        1.0 + 0.1 * scale * libm::log(factor)
    } else {
        1.0
    }
}

impl RopeScaling {
    /// Positions as they are.
    pub const NONE: Self = Self {
        kind: ScalingKind::None,
        magnitude: 1.0,
    };

    /// What the model's own magnitude is to that which YaRN has by itself: 1 unless a file states another. Other kinds
    /// have 1 by themselves.
    pub fn attention_factor(&self) -> f64 {
        match self.kind {
            ScalingKind::Yarn { factor, .. } => self.magnitude / yarn_magnitude(factor, 1.0),
            _ => self.magnitude,
        }
    }

    /// Divisors of the frequencies of the `dims / 2` pairs of base `base`; none if all are 1.
    pub(crate) fn divisors(&self, dims: usize, base: f32) -> Vec<f32> {
        let (d, base) = (dims as f64, f64::from(base));
        let frequency = |i: usize| libm::pow(base, -2.0 * i as f64 / d);
        let half = dims / 2;
        match self.kind {
            ScalingKind::None | ScalingKind::Dynamic { .. } => Vec::new(),
            ScalingKind::Linear { factor: 1.0 } => Vec::new(),
            ScalingKind::Linear { factor } => vec![factor as f32; half],
            ScalingKind::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                truncate,
            } => {
                // The pair that makes so many rotations over the original positions.
                let pair = |rotations: f64| {
                    d * libm::log(original / (TAU * rotations)) / (2.0 * libm::log(base))
                };
                let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (low, high) = (libm::floor(low), libm::ceil(high));
                }
                let (low, high) = (low.max(0.0), high.min(d - 1.0));
                let width = (high - low).max(0.001);
                let divisor = |i: usize| {
                    let share = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    (1.0 / (1.0 - share + share / factor)) as f32
                };
                (0..half).map(divisor).collect()
            }
            ScalingKind::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let divisor = |i: usize| {
                    let rotations = original * frequency(i) / TAU;
                    if rotations > high {
                        1.0
                    } else if rotations < low {
                        factor as f32
                    } else {
                        let share = (rotations - low) / (high - low);
                        (1.0 / ((1.0 - share) / factor + share)) as f32
                    }
                };
                (0..half).map(divisor).collect()
            }
        }
    }

    /// Refuses numbers that no angle can be computed from.
    pub(crate) fn check(&self, file: &str, base: f32) -> Result<()> {
        let positive = |what: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            let what = format!("rotary scaling: {what}");
            Err(Error::malformed(file, what, "a positive number", value))
        };
        positive("magnitude (attention factor)", self.magnitude)?;
        let factor = match self.kind {
            ScalingKind::None => return Ok(()),
            ScalingKind::Linear { factor } | ScalingKind::Dynamic { factor } => factor,
            ScalingKind::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                ..
            } => {
                positive("original context length", original)?;
                positive("beta_slow", beta_slow)?;
                positive("beta_fast", beta_fast)?;
                if beta_fast < beta_slow {
                    let expected = format!("at least beta_slow, {beta_slow}");
                    let what = "rotary scaling: beta_fast";
                    return Err(Error::malformed(file, what, expected, beta_fast));
                }
                if base <= 1.0 {
                    let what = "rotary base";
                    let expected = "more than 1, by whose logarithm YaRN divides";
                    return Err(Error::malformed(file, what, expected, base));
                }
                if factor < 1.0 {
                    tracing::warn!("{file}: YaRN with a factor below 1: {factor}");
                }
                factor
            }
            ScalingKind::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                positive("original_max_position_embeddings", original)?;
                positive("low_freq_factor", low)?;
                positive("high_freq_factor", high)?;
                if high <= low {
                    let expected = format!("more than low_freq_factor, {low}");
                    let what = "rotary scaling: high_freq_factor";
                    return Err(Error::malformed(file, what, expected, high));
                }
                factor
            }
        };
        positive("factor", factor)
    }

    /// Reads the keys `{arch}.rope.*` of a GGUF file with llama.cpp's defaults: a factor without a type is linear, and
    /// the positions of pretraining are `context` unless the file says otherwise.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for kinds and keys that are not understood, [`Error::Malformed`] for impossible numbers.
    pub(crate) fn from_gguf(file: &Gguf, arch: &str, context: usize) -> Result<Self> {
        let prefix = format!("{arch}.rope.scaling.");
        let key = |name: &str| format!("{prefix}{name}");
        let kind = file.string(&key("type"))?.unwrap_or("linear");
        if !matches!(kind, "none" | "linear" | "yarn") {
            return Err(unknown_kind(file.name(), kind));
        }
        for (name, _) in file.metadata() {
            let Some(name) = name.strip_prefix(&prefix) else {
                continue;
            };
            // Keys that llama.cpp reads only for other architectures, with the values that change nothing.
            let neutral: &[f32] = match name {
                "type" | "factor" | "original_context_length" | "attn_factor" | "finetuned" => {
                    continue;
                }
                "yarn_beta_fast" => &[32.0],
                "yarn_beta_slow" | "yarn_attn_factor" => &[1.0],
                "yarn_ext_factor" if kind == "yarn" => &[1.0, -1.0],
                "yarn_ext_factor" => &[0.0, -1.0],
                "yarn_log_multiplier" => &[0.0],
                _ => &[],
            };
            let value = if neutral.is_empty() {
                None
            } else {
                file.f32(&key(name))?
            };
            if !value.is_some_and(|value| neutral.contains(&value)) {
                let value = value.map(|value| format!(" = {value}")).unwrap_or_default();
                return Err(Error::Unsupported {
                    file: file.name().into(),
                    what: format!("rotary scaling by {}{value}", key(name)),
                    advice: "runtimes disagree about it; use a file without this key".into(),
                });
            }
        }
        let factor = match file.f32(&key("factor"))? {
            Some(factor) => factor,
            None => file
                .f32(&format!("{arch}.rope.scale_linear"))?
                .unwrap_or(1.0),
        };
        let factor = if factor == 0.0 {
            1.0
        } else {
            f64::from(factor)
        };
        let attention = f64::from(file.f32(&key("attn_factor"))?.unwrap_or(1.0));
        let original = file.usize(&key("original_context_length"))?;
        let (kind, magnitude) = match kind {
            "linear" if factor != 1.0 => (ScalingKind::Linear { factor }, attention),
            "yarn" => {
                let kind = ScalingKind::Yarn {
                    factor,
                    original: original.unwrap_or(context) as f64,
                    beta_fast: 32.0,
                    beta_slow: 1.0,
                    truncate: true,
                };
                (kind, attention * yarn_magnitude(factor, 1.0))
            }
            _ => (ScalingKind::None, attention),
        };
        Ok(Self { kind, magnitude })
    }
}

fn unknown_kind(file: &str, kind: &str) -> Error {
    Error::Unsupported {
        file: file.into(),
        what: format!("rotary scaling of kind {kind:?}"),
        advice: "use a model with one of linear, yarn, llama3 and dynamic, or without scaling"
            .into(),
    }
}

impl fmt::Display for RopeScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ScalingKind::None => f.write_str("none")?,
            ScalingKind::Linear { factor } => write!(f, "linear, factor {factor}")?,
            ScalingKind::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                truncate,
            } => {
                write!(f, "YaRN, factor {factor} from {original} positions")?;
                if (beta_fast, beta_slow) != (32.0, 1.0) {
                    write!(f, ", blended from {beta_fast} to {beta_slow} rotations")?;
                }
                if !truncate {
                    f.write_str(", ends of the blend not rounded")?;
                }
            }
            ScalingKind::Llama3 {
                factor,
                low,
                high,
                original,
            } => write!(
                f,
                "Llama 3, factor {factor} from {original} positions, blended from {high} to {low} rotations"
            )?,
            ScalingKind::Dynamic { factor } => write!(
                f,
                "dynamic, factor {factor}: none within the model's context, beyond which no session goes"
            )?,
        }
        if self.magnitude != 1.0 {
            let decimals = format!("{:.6}", self.magnitude);
            let short = decimals.trim_end_matches('0').trim_end_matches('.');
            write!(f, ", magnitude {short}")?;
        }
        Ok(())
    }
}
