//! The kernels of `shaders-wgsl/`, each with the numbers it is specialised by.
//!
//! A [`Kernel`] is small, and is its own key: the first time one is used its pieces of WGSL are put together behind its
//! constants and compiled; from then on it is looked up.

use super::device::Lanes;
use parts::Parts;

/// Rows of f32 where they lie: column c of row t is element `offset + t·stride + c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RowPlace {
    pub(super) cols: u32,
    pub(super) offset: u32,
    pub(super) stride: u32,
}

/// How a table stores its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TableKind {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q6K,
    Ternary(TernaryRow),
}

/// A row of a ternary matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TernaryRow {
    /// Words of sixteen codes; a multiple of four.
    pub(super) words: u32,
    /// Columns that share a scale, a multiple of 64; 0 if all of the tensor do.
    pub(super) group: u32,
}

impl TernaryRow {
    /// Scales of a row.
    pub(super) fn groups(self) -> u32 {
        match self.group {
            0 => 0,
            group => self.words * 16 / group,
        }
    }
}

/// The rows of one buffer of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TablePlace {
    pub(super) kind: TableKind,
    pub(super) cols: u32,
    /// Columns of a stored row, its padding included.
    pub(super) stored: u32,
    /// Vectors (F32, F16, BF16) or words (else) of a row.
    pub(super) stride: u32,
    /// Rows of the buffer.
    pub(super) rows: u32,
}

impl TablePlace {
    /// What a lane multiplies at a time, in a row.
    fn spans(self) -> u32 {
        match self.kind {
            TableKind::F16 | TableKind::Bf16 => self.cols.div_ceil(8),
            _ => self.cols.div_ceil(4),
        }
    }
}

/// What happens to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Epilogue {
    /// Stored.
    Store,
    /// Added to the residual at this place, and stored.
    Add { offset: u32, stride: u32 },
    /// gate(product with the first matrix) · product with the second, stored.
    Gate { silu: bool },
}

impl Epilogue {
    fn constants(self) -> [(&'static str, u32); 4] {
        let (code, offset, stride, silu) = match self {
            Self::Store => (0, 0, 0, false),
            Self::Add { offset, stride } => (1, offset, stride, false),
            Self::Gate { silu } => (2, 0, 0, silu),
        };
        [
            ("EPILOGUE", code),
            ("R_OFFSET", offset),
            ("R_STRIDE", stride),
            ("SILU", u32::from(silu)),
        ]
    }
}

/// The other factor of a gated row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GatePlace {
    pub(super) silu: bool,
    pub(super) up: RowPlace,
}

/// Shapes of attention and of its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HeadsPlace {
    pub(super) query: u32,
    pub(super) kv: u32,
    pub(super) dim: u32,
    /// Whether keys and values are binary16.
    pub(super) half: bool,
}

impl HeadsPlace {
    /// Vectors of four that a head takes.
    pub(super) fn dim4(self) -> u32 {
        self.dim.div_ceil(4)
    }

    fn constants(self) -> [(&'static str, u32); 4] {
        [
            ("QUERY_HEADS", self.query),
            ("KV_HEADS", self.kv),
            ("DIM", self.dim),
            ("DIM4", self.dim4()),
        ]
    }
}

/// A kernel and its constants. `eps` are the bits of an f32, for rows that are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    Embed {
        table: TablePlace,
        first: u32,
        out_stride: u32,
    },
    Norm {
        x: RowPlace,
        eps: Option<u32>,
        gate: Option<GatePlace>,
        out_stride: u32,
        asked: bool,
    },
    Quantize {
        x: RowPlace,
        eps: Option<u32>,
        gate: Option<GatePlace>,
        words: u32,
    },
    Gemv {
        x: RowPlace,
        eps: Option<u32>,
        row: TernaryRow,
        rows: [u32; 3],
        out: [u32; 3],
        out_stride: u32,
        epilogue: Epilogue,
    },
    Gemm {
        /// Blocks of [`GEMM_TILE`] rows in a tile: 1 or 2.
        blocks: u32,
        row: TernaryRow,
        rows: [u32; 3],
        out: [u32; 3],
        out_stride: u32,
        epilogue: Epilogue,
    },
    Dense {
        table: TablePlace,
        x: RowPlace,
        out: u32,
        out_stride: u32,
        epilogue: Epilogue,
    },
    Rope {
        heads: HeadsPlace,
        half: u32,
        interleaved: bool,
        rows: [RowPlace; 3],
        eps: Option<[u32; 2]>,
    },
    Attend {
        heads: HeadsPlace,
        split: bool,
    },
    Combine {
        heads: HeadsPlace,
    },
    AttendTile {
        heads: HeadsPlace,
    },
    Exclude {
        vocabulary: u32,
        kept: u32,
    },
    Top {
        count: u32,
        kept: u32,
        logits: bool,
    },
    Best {
        count: u32,
        logits: bool,
    },
    Answer {
        vocabulary: u32,
        kept: u32,
    },
    Probe,
}

/// What a binding is to a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    Write,
    Uniform,
}

use Access::{Read, Uniform, Write};

/// Queries that [`Kernel::AttendTile`] takes together.
pub(super) const TILE_QUERIES: u32 = 32;
/// Tokens of a tile, and rows of a block of a tile, of [`Kernel::Gemm`].
pub(super) const GEMM_TILE: u32 = 64;
/// Positions of a piece of a split context.
pub(super) const SPLIT: u32 = 256;
/// The most pieces that [`Kernel::Combine`] puts together.
pub(super) const MOST_PIECES: u32 = 1024;
/// Candidates that one workgroup of [`Kernel::Top`] and [`Kernel::Best`] takes.
pub(super) const CANDIDATES: u32 = 1024;
/// Rows that a team of [`Kernel::Dense`] multiplies.
pub(super) const DENSE_ROWS: u32 = 4;
/// Loads that an invocation of [`Kernel::Attend`] has under way.
const ATTEND_AHEAD: u32 = 8;
/// Invocations of a workgroup, where nothing else is said.
const THREADS: u32 = 256;
/// Words that separate the planes of rounded activations.
const PLANE_GAP: u32 = 8;

macro_rules! wgsl {
    ($($name:literal),*) => {
        [$(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders-wgsl/", $name, ".wgsl"))),*]
    };
}

/// A kernel put together.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) wgsl: String,
    pub(super) bindings: &'static [Access],
}

impl Kernel {
    /// The name of its file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Norm { .. } => "norm",
            Self::Quantize { .. } => "quantize",
            Self::Gemv { .. } => "gemv",
            Self::Gemm { .. } => "gemm",
            Self::Dense { .. } => "dense",
            Self::Rope { .. } => "rope",
            Self::Attend { .. } => "attend",
            Self::Combine { .. } => "combine",
            Self::AttendTile { .. } => "attend_tile",
            Self::Exclude { .. } => "exclude",
            Self::Top { .. } => "top",
            Self::Best { .. } => "best",
            Self::Answer { .. } => "answer",
            Self::Probe => "probe",
        }
    }

    /// Its bindings, in their order.
    pub(super) fn bindings(self) -> &'static [Access] {
        match self {
            Self::Embed { .. } => &[Read, Read, Read, Read, Write],
            Self::Norm { gate: None, .. } => &[Read, Read, Write, Uniform],
            Self::Norm { gate: Some(_), .. } => &[Read, Read, Write, Uniform, Read],
            Self::Quantize { gate: None, .. } => &[Read, Read, Write, Write],
            Self::Quantize { gate: Some(_), .. } => &[Read, Read, Write, Write, Read],
            Self::Gemv { .. } => &[Read, Read, Read, Read, Read, Read, Write],
            Self::Gemm { .. } => &[Read, Read, Read, Read, Read, Read, Write, Uniform],
            Self::Dense { .. } => &[Read, Read, Read, Read, Write],
            Self::Rope { .. } => &[Read, Read, Read, Read, Read, Read, Write, Write, Uniform],
            Self::Attend { .. } | Self::AttendTile { .. } => &[Read, Read, Write, Uniform],
            Self::Combine { .. } => &[Read, Write, Uniform],
            Self::Exclude { .. } => &[Read, Write, Write, Uniform],
            Self::Top { .. } | Self::Best { .. } => &[Read, Write],
            Self::Answer { .. } => &[Read, Read, Write, Write, Uniform],
            Self::Probe => &[Write],
        }
    }

    /// Rows that one workgroup of [`Gemv`](Self::Gemv) multiplies.
    pub(super) fn gemv_rows(lanes: Lanes) -> u32 {
        gemv_threads(lanes) / lanes.size
    }

    /// Rows that one workgroup of [`Dense`](Self::Dense) multiplies.
    pub(super) fn dense_rows(lanes: Lanes) -> u32 {
        THREADS / lanes.size * DENSE_ROWS
    }

    /// Bytes of workgroup memory that [`Gemv`](Self::Gemv) takes for rows of `row`.
    pub(super) fn gemv_memory(row: TernaryRow, lanes: Lanes) -> u32 {
        let threads = gemv_threads(lanes);
        let quantized = 4 * (gemv_words(row, lanes) + PLANE_GAP);
        let totals = Self::gemv_rows(lanes) * row.groups();
        let sums = 3 * if lanes.subgroups {
            threads / lanes.size
        } else {
            threads
        };
        4 * (quantized + totals + sums)
    }

    /// Its WGSL, for devices with these `lanes`.
    pub(super) fn source(self, lanes: Lanes) -> Source {
        let mut parts = Parts::new(lanes);
        match self {
            Self::Embed {
                table,
                first,
                out_stride,
            } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("FIRST", first), ("OUT_STRIDE", out_stride)]);
                // Tables also multiply rows of x; there are none here.
                let x = RowPlace {
                    cols: table.cols,
                    offset: 0,
                    stride: table.cols,
                };
                parts.rows(x, table.cols.is_multiple_of(4));
                parts.table(table, table.cols);
                parts.add(&wgsl!("embed"));
            }
            Self::Norm {
                x,
                eps,
                gate,
                out_stride,
                asked,
            } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("OUT_STRIDE", out_stride), ("ASKED", u32::from(asked))]);
                let each = parts.rounded(x, eps, gate, (out_stride / 4, THREADS));
                let [step, norm] = wgsl!("step", "norm");
                parts.add(&[step]);
                parts.each(each, norm);
            }
            Self::Quantize {
                x,
                eps,
                gate,
                words,
            } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("QWORDS", 4 * words)]);
                let each = parts.rounded(x, eps, gate, (4 * words, THREADS));
                let [quantize] = wgsl!("quantize");
                parts.each(each, quantize);
            }
            Self::Gemv {
                x,
                eps,
                row,
                rows,
                out,
                out_stride,
                epilogue,
            } => {
                let threads = gemv_threads(lanes);
                let padded = gemv_words(row, lanes);
                parts.threads(threads, lanes);
                let each = parts.rounded(x, eps, None, (4 * padded, threads));
                parts.ternary(row);
                parts.set(&[("PADDED", padded)]);
                parts.matrices(rows, out, out_stride);
                parts.set(&epilogue.constants());
                parts.dot4();
                let [gate, gemv, tensor, group] =
                    wgsl!("gate", "gemv", "gemv_tensor", "gemv_group");
                parts.add(&[gate]);
                parts.each(each, gemv);
                if row.group == 0 {
                    parts.each(padded / lanes.size, tensor);
                } else {
                    parts.add(&[group]);
                }
            }
            Self::Gemm {
                blocks,
                row,
                rows,
                out,
                out_stride,
                epilogue,
            } => {
                parts.ternary(row);
                parts.matrices(rows, out, out_stride);
                parts.set(&epilogue.constants());
                parts.set(&[("TILE_ROWS", blocks * GEMM_TILE)]);
                parts.dot4();
                let [step, gemm] = wgsl!("step", "gemm");
                parts.add(&[step]);
                parts.each(blocks, gemm);
            }
            Self::Dense {
                table,
                x,
                out,
                out_stride,
                epilogue,
            } => {
                parts.threads(THREADS, lanes);
                parts.rows(x, true);
                parts.table(table, x.cols);
                parts.set(&[("OUT", out), ("OUT_STRIDE", out_stride)]);
                parts.set(&epilogue.constants());
                parts.lanes();
                parts.add(&wgsl!("dense"));
            }
            Self::Rope {
                heads,
                half,
                interleaved,
                rows,
                eps,
            } => {
                parts.threads(64.max(lanes.size), lanes);
                parts.set(&heads.constants());
                let [q_eps, k_eps] = eps.unwrap_or_default();
                parts.set(&[
                    ("HALF", half),
                    ("INTERLEAVED", u32::from(interleaved)),
                    ("Q_OFFSET", rows[0].offset),
                    ("Q_STRIDE", rows[0].stride),
                    ("K_OFFSET", rows[1].offset),
                    ("K_STRIDE", rows[1].stride),
                    ("V_OFFSET", rows[2].offset),
                    ("V_STRIDE", rows[2].stride),
                    ("NORM", u32::from(eps.is_some())),
                    ("EPS_Q", q_eps),
                    ("EPS_K", k_eps),
                ]);
                parts.lanes();
                parts.cache(heads);
                parts.add(&wgsl!("rope"));
            }
            Self::Attend { heads, split } => {
                parts.threads(THREADS, lanes);
                parts.set(&heads.constants());
                parts.set(&[("SPLIT", u32::from(split)), ("CHUNK", SPLIT)]);
                parts.lanes();
                parts.queries(heads);
                parts.cache(heads);
                let [attend] = wgsl!("attend");
                parts.each(ATTEND_AHEAD, attend);
            }
            Self::Combine { heads } => {
                parts.threads(128, lanes);
                parts.set(&heads.constants());
                parts.set(&[("CHUNK", SPLIT), ("MOST", MOST_PIECES)]);
                let [step, combine] = wgsl!("step", "combine");
                parts.add(&[step]);
                parts.each(4, combine);
            }
            Self::AttendTile { heads } => {
                parts.set(&heads.constants());
                parts.set(&[("OWN", heads.dim4().div_ceil(8))]);
                parts.queries(heads);
                parts.cache(heads);
                parts.add(&wgsl!("attend_tile"));
            }
            Self::Exclude { vocabulary, kept } => {
                parts.threads(64, lanes);
                parts.set(&[("VOCABULARY", vocabulary), ("KEPT", kept)]);
                parts.add(&wgsl!("step", "top_key", "exclude"));
            }
            Self::Top {
                count,
                kept,
                logits,
            } => {
                parts.set(&[("COUNT", count), ("KEPT", kept)]);
                parts.candidates(logits);
                parts.add(&wgsl!("top"));
            }
            Self::Best { count, logits } => {
                parts.set(&[("COUNT", count), ("SPAN", CANDIDATES)]);
                parts.candidates(logits);
                parts.add(&wgsl!("best"));
            }
            Self::Answer { vocabulary, kept } => {
                parts.threads(64, lanes);
                parts.set(&[("VOCABULARY", vocabulary), ("KEPT", kept)]);
                parts.add(&wgsl!("step", "answer"));
            }
            Self::Probe => {
                parts.threads(THREADS, lanes);
                parts.add(&wgsl!("probe"));
            }
        }
        Source {
            name: self.name(),
            wgsl: parts.finish(),
            bindings: self.bindings(),
        }
    }
}

/// Words of a row that the lanes of [`Kernel::Gemv`] multiply.
fn gemv_words(row: TernaryRow, lanes: Lanes) -> u32 {
    match row.group {
        0 => row.words.next_multiple_of(lanes.size),
        _ => row.words,
    }
}

fn gemv_threads(lanes: Lanes) -> u32 {
    (8 * lanes.size).clamp(64, THREADS)
}

mod parts;
#[cfg(test)]
mod tests;
