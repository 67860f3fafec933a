//! The forward pass of every architecture against a naive one in f64, written from the formulas alone.

use bitnet::file::synth::{self, SynthArch, SynthOptions};
use bitnet::file::{Bytes, Gguf};
use bitnet::{Activations, KvType, LogitsFor, Model, ModelOptions};
use bitnet_quant::I2sLayout;

/// A model as plain f64 matrices, looked up by GGUF name.
struct Naive<'a> {
    file: &'a Gguf,
    arch: String,
}

impl Naive<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        let key = format!("{}.{key}", self.arch);
        let value = self.file.f32(&key).ok().flatten().map(f64::from);
        value.or_else(|| self.file.usize(&key).ok().flatten().map(|n| n as f64))
    }

    fn size(&self, key: &str) -> usize {
        self.number(key).unwrap_or_else(|| panic!("{key}")) as usize
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensor(&format!("{name}.weight")).is_some()
    }

    /// Rows of a matrix (one row for a vector).
    fn tensor(&self, name: &str) -> Vec<Vec<f64>> {
        let tensor = self
            .file
            .tensor(&format!("{name}.weight"))
            .unwrap_or_else(|| panic!("{name}"));
        let format = tensor.format(I2sLayout::A, "naive").expect("a codec");
        let scale = tensor.i2s_scale("naive").unwrap_or(1.0);
        let data = tensor.row_data();
        let bytes = format.row_bytes(tensor.cols()).expect("whole blocks");
        let decode = |row: &[u8]| {
            let mut values = vec![0.0; tensor.cols()];
            format.decode_row(row, scale, &mut values).expect("a row");
            values.into_iter().map(f64::from).collect()
        };
        data.chunks(bytes).map(decode).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let dot = |row: Vec<f64>| row.iter().zip(x).map(|(w, x)| w * x).sum();
        self.tensor(name).into_iter().map(dot).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let eps = self
            .number("attention.layer_norm_rms_epsilon")
            .expect("an epsilon");
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let gain = self.tensor(name).remove(0);
        x.iter()
            .zip(gain)
            .map(|(x, g)| x / (mean + eps).sqrt() * g)
            .collect()
    }

    fn norm_if_there(&self, name: &str, x: Vec<f64>) -> Vec<f64> {
        if self.has(name) {
            self.norm(name, &x)
        } else {
            x
        }
    }

    /// Heads of one projection, normed and rotated.
    fn heads(&self, x: Vec<f64>, dim: usize, norm: &str, position: usize) -> Vec<Vec<f64>> {
        let rotate = |head: Vec<f64>| {
            let mut out = head.clone();
            for i in 0..dim / 2 {
                let (a, b) = if self.arch == "llama" {
                    (2 * i, 2 * i + 1)
                } else {
                    (i, i + dim / 2)
                };
                let base = self.number("rope.freq_base").unwrap_or(10_000.0);
                let angle = position as f64 * base.powf(-2.0 * i as f64 / dim as f64);
                out[a] = head[a] * angle.cos() - head[b] * angle.sin();
                out[b] = head[a] * angle.sin() + head[b] * angle.cos();
            }
            out
        };
        x.chunks(dim)
            .map(|head| rotate(self.norm_if_there(norm, head.to_vec())))
            .collect()
    }

    /// Logits of every position.
    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let query_heads = self.size("attention.head_count");
        let kv_heads = self.size("attention.head_count_kv");
        let hidden = self.size("embedding_length");
        let dim = self
            .number("attention.key_length")
            .map_or(hidden / query_heads, |d| d as usize);
        let embedding = self.tensor("token_embd");
        let relu2 = self.arch.starts_with("bitnet-");
        let mut rows: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&t| embedding[t as usize].clone())
            .collect();
        for layer in 0..self.size("block_count") {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in rows.iter_mut().enumerate() {
                let a = self.norm(&name("attn_norm"), x);
                let q = self.linear(&name("attn_q"), &a);
                let q = self.heads(q, dim, &name("attn_q_norm"), position);
                let k = self.linear(&name("attn_k"), &a);
                keys.push(self.heads(k, dim, &name("attn_k_norm"), position));
                values.push(self.linear(&name("attn_v"), &a));
                let mut out = Vec::new();
                for (head, q) in q.iter().enumerate() {
                    let kv = head / (query_heads / kv_heads);
                    let score = |k: &Vec<Vec<f64>>| {
                        k[kv].iter().zip(q).map(|(k, q)| k * q).sum::<f64>() / (dim as f64).sqrt()
                    };
                    let weights: Vec<f64> = keys.iter().map(|k| score(k).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    out.extend((kv * dim..(kv + 1) * dim).map(|i| {
                        let weighted = weights
                            .iter()
                            .zip(&values)
                            .map(|(w, v): (_, &Vec<f64>)| w * v[i]);
                        weighted.sum::<f64>() / total
                    }));
                }
                let out = self.norm_if_there(&name("attn_sub_norm"), out);
                let out = self.linear(&name("attn_output"), &out);
                x.iter_mut().zip(out).for_each(|(x, y)| *x += y);
                let f = self.norm(&name("ffn_norm"), x);
                let gate = self.linear(&name("ffn_gate"), &f);
                let up = self.linear(&name("ffn_up"), &f);
                let gated = gate.iter().zip(up).map(|(g, u)| {
                    u * if relu2 {
                        g.max(0.0).powi(2)
                    } else {
                        g / (1.0 + (-g).exp())
                    }
                });
                let gated = self.norm_if_there(&name("ffn_sub_norm"), gated.collect());
                let down = self.linear(&name("ffn_down"), &gated);
                x.iter_mut().zip(down).for_each(|(x, y)| *x += y);
            }
        }
        let head = if self.has("output") {
            "output"
        } else {
            "token_embd"
        };
        rows.iter()
            .map(|x| self.linear(head, &self.norm("output_norm", x)))
            .collect()
    }
}

fn agrees(arch: SynthArch) {
    let options = SynthOptions {
        arch,
        ..SynthOptions::default()
    };
    let bytes = Bytes::from(synth::to_vec(&options).expect("a synthetic model"));
    let file = Gguf::parse("tiny.gguf", bytes.clone()).expect("a GGUF file");
    let arch = file
        .string("general.architecture")
        .expect("a string")
        .expect("present")
        .to_owned();
    let tokens: Vec<u32> = (0..24).map(|i| (i * 37 + 5) % 400).collect();
    let expected = Naive {
        file: &file,
        arch: arch.clone(),
    }
    .logits(&tokens)
    .concat();
    let options = ModelOptions {
        activations: Activations::F32,
        kv: Some(KvType::F32),
        ..ModelOptions::default()
    };
    let model = Model::from_bytes("tiny.gguf", bytes, &options).expect("a model");
    let mut session = model.session().expect("a session");
    let found = session.forward(&tokens, LogitsFor::All).expect("logits");
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().copied().fold(f64::MIN, f64::max);
    let range = largest - expected.iter().copied().fold(f64::MAX, f64::min);
    assert!(range > 0.1, "{arch}: logits that vary, not {range}");
    for (found, expected) in found.iter().zip(&expected) {
        let difference = (f64::from(*found) - expected).abs();
        assert!(
            difference <= 1e-4 * range,
            "{arch}: {found} for {expected}, range {range}"
        );
    }
}

#[test]
fn bitnet_b1_58() {
    agrees(SynthArch::BitnetB158);
}

#[test]
fn bitnet_with_silu() {
    agrees(SynthArch::Bitnet);
}

#[test]
fn llama_with_interleaved_rotation() {
    agrees(SynthArch::Llama);
}

#[test]
fn qwen3_with_head_norms() {
    agrees(SynthArch::Qwen3);
}
