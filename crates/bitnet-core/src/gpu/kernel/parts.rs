//! The text of a kernel, put together from the files in `shaders-wgsl/` or `shaders-metal/` under the constants that they
//! name.

use super::piece::Piece;
use super::{
    GatePlace, HeadsPlace, MOST_PIECES, RowPlace, THREADS, TableKind, TablePlace, TernaryRow,
};
use crate::gpu::blocks::BLOCK;
use crate::gpu::lanes::Lanes;

/// What a row that is rounded consists of.
pub(super) enum Value {
    /// The numbers of a row.
    Plain,
    /// Those of two rows, multiplied.
    Gated(GatePlace),
    /// Pieces of attention.
    Pieces(HeadsPlace),
}

/// Pieces of one kernel on their way together.
pub(super) struct Parts {
    lanes: Lanes,
    threads: u32,
    /// Whether WGSL must declare matrices of subgroups.
    matrices: bool,
    constants: String,
    body: String,
}

impl Parts {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            threads: THREADS,
            matrices: false,
            constants: String::new(),
            body: String::new(),
        }
    }

    pub(super) fn set(&mut self, constants: &[(&str, u32)]) {
        for (name, value) in constants {
            self.constants += &if self.lanes.metal {
                format!("#define {name} {value}u\n")
            } else {
                format!("const {name}: u32 = {value}u;\n")
            };
        }
    }

    pub(super) fn add(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            self.body += piece.text(self.lanes);
            self.body += "\n";
        }
    }

    /// Adds a piece whose lines behind `//each ` are repeated `count` times, with the number in place of `@`.
    pub(super) fn each(&mut self, count: u32, piece: Piece) {
        self.repeat(&[("//each ", '@', count)], piece);
    }

    /// Adds a piece whose lines behind some signs are repeated so many times, with the number in place of a mark; behind
    /// several signs, for every combination. Metal's language has none of these: its compiler unrolls loops.
    pub(super) fn repeat(&mut self, repeats: &[(&str, char, u32)], piece: Piece) {
        self.repeat_lines(repeats, piece.text(self.lanes));
    }

    fn repeat_lines(&mut self, repeats: &[(&str, char, u32)], text: &str) {
        for line in text.lines() {
            let repeated = repeats
                .iter()
                .find_map(|(sign, mark, count)| Some((line.strip_prefix(sign)?, mark, count)));
            match repeated {
                None => {
                    self.body += line;
                    self.body += "\n";
                }
                Some((line, mark, count)) => (0..*count).for_each(|index| {
                    self.repeat_lines(repeats, &line.replace(*mark, &index.to_string()));
                }),
            }
        }
    }

    /// Says how many invocations a workgroup has, if not the usual number.
    pub(super) fn threads(&mut self, threads: u32, lanes: Lanes) {
        self.threads = threads;
        self.set(&[("THREADS", threads), ("LANES", lanes.size)]);
    }

    pub(super) fn threads_of_workgroup(&self) -> u32 {
        self.threads
    }

    pub(super) fn lanes(&mut self) {
        self.add(&metal!("lanes"));
        let [subgroup, memory] = wgsl!("lanes_subgroup", "lanes_workgroup");
        let subgroups = self.lanes.subgroups;
        self.add(&[if subgroups { subgroup } else { memory }]);
    }

    pub(super) fn dot4(&mut self) {
        let [packed, emulated] = wgsl!("dot4_packed", "dot4_emulated");
        let has_packed = self.lanes.packed_dot;
        self.add(&[if has_packed { packed } else { emulated }]);
    }

    /// The types of matrices that a subgroup multiplies as one.
    pub(super) fn matrix_types(&mut self) {
        self.matrices = true;
        let [eight, sixteen] = wgsl!("matrix_8", "matrix_16");
        let types = if self.lanes.matrices == 8 {
            eight
        } else {
            sixteen
        };
        self.add(&[types]);
    }

    /// Rows of activations; `aligned` says that gains are read as vectors too, or not at all.
    pub(super) fn rows(&mut self, x: RowPlace, aligned: bool) {
        self.set(&[
            ("COLS", x.cols),
            ("X_OFFSET", x.offset),
            ("X_STRIDE", x.stride),
        ]);
        if aligned
            && [x.cols, x.offset, x.stride]
                .iter()
                .all(|n| n.is_multiple_of(4))
        {
            self.add(&shaders!("rows_vec4"));
        } else {
            self.add(&shaders!("rows_scalar"));
        }
    }

    /// Rows that are normed and rounded, in `threads` parts, up to as many vectors of four. Returns how many of those an
    /// invocation keeps.
    pub(super) fn rounded(
        &mut self,
        x: RowPlace,
        eps: Option<u32>,
        value: Value,
        (vectors, threads): (u32, u32),
    ) -> u32 {
        let each = vectors.max(x.cols.div_ceil(4)).div_ceil(threads);
        self.rows(x, true);
        self.set(&[
            ("NORM", u32::from(eps.is_some())),
            ("EPS", eps.unwrap_or_default()),
            ("KEPT_VECTORS", each),
            ("GATED", u32::from(matches!(value, Value::Gated(_)))),
            ("PIECES", u32::from(matches!(value, Value::Pieces(_)))),
            ("PLAIN", u32::from(matches!(value, Value::Plain))),
        ]);
        self.lanes();
        match value {
            Value::Plain => self.add(&shaders!("value_plain")),
            Value::Pieces(heads) => {
                self.set(&[("DIM4", heads.dim4()), ("QUERY_HEADS", heads.query)]);
                self.pieces();
                self.add(&shaders!("value_pieces"));
            }
            Value::Gated(gate) => {
                self.set(&[
                    ("SILU", u32::from(gate.silu)),
                    ("U_OFFSET", gate.up.offset),
                    ("U_STRIDE", gate.up.stride),
                ]);
                self.add(&shaders!("gate", "value_gated"));
            }
        }
        let [row] = shaders!("quantize_row");
        self.each(each, row);
        each
    }

    pub(super) fn ternary(&mut self, row: TernaryRow) {
        self.set(&[
            ("WORDS", row.words),
            ("GROUPED", u32::from(row.group > 0)),
            ("GROUP", row.group.max(1)),
            ("GROUPS", row.groups().max(1)),
        ]);
    }

    /// Up to three ternary matrices and where their products go.
    pub(super) fn matrices(&mut self, rows: [u32; 3], out: [u32; 3], out_stride: u32) {
        self.set(&[
            ("ROWS0", rows[0]),
            ("ROWS1", rows[1]),
            ("ROWS2", rows[2]),
            ("OUT0", out[0]),
            ("OUT1", out[1]),
            ("OUT2", out[2]),
            ("OUT_STRIDE", out_stride),
        ]);
        self.add(&shaders!("matrices"));
    }

    /// A table, for rows of x of `cols` columns (its own, or more zeros).
    pub(super) fn table(&mut self, table: TablePlace, cols: u32) {
        debug_assert!(cols >= table.cols);
        self.set(&[("ROWS", table.rows), ("SPANS", table.spans())]);
        match table.kind {
            TableKind::Ternary(row) => {
                self.ternary(row);
                self.set(&[("MATRIX_ROWS", table.rows)]);
                self.add(&shaders!("table_ternary"));
                return;
            }
            TableKind::F32 => self.add(&shaders!("table_f32")),
            TableKind::F16 => self.add(&shaders!("table_f16")),
            TableKind::Bf16 => self.add(&shaders!("table_bf16")),
            TableKind::Q8_0 => self.add(&shaders!("table_q8_0")),
            TableKind::Q4_0 => self.add(&shaders!("table_q4_0")),
            TableKind::Q6K => self.add(&shaders!("table_q6_k")),
        }
        let [factor, scale] = table.factors.unwrap_or_default();
        self.set(&[
            ("STRIDE", table.stride),
            ("STORED", table.stored),
            ("HEADED", u32::from(table.factors.is_none())),
            ("FACTOR", factor),
            ("SCALE", scale),
        ]);
    }

    /// Pieces of attention put together.
    pub(super) fn pieces(&mut self) {
        let [step, pieces] = shaders!("step", "pieces");
        self.add(&[step]);
        self.set(&[("PIECES_AT_ONCE", MOST_PIECES)]);
        self.each(MOST_PIECES, pieces);
    }

    /// A table that multiplies nothing. Its files can multiply rows of x; there are none.
    pub(super) fn only_table(&mut self, table: TablePlace) {
        let x = RowPlace {
            cols: table.cols,
            offset: 0,
            stride: table.cols,
        };
        self.rows(x, table.cols.is_multiple_of(4));
        self.table(table, table.cols);
    }

    pub(super) fn queries(&mut self, heads: HeadsPlace) {
        if heads.dim.is_multiple_of(4) {
            self.add(&shaders!("queries_vec4"));
        } else {
            self.add(&shaders!("queries_scalar"));
        }
    }

    /// Keys and values, with the places of rows at this binding.
    pub(super) fn cache(&mut self, heads: HeadsPlace, places: u32) {
        self.set(&[("PLACES", places), ("BLOCK_POSITIONS", BLOCK as u32)]);
        self.add(&shaders!("step", "place"));
        if heads.half {
            self.add(&shaders!("cache_f16"));
        } else {
            self.add(&shaders!("cache_f32"));
        }
    }

    pub(super) fn candidates(&mut self, logits: bool) {
        self.add(&shaders!("top_key"));
        if logits {
            self.add(&shaders!("top_logits"));
        } else {
            self.add(&shaders!("top_found"));
        }
    }

    pub(super) fn finish(self) -> String {
        let beginning = if self.lanes.metal {
            "#include <metal_stdlib>\nusing namespace metal;\n"
        } else if self.matrices {
            "enable f16;\nenable wgpu_cooperative_matrix;\n"
        } else if self.lanes.declared {
            "enable subgroups;\n"
        } else {
            ""
        };
        format!("{beginning}{}\n{}", self.constants, self.body)
    }
}
