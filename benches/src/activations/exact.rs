//! The demo model's forward pass in f32 over its exact weights, with any treatment of the rows that its matrices multiply.

use super::rotated::{rotate, rows, signs, unrotate};
use anyhow::{Context, Result};
use bitnet::Activations;
use bitnet::file::Gguf;
use bitnet_quant::quantize_absmax_i8;

/// The preparation of rows for a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Treatment {
    /// Whether they are rotated, rounded and rotated back.
    pub(crate) rotates: bool,
    pub(crate) rounding: Activations,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            rotates: false,
            rounding: Activations::F32,
        }
    }
}

impl Treatment {
    /// The rows that the matrix multiplies.
    fn apply(self, row: &mut [f32]) {
        let signs = self.rotates.then(|| signs(row.len()));
        if let Some(signs) = &signs {
            rotate(row, signs);
        }
        round(row, self.rounding);
        if let Some(signs) = &signs {
            unrotate(row, signs);
        }
    }
}

/// A row, rounded and back.
pub(crate) fn round(row: &mut [f32], rounding: Activations) {
    let group = match rounding {
        Activations::Int8 => row.len(),
        Activations::Int8Groups => Activations::GROUP,
        Activations::F32 => return,
    };
    for group in row.chunks_mut(group) {
        let mut q = vec![0; group.len()];
        // What is not finite stays as it is.
        if let Ok(scale) = quantize_absmax_i8(group, &mut q) {
            group
                .iter_mut()
                .zip(q)
                .for_each(|(x, q)| *x = f32::from(q) / scale);
        }
    }
}

type Matrix = Vec<Vec<f32>>;

/// A layer: norms of its inputs and of the inputs of its output projections, and matrices.
struct Layer {
    norms: [Vec<f32>; 4],
    qkv: [Matrix; 3],
    output: Matrix,
    gate_up: [Matrix; 2],
    down: Matrix,
}

/// Whose rows [`Exact::logits`] shows.
pub(crate) const SITES: [&str; 4] = ["query, key, value", "attention output", "gate, up", "down"];

/// The demo model.
pub(crate) struct Exact {
    embedding: Matrix,
    norm: Vec<f32>,
    layers: Vec<Layer>,
    heads: usize,
    base: f32,
    eps: f32,
}

impl Exact {
    pub(crate) fn new(file: &Gguf) -> Result<Self> {
        let key = |name: &str| format!("bitnet-b1.58.{name}");
        let number = |name: &str| file.usize(&key(name))?.with_context(|| key(name));
        let float = |name: &str| file.f32(&key(name))?.with_context(|| key(name));
        let matrix = |name: &str| {
            let name = format!("{name}.weight");
            rows(file.tensor(&name).with_context(|| name.clone())?)
        };
        let layer = |index: usize| {
            let part = |name: &str| matrix(&format!("blk.{index}.{name}"));
            let norm = |name: &str| Ok::<_, anyhow::Error>(part(name)?.concat());
            Ok(Layer {
                norms: [
                    norm("attn_norm")?,
                    norm("attn_sub_norm")?,
                    norm("ffn_norm")?,
                    norm("ffn_sub_norm")?,
                ],
                qkv: [part("attn_q")?, part("attn_k")?, part("attn_v")?],
                output: part("attn_output")?,
                gate_up: [part("ffn_gate")?, part("ffn_up")?],
                down: part("ffn_down")?,
            })
        };
        Ok(Self {
            embedding: matrix("token_embd")?,
            norm: matrix("output_norm")?.concat(),
            layers: (0..number("block_count")?)
                .map(layer)
                .collect::<Result<_>>()?,
            heads: number("attention.head_count")?,
            base: float("rope.freq_base")?,
            eps: float("attention.layer_norm_rms_epsilon")?,
        })
    }

    /// Logits of every token, in windows. `seen` gets the site of each row that matrices multiply, and the row before its
    /// treatment.
    pub(crate) fn logits(
        &self,
        tokens: &[u32],
        treatment: Treatment,
        seen: &mut dyn FnMut(usize, &[f32]),
    ) -> Vec<Vec<f32>> {
        let windows = tokens.chunks(super::WINDOW);
        windows
            .flat_map(|window| self.window(window, treatment, seen))
            .collect()
    }

    fn window(
        &self,
        tokens: &[u32],
        treatment: Treatment,
        seen: &mut dyn FnMut(usize, &[f32]),
    ) -> Vec<Vec<f32>> {
        let embedding = |token: &u32| self.embedding[*token as usize].clone();
        let mut rows: Vec<Vec<f32>> = tokens.iter().map(embedding).collect();
        for layer in &self.layers {
            let mut input = |site: usize, x: &[f32]| {
                let mut row = self.normed(x, &layer.norms[site]);
                seen(site, &row);
                treatment.apply(&mut row);
                row
            };
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in rows.iter_mut().enumerate() {
                let row = input(0, x);
                let [mut query, mut key, value] = layer.qkv.each_ref().map(|m| product(m, &row));
                let dim = query.len() / self.heads;
                for head in query.chunks_mut(dim).chain(key.chunks_mut(dim)) {
                    self.turn(head, position);
                }
                keys.push(key);
                values.push(value);
                let attended = attended(&query, dim, &keys, &values);
                add(x, &product(&layer.output, &input(1, &attended)));
                let row = input(2, x);
                let [mut gate, up] = layer.gate_up.each_ref().map(|m| product(m, &row));
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = gate.max(0.0).powi(2) * up;
                }
                add(x, &product(&layer.down, &input(3, &gate)));
            }
        }
        let logits = |x: &Vec<f32>| product(&self.embedding, &self.normed(x, &self.norm));
        rows.iter().map(logits).collect()
    }

    fn normed(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        let factor = 1.0 / (mean + self.eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * factor * w).collect()
    }

    /// RoPE of a head.
    fn turn(&self, head: &mut [f32], position: usize) {
        let (a, b) = head.split_at_mut(head.len() / 2);
        let pairs = a.len() as f32;
        for (index, (a, b)) in a.iter_mut().zip(b).enumerate() {
            let angle = position as f32 * self.base.powf(-(index as f32) / pairs);
            let (sin, cos) = angle.sin_cos();
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        }
    }
}

/// Softmax attention of one token's heads.
fn attended(query: &[f32], dim: usize, keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
    let heads = query.len() / dim;
    let kv_heads = keys[0].len() / dim;
    let mut out = Vec::with_capacity(query.len());
    for (head, query) in query.chunks(dim).enumerate() {
        let columns = head / (heads / kv_heads) * dim..;
        let columns = columns.start..columns.start + dim;
        let scores = keys.iter().map(|key| dot(&key[columns.clone()], query));
        let scores: Vec<f32> = scores.map(|score| score / (dim as f32).sqrt()).collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let total: f32 = weights.iter().sum();
        let mut sum = vec![0.0; dim];
        for (weight, value) in weights.iter().zip(values) {
            for (sum, value) in sum.iter_mut().zip(&value[columns.clone()]) {
                *sum += weight / total * value;
            }
        }
        out.extend(sum);
    }
    out
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn product(matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    matrix.iter().map(|row| dot(row, x)).collect()
}

/// Σ a·b in sixteen lanes, which compilers turn into registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    let lanes = a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0);
    for (a, b) in lanes {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
