//! The text of each kernel: which files of `shaders-wgsl/` or `shaders-metal/`, and which constants before them. In Metal's
//! language what is used comes first.

use super::parts::{Parts, Value};
use super::*;

/// More than the relative error of a sum of `cols` products, in whatever order: each meets fewer roundings than there are
/// products and steps of a tree.
fn gamma(cols: u32) -> f32 {
    (cols + 64) as f32 / (1u32 << 23) as f32
}

impl Kernel {
    /// Its text, for devices with these `lanes`.
    pub(in crate::gpu) fn source(self, lanes: Lanes) -> Source {
        let mut parts = Parts::new(lanes);
        match self {
            Self::Embed {
                table,
                first,
                out_stride,
            } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("FIRST", first), ("OUT_STRIDE", out_stride)]);
                parts.only_table(table);
                parts.add(&shaders!("embed"));
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
                let value = gate.map_or(Value::Plain, Value::Gated);
                let each = parts.rounded(x, eps, value, (out_stride / 4, THREADS));
                let [norm] = shaders!("norm");
                parts.each(each, norm);
            }
            Self::Quantize {
                threads,
                x,
                eps,
                gate,
                pieces,
                words,
            } => {
                parts.threads(threads, lanes);
                parts.set(&[("QWORDS", 4 * words), ("STEP", 4)]);
                let value = match (gate, pieces) {
                    (Some(gate), _) => Value::Gated(gate),
                    (None, Some(heads)) => Value::Pieces(heads),
                    (None, None) => Value::Plain,
                };
                let each = parts.rounded(x, eps, value, (4 * words, threads));
                let [quantize] = shaders!("quantize");
                parts.each(each, quantize);
            }
            Self::Gemv {
                teams: Teams { threads, each },
                x,
                pieces,
                eps,
                row,
                rows,
                out,
                out_stride,
                epilogue,
            } => {
                let padded = gemv_words(row, lanes);
                parts.threads(threads, lanes);
                let value = pieces.map_or(Value::Plain, Value::Pieces);
                let kept = parts.rounded(x, eps, value, (4 * padded, threads));
                parts.ternary(row);
                parts.set(&[("PADDED", padded), ("EACH", each), ("STEP", 7)]);
                parts.matrices(rows, out, out_stride);
                parts.set(&epilogue.constants());
                parts.dot4();
                let [gate, gemv, tensor, group] =
                    shaders!("gate", "gemv", "gemv_tensor", "gemv_group");
                parts.add(&[gate]);
                parts.add(&metal!("gemv_row"));
                if row.group == 0 {
                    parts.each(padded / lanes.size, tensor);
                } else {
                    parts.add(&[group]);
                }
                parts.repeat(&[("//each ", '@', kept), ("//row ", '#', each)], gemv);
            }
            Self::GemvRows {
                tokens,
                each,
                row,
                rows,
                out,
                out_stride,
                epilogue,
            } => {
                parts.threads(Self::rows_threads(lanes), lanes);
                parts.ternary(row);
                let together = match epilogue {
                    Epilogue::Gate { .. } => 2,
                    _ => 1,
                };
                parts.set(&[("TOKENS", tokens), ("EACH", each), ("TOGETHER", together)]);
                parts.matrices(rows, out, out_stride);
                parts.set(&epilogue.constants());
                parts.lanes();
                parts.dot4();
                parts.add(&wgsl!("unpacked"));
                let [step, gate, gemv] = shaders!("step", "gate", "gemv_rows");
                parts.add(&[step, gate]);
                parts.repeat(&[("//row ", '#', each), ("//token ", '@', tokens)], gemv);
            }
            Self::Gemm {
                tile,
                row,
                rows,
                out,
                out_stride,
                epilogue,
            } => {
                parts.threads(tile.threads(lanes), lanes);
                parts.ternary(row);
                parts.matrices(rows, out, out_stride);
                parts.set(&epilogue.constants());
                parts.set(&[("TILE_ROWS", tile.rows), ("TILE_TOKENS", tile.tokens)]);
                let [step, store, gemm, matrix] =
                    shaders!("step", "gemm_store", "gemm", "gemm_matrix");
                parts.add(&[step, store]);
                if let Some(teams) = tile.teams {
                    let (constants, repeats) = tile.specialised(teams, lanes);
                    parts.set(&constants);
                    parts.matrix_types();
                    parts.repeat(&repeats, matrix);
                } else if lanes.metal && GemmTile::multiplies_matrices(row, lanes) {
                    parts.add(&[matrix]);
                } else {
                    parts.dot4();
                    parts.add(&wgsl!("unpacked"));
                    parts.each(tile.rows / GemmTile::BLOCK, gemm);
                }
            }
            Self::Dense {
                table,
                x,
                out,
                out_stride,
                epilogue,
                tokens,
            } => {
                parts.threads(THREADS, lanes);
                parts.rows(x, true);
                parts.table(table, x.cols);
                parts.set(&[("OUT", out), ("OUT_STRIDE", out_stride), ("TOKENS", tokens)]);
                parts.set(&epilogue.constants());
                parts.lanes();
                let [dense] = shaders!("dense");
                parts.each(tokens, dense);
            }
            Self::Rope { heads, turn } => {
                parts.threads(64.max(lanes.size), lanes);
                parts.set(&heads.constants());
                parts.set(&turn.constants());
                parts.lanes();
                parts.cache(heads, 6);
                parts.add(&shaders!("turn", "rope"));
            }
            Self::Attend { heads, class, turn } => {
                // Few enough teams for their sums, of up to 256 columns, to fit the smallest workgroup memory.
                let teams = (THREADS / lanes.size).min(if heads.dim4() > 32 { 4 } else { 8 });
                let own = heads.dim4().div_ceil(lanes.size);
                let fours = ((1 << class) / own).max(1);
                parts.threads(teams * lanes.size, lanes);
                parts.set(&heads.constants());
                let sharers = heads.dim4().next_power_of_two().min(lanes.size);
                parts.set(&[("CLASS", class), ("FOURS", fours), ("SHARERS", sharers)]);
                parts.lanes();
                parts.cache(heads, 4);
                match turn {
                    None => {
                        parts.queries(heads);
                        parts.add(&shaders!("attend_turned"));
                    }
                    Some(turn) => {
                        parts.set(&turn.constants());
                        parts.add(&shaders!("turn", "attend_turning"));
                    }
                }
                let [attend] = shaders!("attend");
                parts.repeat(&[("//four ", '@', fours), ("//own ", '#', own)], attend);
            }
            Self::Combine { heads } => {
                parts.threads(128, lanes);
                parts.set(&heads.constants());
                parts.pieces();
                parts.add(&shaders!("combine"));
            }
            Self::AttendTile { heads } => {
                parts.threads(heads.tile_threads(lanes), lanes);
                parts.set(&heads.constants());
                parts.queries(heads);
                parts.cache(heads, 4);
                let [by_matrices] = shaders!("attend_tile_matrix");
                if !heads.multiplies_matrices(lanes) {
                    parts.set(&[("OWN", heads.dim4().div_ceil(8))]);
                    parts.add(&shaders!("attend_tile"));
                } else if lanes.metal {
                    parts.add(&[by_matrices]);
                } else {
                    let (side, queries) = (lanes.matrices, lanes.tile_queries());
                    parts.set(&[("QUERIES", queries), ("POSITIONS", queries)]);
                    parts.matrix_types();
                    let halves = [
                        ("//step ", '$', heads.dim / side),
                        ("//score ", '@', queries / 2 / side),
                        ("//own ", '@', heads.dim / 2 / side),
                        ("//part ", '#', queries / side),
                    ];
                    parts.repeat(&halves, by_matrices);
                }
            }
            Self::Exclude { vocabulary, kept } => {
                parts.threads(64, lanes);
                parts.set(&[("VOCABULARY", vocabulary), ("KEPT", kept)]);
                parts.add(&shaders!("top_key", "exclude"));
            }
            Self::Top {
                count,
                kept,
                logits,
            } => {
                parts.set(&[("COUNT", count), ("KEPT", kept)]);
                parts.candidates(logits);
                parts.add(&shaders!("top"));
            }
            Self::Best { count, logits } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("COUNT", count), ("SPAN", CANDIDATES)]);
                parts.candidates(logits);
                parts.add(&shaders!("best_of", "best"));
            }
            Self::Likeliest { count, vocabulary } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("COUNT", count), ("VOCABULARY", vocabulary)]);
                parts.candidates(false);
                parts.set(&[("ASKED_BINDING", 4)]);
                parts.add(&shaders!("asked", "best_of", "likeliest"));
            }
            Self::Shadow { table } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("VECTORS", shadow_vectors(table.cols))]);
                parts.only_table(table);
                parts.lanes();
                parts.add(&shaders!("shadow"));
            }
            Self::ScreenRow { x, eps, out_stride } => {
                parts.threads(THREADS, lanes);
                let padded = shadow_vectors(x.cols).next_multiple_of(lanes.size);
                parts.set(&[
                    ("OUT_STRIDE", out_stride),
                    ("PADDED", padded),
                    ("GAMMA", gamma(x.cols).to_bits()),
                ]);
                let vectors = (out_stride / 4).max(4 * padded);
                let each = parts.rounded(x, eps, Value::Plain, (vectors, THREADS));
                let [row] = shaders!("screen_row");
                parts.each(each, row);
            }
            Self::Screen { rows, cols } => {
                parts.threads(THREADS, lanes);
                let vectors = shadow_vectors(cols);
                let padded = vectors.next_multiple_of(lanes.size);
                parts.set(&[
                    ("ROWS", rows),
                    ("VECTORS", vectors),
                    ("PADDED", padded),
                    ("EACH", SCREEN_ROWS),
                ]);
                parts.lanes();
                parts.dot4();
                let [screen] = shaders!("screen");
                parts.each(padded / lanes.size, screen);
            }
            Self::Screened { table, x, leasts } => {
                parts.threads(THREADS, lanes);
                parts.rows(x, true);
                parts.table(table, x.cols);
                parts.set(&[("SPAN", CANDIDATES), ("LEASTS", leasts)]);
                parts.lanes();
                parts.add(&shaders!("top_key", "best_of", "screened"));
            }
            Self::Answer { vocabulary, kept } => {
                parts.threads(64, lanes);
                parts.set(&[
                    ("VOCABULARY", vocabulary),
                    ("KEPT", kept),
                    ("ASKED_BINDING", 4),
                ]);
                parts.add(&shaders!("asked", "answer"));
            }
            #[cfg(feature = "wgpu")]
            Self::Probe => {
                parts.threads(THREADS, lanes);
                parts.add(&wgsl!("probe"));
            }
            Self::Stream { vectors, copies } => {
                parts.threads(THREADS, lanes);
                parts.set(&[("VECTORS", vectors), ("COPIES", u32::from(copies))]);
                parts.add(&shaders!("stream"));
            }
        }
        Source {
            name: self.name(),
            threads: parts.threads_of_workgroup(),
            text: parts.finish(),
            bindings: self.bindings(),
        }
    }
}
