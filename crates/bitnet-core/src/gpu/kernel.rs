//! The kernels of `shaders-wgsl/` and `shaders-metal/`, each with the numbers it is specialised by.
//!
//! A [`Kernel`] is small, and is its own key: the first time one is used its pieces of WGSL, or of Metal's language, are put
//! together behind its constants and compiled; from then on it is looked up. Both languages have the same kernels, with the
//! same constants, bindings and layouts.

#[macro_use]
mod piece;
mod tile;
use super::lanes::{LEAST_QUERIES, Lanes};
pub(super) use tile::GemmTile;
#[cfg(feature = "wgpu")]
pub(super) use work::Work;

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
    /// Bits of what products and what weights are multiplied by, if the buffer has no header that says so.
    pub(super) factors: Option<[u32; 2]>,
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

    /// Whether tiles of attention are multiplied as matrices of subgroups.
    fn multiplies_matrices(self, lanes: Lanes) -> bool {
        if lanes.matrices == 0 || self.dim > MATRIX_DIM {
            false
        } else if lanes.metal {
            self.dim.is_multiple_of(lanes.matrices)
        } else {
            // Halves alone are multiplied, so nothing but halves may be asked for.
            self.half && self.dim.is_multiple_of(2 * lanes.matrices)
        }
    }

    /// Invocations of a workgroup of [`Kernel::AttendTile`]: eight teams, where these multiply matrices.
    fn tile_threads(self, lanes: Lanes) -> u32 {
        if self.multiplies_matrices(lanes) {
            8 * lanes.size
        } else {
            THREADS
        }
    }

    /// Workgroups of [`Kernel::AttendTile`] that share the queries of a tile.
    pub(super) fn tile_turns(self, lanes: Lanes) -> u32 {
        if self.multiplies_matrices(lanes) {
            1
        } else {
            lanes.tile_queries() / LEAST_QUERIES
        }
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

/// How heads are turned, and the rows that hold those of queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TurnPlace {
    pub(super) half: u32,
    pub(super) interleaved: bool,
    pub(super) rows: [RowPlace; 3],
    /// Bits of what is added to the mean squares, if heads of queries and keys are normed.
    pub(super) eps: Option<[u32; 2]>,
}

impl TurnPlace {
    fn constants(self) -> [(&'static str, u32); 11] {
        let [q_eps, k_eps] = self.eps.unwrap_or_default();
        let [q, k, v] = self.rows;
        [
            ("HALF", self.half),
            ("INTERLEAVED", u32::from(self.interleaved)),
            ("Q_OFFSET", q.offset),
            ("Q_STRIDE", q.stride),
            ("K_OFFSET", k.offset),
            ("K_STRIDE", k.stride),
            ("V_OFFSET", v.offset),
            ("V_STRIDE", v.stride),
            ("NORM", u32::from(self.eps.is_some())),
            ("EPS_Q", q_eps),
            ("EPS_K", k_eps),
        ]
    }
}

/// How the rows of [`Kernel::Gemv`] are dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Teams {
    /// Invocations of a workgroup.
    pub(super) threads: u32,
    /// Rows of a team, which is a subgroup or as many invocations.
    pub(super) each: u32,
}

impl Teams {
    /// Workgroups among which the rows of a large matrix are dealt out: about one for each processor of a large GPU. Every
    /// workgroup norms and rounds the token for itself, so that more of them do more in all, and fewer leave processors idle.
    const WORKGROUPS: u32 = 128;
    /// The most words of weights that an invocation asks for before it has the token.
    const WORDS: u32 = 28;

    /// The most teams of a workgroup that multiplies rows like `row`: on a device that takes `threads` invocations and
    /// `memory` bytes in a workgroup; 0 if these are too few.
    pub(super) fn most(row: TernaryRow, lanes: Lanes, threads: u32, memory: u32) -> u32 {
        let mut most = threads / lanes.size;
        while most > 0 && Kernel::gemv_memory(row, most * lanes.size, lanes) > memory {
            most /= 2;
        }
        most
    }

    /// For `rows` rows, or pairs of rows if `gated`, with at most `most` teams in a workgroup.
    pub(super) fn of(row: TernaryRow, rows: u32, gated: bool, lanes: Lanes, most: u32) -> Self {
        let wanted = rows.div_ceil(Self::WORKGROUPS).max(1);
        let most = most.max(1);
        if lanes.metal {
            // Each activation that is widened to a float meets so many rows.
            return Self {
                threads: most * lanes.size,
                each: SIMDGROUP_ROWS,
            };
        }
        let least = 8.min(most);
        let words = (gemv_words(row, lanes) / lanes.size).max(1) << u32::from(gated);
        let mut each = 1;
        while row.group == 0 && wanted > each * most && 2 * each * words <= Self::WORDS {
            each *= 2;
        }
        Self {
            threads: wanted.div_ceil(each).clamp(least, most) * lanes.size,
            each,
        }
    }

    /// Rows that one workgroup multiplies.
    pub(super) fn rows(self, lanes: Lanes) -> u32 {
        self.threads / lanes.size * self.each
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
        /// Invocations that take a row.
        threads: u32,
        x: RowPlace,
        eps: Option<u32>,
        gate: Option<GatePlace>,
        /// Whether x comes in pieces of attention, and with which heads.
        pieces: Option<HeadsPlace>,
        words: u32,
    },
    Gemv {
        teams: Teams,
        x: RowPlace,
        /// Whether x comes in pieces of attention, and with which heads.
        pieces: Option<HeadsPlace>,
        eps: Option<u32>,
        row: TernaryRow,
        rows: [u32; 3],
        out: [u32; 3],
        out_stride: u32,
        epilogue: Epilogue,
    },
    GemvRows {
        /// Tokens that a word of weights is unpacked for.
        tokens: u32,
        /// Rows of a team.
        each: u32,
        row: TernaryRow,
        rows: [u32; 3],
        out: [u32; 3],
        out_stride: u32,
        epilogue: Epilogue,
    },
    Gemm {
        tile: GemmTile,
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
        /// Tokens that a weight is read for.
        tokens: u32,
    },
    Rope {
        heads: HeadsPlace,
        turn: TurnPlace,
    },
    Attend {
        heads: HeadsPlace,
        /// The class of its rows: a team asks for 2^class fours of positions at a time, if a lane has one vector of each.
        class: u32,
        /// Whether heads are turned and appended on the way.
        turn: Option<TurnPlace>,
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
    Likeliest {
        count: u32,
        vocabulary: u32,
    },
    Shadow {
        table: TablePlace,
    },
    ScreenRow {
        x: RowPlace,
        eps: Option<u32>,
        out_stride: u32,
    },
    Screen {
        rows: u32,
        cols: u32,
    },
    Screened {
        table: TablePlace,
        x: RowPlace,
        /// Workgroups of [`Screen`](Self::Screen).
        leasts: u32,
    },
    /// Of wgpu alone: Apple's simdgroups are known.
    #[cfg(feature = "wgpu")]
    Probe,
    Stream {
        vectors: u32,
        copies: bool,
    },
}

/// What a binding is to a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    Write,
    Uniform,
}

use Access::{Read, Uniform, Write};

/// The fewest positions of a piece of a context, if there are several.
pub(super) const LEAST_PIECE: u32 = 32;
/// The most pieces of a context that kernels put together on their way, which a longer one has more of.
pub(super) const MOST_PIECES: u32 = 8;
/// Classes of rows by their pieces: of the least positions, of twice as many, and of more.
pub(super) const CLASSES: usize = 3;
/// Candidates that one workgroup of [`Kernel::Top`] and [`Kernel::Best`] takes.
pub(super) const CANDIDATES: u32 = 1024;
/// Rows that a team of [`Kernel::Dense`] multiplies.
pub(super) const DENSE_ROWS: u32 = 4;
/// Rows that a team of [`Kernel::Screen`] estimates.
const SCREEN_ROWS: u32 = 8;
/// The most vectors of a row of a shadow that a lane keeps.
const SCREEN_VECTORS: u32 = 8;
/// Invocations of a workgroup, where nothing else is said.
pub(super) const THREADS: u32 = 256;
/// Invocations of a workgroup of [`Kernel::GemvRows`].
const ROWS_THREADS: u32 = 128;
/// Rows that a simdgroup of Metal's [`Kernel::Gemv`] multiplies.
const SIMDGROUP_ROWS: u32 = 4;
/// The most words of a row whose products, added up as floats by matrices of subgroups, are exact: each adds up to 4096.
const MATRIX_WORDS: u32 = (1 << 24) / 4096;
/// The widest head that attention by matrices of subgroups has workgroup memory for.
const MATRIX_DIM: u32 = 128;
/// Words that separate the planes of rounded activations.
const PLANE_GAP: u32 = 8;

/// A kernel put together.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) bindings: &'static [Access],
    /// Invocations of a workgroup.
    pub(super) threads: u32,
}

impl Kernel {
    /// The name of its file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Norm { .. } => "norm",
            Self::Quantize { .. } => "quantize",
            Self::Gemv { .. } => "gemv",
            Self::GemvRows { .. } => "gemv_rows",
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
            Self::Likeliest { .. } => "likeliest",
            Self::Shadow { .. } => "shadow",
            Self::ScreenRow { .. } => "screen_row",
            Self::Screen { .. } => "screen",
            Self::Screened { .. } => "screened",
            #[cfg(feature = "wgpu")]
            Self::Probe => "probe",
            Self::Stream { .. } => "stream",
        }
    }

    /// Its bindings, in their order.
    pub(super) fn bindings(self) -> &'static [Access] {
        match self {
            Self::Embed { .. } => &[Read, Read, Read, Read, Write, Read],
            Self::Norm { gate: None, .. } => &[Read, Read, Write, Read],
            Self::Norm { gate: Some(_), .. } => &[Read, Read, Write, Read, Read],
            Self::Quantize { gate: Some(_), .. } => &[Read, Read, Write, Write, Read],
            Self::Quantize {
                pieces: Some(_), ..
            } => &[Read, Read, Write, Write, Uniform],
            Self::Quantize { .. } => &[Read, Read, Write, Write],
            Self::Gemv { pieces: None, .. } => &[Read, Read, Read, Read, Read, Read, Write],
            Self::Gemv { .. } | Self::GemvRows { .. } | Self::Gemm { .. } => {
                &[Read, Read, Read, Read, Read, Read, Write, Uniform]
            }
            Self::Dense { .. } => &[Read, Read, Read, Read, Write, Read],
            Self::Rope { .. } => &[Read, Read, Read, Read, Write, Write, Read],
            Self::Attend { turn: Some(_), .. } => {
                &[Read, Write, Write, Uniform, Read, Read, Read, Read]
            }
            Self::Attend { .. } | Self::AttendTile { .. } => &[Read, Read, Write, Uniform, Read],
            Self::Combine { .. } => &[Read, Write, Uniform],
            Self::Exclude { .. } => &[Read, Write, Write],
            Self::Top { .. } | Self::Best { .. } | Self::Stream { .. } => &[Read, Write],
            Self::Answer { .. } | Self::Likeliest { .. } => &[Read, Read, Write, Write, Read],
            Self::Shadow { .. } => &[Read, Read, Read, Write, Write],
            Self::ScreenRow { .. } => &[Read, Read, Write, Read, Write],
            Self::Screen { .. } => &[Read, Read, Read, Write, Write],
            Self::Screened { .. } => &[Read, Read, Read, Read, Read, Write, Write],
            #[cfg(feature = "wgpu")]
            Self::Probe => &[Write],
        }
    }

    /// Rows that one workgroup of [`Dense`](Self::Dense) multiplies.
    pub(super) fn dense_rows(lanes: Lanes) -> u32 {
        THREADS / lanes.size * DENSE_ROWS
    }

    /// Invocations of a workgroup of [`GemvRows`](Self::GemvRows).
    pub(super) fn rows_threads(lanes: Lanes) -> u32 {
        ROWS_THREADS.max(lanes.size)
    }

    /// Rows that one workgroup of [`Screen`](Self::Screen) estimates.
    pub(super) fn screen_rows(lanes: Lanes) -> u32 {
        THREADS / lanes.size * SCREEN_ROWS
    }

    /// Vectors of a row that [`Screen`](Self::Screen) looks at, those past its end included; `None` if a lane cannot keep
    /// so many.
    pub(super) fn screen_vectors(cols: u32, lanes: Lanes) -> Option<u32> {
        let vectors = shadow_vectors(cols).next_multiple_of(lanes.size);
        (vectors / lanes.size <= SCREEN_VECTORS).then_some(vectors)
    }

    /// Bytes of workgroup memory that [`Gemv`](Self::Gemv) takes for rows of `row` with workgroups of `threads`.
    pub(super) fn gemv_memory(row: TernaryRow, threads: u32, lanes: Lanes) -> u32 {
        let teams = threads / lanes.size;
        let quantized = 4 * (gemv_words(row, lanes) + PLANE_GAP);
        // In Metal's language totals of groups go from lane to lane.
        let totals = if lanes.metal { 0 } else { teams * row.groups() };
        let sums = 3 * if lanes.subgroups { teams } else { threads };
        4 * (quantized + totals + sums)
    }
}

/// Words of a row that the lanes of [`Kernel::Gemv`] multiply.
fn gemv_words(row: TernaryRow, lanes: Lanes) -> u32 {
    match row.group {
        0 => row.words.next_multiple_of(lanes.size),
        _ => row.words,
    }
}

/// Vectors of sixteen int8 of a row of a shadow.
pub(super) fn shadow_vectors(cols: u32) -> u32 {
    cols.div_ceil(16)
}

mod parts;
mod source;
#[cfg(test)]
mod tests;
#[cfg(feature = "wgpu")]
mod work;
