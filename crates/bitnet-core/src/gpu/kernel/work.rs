//! What a kernel is called in reports, and what it has to read and to multiply.

use super::{Epilogue, HeadsPlace, Kernel, TableKind, TablePlace, TernaryRow, shadow_vectors};
use crate::gpu::driver::Batch;

/// What one dispatch has to do at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::gpu) struct Work {
    /// Bytes of weights, keys and values, each counted once.
    pub(in crate::gpu) bytes: u64,
    /// Products.
    pub(in crate::gpu) products: u64,
}

/// The rows of all matrices, of gate and up both.
fn all_rows(rows: [u32; 3]) -> u64 {
    rows.into_iter().map(u64::from).sum()
}

fn ternary_bytes(row: TernaryRow) -> u64 {
    4 * (u64::from(row.words) + u64::from(row.groups()))
}

fn table_bytes(table: TablePlace) -> u64 {
    match table.kind {
        TableKind::Ternary(row) => ternary_bytes(row),
        TableKind::F32 | TableKind::F16 | TableKind::Bf16 => 16 * u64::from(table.stride),
        TableKind::Q8_0 | TableKind::Q4_0 | TableKind::Q6K => 4 * u64::from(table.stride),
    }
}

fn table_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::F32 => "f32",
        TableKind::F16 => "f16",
        TableKind::Bf16 => "bf16",
        TableKind::Q8_0 => "q8_0",
        TableKind::Q4_0 => "q4_0",
        TableKind::Q6K => "q6_k",
        TableKind::Ternary(_) => "ternary",
    }
}

impl Kernel {
    /// Its name and the shape of what it multiplies.
    pub(in crate::gpu) fn label(self) -> String {
        let name = self.name();
        match self {
            Self::Gemv {
                x, rows, epilogue, ..
            } => {
                let gated = match epilogue {
                    Epilogue::Gate { .. } => ", gated",
                    _ => "",
                };
                format!("{name} {}×{}{gated}", all_rows(rows), x.cols)
            }
            Self::GemvRows { row, rows, .. } | Self::Gemm { row, rows, .. } => {
                format!("{name} {}×{}", all_rows(rows), 16 * row.words)
            }
            Self::Dense { table, .. } => {
                let kind = table_name(table.kind);
                format!("{name} {}×{} {kind}", table.rows, table.cols)
            }
            Self::Screen { rows, cols } => format!("{name} {rows}×{cols} int8"),
            Self::Attend { turn: Some(_), .. } => format!("{name}, turn and append"),
            _ => name.into(),
        }
    }

    /// Its bytes and operations for the tokens of `batch`.
    pub(in crate::gpu) fn work(self, batch: Batch) -> Work {
        let Batch {
            tokens,
            positions,
            seen,
        } = batch;
        let attention = |heads: HeadsPlace| {
            let vector = if heads.half { 8 } else { 16 };
            let row = u64::from(heads.dim4());
            Work {
                bytes: 2 * positions * u64::from(heads.kv) * row * vector,
                products: 2 * seen * u64::from(heads.query) * u64::from(heads.dim),
            }
        };
        match self {
            Self::Gemv { row, rows, x, .. } => {
                let rows = all_rows(rows);
                Work {
                    bytes: rows * ternary_bytes(row),
                    products: tokens * rows * u64::from(x.cols),
                }
            }
            Self::GemvRows { row, rows, .. } | Self::Gemm { row, rows, .. } => {
                let rows = all_rows(rows);
                Work {
                    bytes: rows * ternary_bytes(row),
                    products: tokens * rows * u64::from(16 * row.words),
                }
            }
            Self::Dense { table, .. } => Work {
                bytes: u64::from(table.rows) * table_bytes(table),
                products: u64::from(table.rows) * u64::from(table.cols),
            },
            Self::Screen { rows, cols } => Work {
                bytes: u64::from(rows) * (16 * u64::from(shadow_vectors(cols)) + 16),
                products: 2 * u64::from(rows) * u64::from(cols),
            },
            Self::Attend { heads, .. } | Self::AttendTile { heads } => attention(heads),
            Self::Stream { vectors, copies } => Work {
                bytes: 16 * u64::from(vectors) * if copies { 2 } else { 1 },
                products: 0,
            },
            _ => Work::default(),
        }
    }

    /// Whether it may run again on whatever its inputs hold by then: no index of it is read from them.
    pub(in crate::gpu) fn repeats(self) -> bool {
        match self {
            Self::Embed { .. }
            | Self::Exclude { .. }
            | Self::Top { .. }
            | Self::Best { .. }
            | Self::Answer { .. }
            | Self::Likeliest { .. }
            | Self::Shadow { .. }
            | Self::Screened { .. } => false,
            Self::Probe => false,
            Self::Norm { .. }
            | Self::Quantize { .. }
            | Self::Gemv { .. }
            | Self::GemvRows { .. }
            | Self::Gemm { .. }
            | Self::Dense { .. }
            | Self::Rope { .. }
            | Self::Attend { .. }
            | Self::AttendTile { .. }
            | Self::Combine { .. }
            | Self::ScreenRow { .. }
            | Self::Screen { .. }
            | Self::Stream { .. } => true,
        }
    }
}
