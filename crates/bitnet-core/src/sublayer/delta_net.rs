//! Gated delta nets: mixers with a state of fixed size.

use super::{Activations, NormWeights, Projection, check_norm};
use crate::{Error, Result, WeightMatrix};

/// The longest causal convolution.
const MOST_TAPS: usize = 64;

/// Widths of a gated delta net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Heads of queries and keys; divides `value`.
    pub key: usize,
    /// Heads of values. Value head `i` reads key head `i mod key`.
    pub value: usize,
    /// Columns of a head of queries or keys.
    pub key_dim: usize,
    /// Columns of a head of values.
    pub value_dim: usize,
    /// Positions that the causal convolution reads, the own one among them.
    pub taps: usize,
}

impl DeltaHeads {
    /// Columns of the keys of one token.
    pub const fn key_width(self) -> usize {
        self.key.saturating_mul(self.key_dim)
    }

    /// Columns of the values of one token.
    pub const fn value_width(self) -> usize {
        self.value.saturating_mul(self.value_dim)
    }

    /// Columns that the convolution reads: queries, keys and values.
    pub const fn conv_width(self) -> usize {
        self.key_width()
            .saturating_mul(2)
            .saturating_add(self.value_width())
    }

    /// Numbers of the state of all heads: `[value heads][key_dim × value_dim]`.
    pub const fn state_len(self) -> usize {
        self.value_width().saturating_mul(self.key_dim)
    }

    /// Numbers that the convolution remembers: `[taps − 1][conv_width]`.
    pub const fn conv_len(self) -> usize {
        self.conv_width()
            .saturating_mul(self.taps.saturating_sub(1))
    }

    /// Refuses heads that no state can be made for.
    ///
    /// # Errors
    /// [`Error::Shape`] that says which.
    pub fn check(self) -> Result<()> {
        let dims = self.key_dim > 0 && self.value_dim > 0;
        if self.key > 0 && self.value > 0 && dims && self.value.is_multiple_of(self.key) {
            if (1..=MOST_TAPS).contains(&self.taps) {
                return Ok(());
            }
            return Err(Error::Shape {
                what: "taps of a convolution".into(),
                expected: format!("1 to {MOST_TAPS}"),
                found: self.taps.to_string(),
            });
        }
        Err(Error::Shape {
            what: "heads of a delta net".into(),
            expected: "value heads a whole multiple of key heads".into(),
            found: format!(
                "{} and {}, of widths {} and {}",
                self.value, self.key, self.value_dim, self.key_dim
            ),
        })
    }
}

/// A gated delta net:
///
/// norm → query‖key‖value, gate, decay, rate → causal convolution and SiLU of query‖key‖value → query and key of length 1 → delta
/// rule → head norm → · SiLU(gate) → output.
#[derive(Debug, Clone)]
pub struct DeltaNetWeights {
    /// Widths.
    pub heads: DeltaHeads,
    /// Rounding of the rows that its matrices multiply.
    pub activations: Activations,
    /// Of the rows that its matrices multiply.
    pub norm: Option<NormWeights>,
    /// `[conv_width, hidden]`: rows of queries, keys and values.
    pub mixed: Projection,
    /// `[value_width, hidden]`.
    pub gate: Projection,
    /// `[value heads, hidden]`: sigmoid of it is the rate at which a value replaces what its key had.
    pub rate: Projection,
    /// `[value heads, hidden]`: with `decay_bias` what softplus reads.
    pub decay: Projection,
    /// One for each value head.
    pub decay_bias: Vec<f32>,
    /// One for each value head, at most 0: the state decays by exp(factor · softplus(…)).
    pub decay_factor: Vec<f32>,
    /// `[taps][conv_width]`, the last tap that of the own position.
    pub conv: Vec<f32>,
    /// Added to the sum of squares when queries and keys are brought to length 1.
    pub eps: f32,
    /// Of each head of outputs.
    pub head_norm: NormWeights,
    /// `[hidden, value_width]`.
    pub output: Projection,
}

impl DeltaNetWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a number that is not finite, or a state that would grow.
    pub fn check(&self) -> Result<()> {
        self.heads.check()?;
        let (hidden, heads) = (self.mixed.matrix.cols(), self.heads);
        check_norm(self.norm.as_ref(), hidden)?;
        self.mixed.check(heads.conv_width(), hidden)?;
        self.gate.check(heads.value_width(), hidden)?;
        self.rate.check(heads.value, hidden)?;
        self.decay.check(heads.value, hidden)?;
        self.head_norm.check(heads.value_dim)?;
        self.output.check(hidden, heads.value_width())?;
        let output = self.output.matrix.name();
        let conv_len = heads.conv_width().saturating_mul(heads.taps);
        for (what, values, len) in [
            ("decay bias", &self.decay_bias, heads.value),
            ("decay factor", &self.decay_factor, heads.value),
            ("convolution", &self.conv, conv_len),
        ] {
            if values.len() != len {
                return Err(Error::Shape {
                    what: format!("{what} of the delta net with {output}"),
                    expected: len.to_string(),
                    found: values.len().to_string(),
                });
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::Value {
                    what: format!("{what} of the delta net with {output}"),
                    expected: "a finite number".into(),
                    found: value.to_string(),
                });
            }
        }
        match self.decay_factor.iter().find(|factor| **factor > 0.0) {
            None => Ok(()),
            Some(factor) => Err(Error::Value {
                what: format!("decay factor of the delta net with {output}"),
                expected: "at most 0, so that the state does not grow".into(),
                found: factor.to_string(),
            }),
        }
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        [
            &self.mixed,
            &self.gate,
            &self.rate,
            &self.decay,
            &self.output,
        ]
        .map(|projection| &projection.matrix)
        .into()
    }
}
