//! Operations that the CPU backend can compute in more than one way.

use serde::{Deserialize, Serialize};

/// A kind of work. The order is that of the numbers in [`Crossovers`](super::Crossovers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// int8 rows by a ternary matrix.
    TernaryMatmul,
    /// f32 rows by a matrix that is decoded to f32: the head, and layers that are not ternary.
    DenseMatmul,
    /// Causal attention over the KV cache.
    Attention,
    /// RMSNorm of rows.
    Norm,
    /// The gate's function times the up projection, and other work of a few operations for each element.
    Elementwise,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [
        Self::TernaryMatmul,
        Self::DenseMatmul,
        Self::Attention,
        Self::Norm,
        Self::Elementwise,
    ];

    /// Its name in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TernaryMatmul => "ternary_matmul",
            Self::DenseMatmul => "dense_matmul",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Elementwise => "elementwise",
        }
    }

    /// The unit of its work.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TernaryMatmul | Self::DenseMatmul | Self::Attention => "multiply-adds",
            Self::Norm | Self::Elementwise => "elements",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
