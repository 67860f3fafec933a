//! The tensors of a synthetic file, as data.

use bitnet_quant::Format;

use super::shape::{Dimensions, HybridDimensions, MixtureDimensions};
use super::{EmbeddingType, SynthArch, SynthOptions};

/// What stands in a tensor.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Random −1, 0 and +1 times one scale.
    Ternary { scale: f32 },
    /// Random numbers of this mean and deviation.
    Normal { mean: f32, deviation: f32 },
}

/// One tensor to be made.
pub(super) struct Planned {
    pub(super) name: String,
    /// Elements along each dimension, fastest first.
    pub(super) ne: Vec<u64>,
    pub(super) format: Format,
    pub(super) content: Content,
}

/// The share of weights that are not 0, as [`super::random::Random::ternary`] draws them.
const NONZERO: f32 = 154.0 / 256.0;
/// The deviation of the logits: enough to prefer some tokens, not so much that one always wins.
const LOGIT_DEVIATION: f32 = 2.5;

/// Norm weights near 1.
const NORM: Content = Content::Normal {
    mean: 1.0,
    deviation: 0.05,
};

impl Planned {
    fn floats(name: String, ne: &[usize], format: Format, content: Content) -> Self {
        Self {
            name,
            ne: ne.iter().map(|n| *n as u64).collect(),
            format,
            content,
        }
    }

    fn norm(name: String, len: usize) -> Self {
        Self::floats(name, &[len], Format::F32, NORM)
    }

    /// A ternary matrix whose product with inputs of deviation 1 has deviation 1.
    fn ternary(name: String, ne: &[usize], format: Format) -> Self {
        let scale = unit_scale(ne[0]);
        Self::floats(name, ne, format, Content::Ternary { scale })
    }

    /// Elements of a row.
    pub(super) fn cols(&self) -> usize {
        self.ne.first().map_or(0, |cols| *cols as usize)
    }

    /// Rows of all matrices.
    pub(super) fn rows(&self) -> usize {
        self.ne.iter().skip(1).product::<u64>() as usize
    }

    /// Whether it is ternary.
    pub(super) fn is_matrix(&self) -> bool {
        matches!(self.content, Content::Ternary { .. })
    }
}

/// The tensors of a model in the order of its file.
pub(super) fn tensors(options: &SynthOptions, shape: &Dimensions) -> Vec<Planned> {
    let hidden = shape.hidden;
    let embedding = |name: &str, kind: EmbeddingType| {
        let deviation = LOGIT_DEVIATION / (hidden as f32).sqrt();
        let (name, ne) = (name.to_owned(), [hidden, shape.vocabulary]);
        let (format, content) = match kind {
            EmbeddingType::Ternary => {
                let scale = half::f16::from_f32(deviation / NONZERO.sqrt()).to_f32();
                (options.ternary.format(), Content::Ternary { scale })
            }
            EmbeddingType::F16 => (Format::F16, normal(deviation)),
            EmbeddingType::Q8_0 => (Format::Q8_0, normal(deviation)),
            EmbeddingType::Q6K => (Format::Q6K, normal(deviation)),
            EmbeddingType::Q4K => (Format::Q4K, normal(deviation)),
        };
        Planned::floats(name, &ne, format, content)
    };
    let mut planned = vec![embedding("token_embd.weight", options.embedding)];
    for layer in 0..shape.layers {
        let mut layer = Layer {
            options,
            shape,
            index: layer,
            planned: &mut planned,
        };
        layer.norms();
        match &shape.hybrid {
            Some(hybrid) if hybrid.is_recurrent(layer.index) => layer.delta_net(hybrid),
            _ => layer.attention(),
        }
        match &shape.mixture {
            Some(mixture) => layer.experts(mixture),
            None => {
                layer.matrix("ffn_gate", &[hidden, shape.ffn]);
                layer.matrix("ffn_up", &[hidden, shape.ffn]);
                layer.matrix("ffn_down", &[shape.ffn, hidden]);
            }
        }
    }
    planned.push(Planned::norm("output_norm.weight".to_owned(), hidden));
    if !shape.tied {
        let head = options.head.unwrap_or(options.embedding);
        planned.push(embedding("output.weight", head));
    }
    planned
}

/// A layer whose tensors are planned.
struct Layer<'a> {
    options: &'a SynthOptions,
    shape: &'a Dimensions,
    index: usize,
    planned: &'a mut Vec<Planned>,
}

impl Layer<'_> {
    fn name(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.index)
    }

    /// A matrix, or a stack of them.
    fn matrix(&mut self, name: &str, ne: &[usize]) {
        let name = self.name(&format!("{name}.weight"));
        let format = self.options.ternary.format();
        self.planned.push(Planned::ternary(name, ne, format));
    }

    fn floats(&mut self, name: &str, ne: &[usize], format: Format, content: Content) {
        let name = self.name(name);
        self.planned
            .push(Planned::floats(name, ne, format, content));
    }

    fn norms(&mut self) {
        let shape = self.shape;
        let heads = shape.heads * shape.head;
        let mut norms = vec![("attn_norm", shape.hidden)];
        match self.options.arch {
            SynthArch::BitnetB158 | SynthArch::Bitnet => norms.extend([
                ("ffn_norm", shape.hidden),
                ("attn_sub_norm", heads),
                ("ffn_sub_norm", shape.ffn),
            ]),
            SynthArch::Qwen3 | SynthArch::Maple => norms.extend([
                ("ffn_norm", shape.hidden),
                ("attn_q_norm", shape.head),
                ("attn_k_norm", shape.head),
            ]),
            SynthArch::Embedding => norms.extend([
                ("ffn_norm", shape.hidden),
                ("attn_q_norm", shape.head),
                ("attn_k_norm", shape.head),
                ("attn_q_norm_in", shape.hidden),
                ("attn_k_norm_in", shape.hidden),
                ("attn_v_norm_in", shape.hidden),
                ("attn_output_norm_in", heads),
                ("ffn_gate_norm_in", shape.hidden),
                ("ffn_up_norm_in", shape.hidden),
                ("ffn_down_norm_in", shape.ffn),
            ]),
            SynthArch::Llama => norms.push(("ffn_norm", shape.hidden)),
            SynthArch::Qwen35 => norms.push(("post_attention_norm", shape.hidden)),
        }
        for (name, len) in norms {
            let name = self.name(&format!("{name}.weight"));
            self.planned.push(Planned::norm(name, len));
        }
    }

    fn attention(&mut self) {
        let shape = self.shape;
        let (heads, kv) = (shape.heads * shape.head, shape.kv_heads * shape.head);
        let query = match shape.hybrid {
            // Each head's gate behind it.
            Some(_) => 2 * heads,
            None => heads,
        };
        if shape.hybrid.is_some() {
            for name in ["attn_q_norm.weight", "attn_k_norm.weight"] {
                self.floats(name, &[shape.head], Format::F32, NORM);
            }
        }
        self.matrix("attn_q", &[shape.hidden, query]);
        self.matrix("attn_k", &[shape.hidden, kv]);
        self.matrix("attn_v", &[shape.hidden, kv]);
        self.matrix("attn_output", &[heads, shape.hidden]);
    }

    fn experts(&mut self, mixture: &MixtureDimensions) {
        let (hidden, width, count) = (self.shape.hidden, mixture.width, mixture.experts);
        let unit = normal(1.0 / (hidden as f32).sqrt());
        self.floats("ffn_gate_inp.weight", &[hidden, count], Format::F32, unit);
        self.matrix("ffn_gate_exps", &[hidden, width, count]);
        self.matrix("ffn_up_exps", &[hidden, width, count]);
        self.matrix("ffn_down_exps", &[width, hidden, count]);
    }

    fn delta_net(&mut self, hybrid: &HybridDimensions) {
        let (hidden, values) = (self.shape.hidden, hybrid.value_heads);
        let unit = normal(1.0 / (hidden as f32).sqrt());
        self.matrix("attn_qkv", &[hidden, hybrid.conv()]);
        self.matrix("attn_gate", &[hidden, hybrid.inner()]);
        self.floats("ssm_alpha.weight", &[hidden, values], Format::Bf16, unit);
        self.floats("ssm_beta.weight", &[hidden, values], Format::Bf16, unit);
        let taps = [hybrid.taps, hybrid.conv()];
        self.floats("ssm_conv1d.weight", &taps, Format::F32, normal(0.5));
        self.floats("ssm_dt.bias", &[values], Format::F32, normal(1.0));
        // Below 0 for every draw, as −exp(A) is.
        let decay = Content::Normal {
            mean: -2.0,
            deviation: 0.5,
        };
        self.floats("ssm_a", &[values], Format::F32, decay);
        self.floats("ssm_norm.weight", &[hybrid.state], Format::F32, NORM);
        self.matrix("ssm_out", &[hybrid.inner(), hidden]);
    }
}

/// Numbers around 0.
const fn normal(deviation: f32) -> Content {
    Content::Normal {
        mean: 0.0,
        deviation,
    }
}

/// The scale that gives a product of deviation 1 for inputs of deviation 1, rounded to f16 so that every ternary type
/// holds the same weights.
fn unit_scale(cols: usize) -> f32 {
    half::f16::from_f32(1.0 / (NONZERO * cols as f32).sqrt()).to_f32()
}
