//! What a synthetic file contains: its metadata and the list of its tensors, as data.

use bitnet_quant::Format;

use super::vocabulary::Vocabulary;
use super::{SynthArch, SynthOptions};
use crate::Result;
use crate::file::gguf::{Array, GgufWriter};

/// The numbers of a model shape.
pub(super) struct Dimensions {
    pub(super) vocabulary: usize,
    pub(super) context: u32,
    pub(super) hidden: usize,
    pub(super) ffn: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Width of one head.
    pub(super) head: usize,
    /// Whether the embedding is the head too, where the architecture leaves the choice.
    pub(super) tied: bool,
    /// Added to the mean square in every norm.
    pub(super) eps: f32,
    /// θ of the rotary embedding.
    pub(super) base: f32,
    /// How positions are scaled.
    pub(super) yarn: Option<Yarn>,
}

/// Rotary scaling by YaRN.
pub(super) struct Yarn {
    pub(super) factor: u16,
    /// Positions the model was pretrained for.
    pub(super) original: u32,
}

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
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Whether it is a vector, described by one dimension.
    pub(super) vector: bool,
    pub(super) format: Format,
    pub(super) content: Content,
}

/// The share of weights that are not 0, as [`super::random::Random::ternary`] draws them.
const NONZERO: f32 = 154.0 / 256.0;
/// The deviation of the logits: enough to prefer some tokens, not so much that one always wins.
const LOGIT_DEVIATION: f32 = 2.5;

/// Norm gains near 1.
const GAIN: Content = Content::Normal {
    mean: 1.0,
    deviation: 0.05,
};

impl Planned {
    fn gain(name: String, len: usize) -> Self {
        Self {
            name,
            rows: 1,
            cols: len,
            vector: true,
            format: Format::F32,
            content: GAIN,
        }
    }

    fn matrix(name: String, [rows, cols]: [usize; 2], format: Format, content: Content) -> Self {
        Self {
            name,
            rows,
            cols,
            vector: false,
            format,
            content,
        }
    }
}

/// The tensors of a model in the order of its file.
pub(super) fn tensors(options: &SynthOptions) -> Vec<Planned> {
    let shape = options.shape.dimensions();
    let (hidden, ffn) = (shape.hidden, shape.ffn);
    let heads = shape.heads * shape.head;
    let kv = shape.kv_heads * shape.head;
    let embedding = |name: &str| {
        let deviation = LOGIT_DEVIATION / (hidden as f32).sqrt();
        Planned::matrix(
            name.to_owned(),
            [shape.vocabulary, hidden],
            options.embedding.format(),
            Content::Normal {
                mean: 0.0,
                deviation,
            },
        )
    };

    let mut gains = vec![("attn_norm", hidden), ("ffn_norm", hidden)];
    match options.arch {
        SynthArch::BitnetB158 | SynthArch::Bitnet => {
            gains.extend([("attn_sub_norm", heads), ("ffn_sub_norm", ffn)]);
        }
        SynthArch::Qwen3 => {
            gains.extend([("attn_q_norm", shape.head), ("attn_k_norm", shape.head)]);
        }
        SynthArch::Llama => {}
    }
    let matrices = [
        ("attn_q", [heads, hidden]),
        ("attn_k", [kv, hidden]),
        ("attn_v", [kv, hidden]),
        ("attn_output", [hidden, heads]),
        ("ffn_gate", [ffn, hidden]),
        ("ffn_up", [ffn, hidden]),
        ("ffn_down", [hidden, ffn]),
    ];

    let mut planned = vec![embedding("token_embd.weight")];
    for layer in 0..shape.layers {
        let name = |name: &str| format!("blk.{layer}.{name}.weight");
        planned.extend(
            gains
                .iter()
                .map(|(gain, len)| Planned::gain(name(gain), *len)),
        );
        planned.extend(matrices.iter().map(|(matrix, size)| {
            let scale = unit_scale(size[1]);
            let content = Content::Ternary { scale };
            Planned::matrix(name(matrix), *size, options.ternary.format(), content)
        }));
    }
    planned.push(Planned::gain("output_norm.weight".to_owned(), hidden));
    if options.arch == SynthArch::Llama || !shape.tied {
        planned.push(embedding("output.weight"));
    }
    planned
}

/// The scale that gives a product of deviation 1 for inputs of deviation 1, rounded to f16 so that every ternary type
/// holds the same weights.
fn unit_scale(cols: usize) -> f32 {
    half::f16::from_f32(1.0 / (NONZERO * cols as f32).sqrt()).to_f32()
}

/// The metadata of a model, in the order and with the names of published files.
pub(super) fn metadata(options: &SynthOptions, file: &mut GgufWriter) -> Result<()> {
    let shape = options.shape.dimensions();
    let arch = options.arch.name();
    let vocabulary = Vocabulary::new(shape.vocabulary)?;
    let key = |name: &str| format!("{arch}.{name}");
    let special = |id: usize| id >= vocabulary.first_special;
    let scores: Vec<f32> = (0..shape.vocabulary)
        .map(|id| if special(id) { -1000.0 } else { 0.0 })
        .collect();
    let token_types: Vec<i32> = (0..shape.vocabulary)
        .map(|id| if special(id) { 3 } else { 1 })
        .collect();

    file.entry("general.architecture", arch)
        .entry("general.name", format!("synthetic {}", options.shape))
        .entry(key("vocab_size"), shape.vocabulary as u32)
        .entry(key("context_length"), shape.context)
        .entry(key("embedding_length"), shape.hidden as u32)
        .entry(key("block_count"), shape.layers as u32)
        .entry(key("feed_forward_length"), shape.ffn as u32)
        .entry(key("rope.dimension_count"), shape.head as u32)
        .entry(key("attention.head_count"), shape.heads as u32)
        .entry(key("attention.head_count_kv"), shape.kv_heads as u32);
    if options.arch == SynthArch::Qwen3 || shape.head * shape.heads != shape.hidden {
        file.entry(key("attention.key_length"), shape.head as u32)
            .entry(key("attention.value_length"), shape.head as u32);
    }
    file.entry("tokenizer.ggml.add_bos_token", true)
        .entry(key("attention.layer_norm_rms_epsilon"), shape.eps)
        .entry(key("rope.freq_base"), shape.base);
    if let Some(Yarn { factor, original }) = shape.yarn {
        file.entry(key("rope.scaling.type"), "yarn")
            .entry(key("rope.scaling.factor"), f32::from(factor))
            .entry(key("rope.scaling.original_context_length"), original);
    }
    file.entry("general.file_type", options.ternary.file_type())
        .entry("tokenizer.ggml.model", "gpt2")
        .entry("tokenizer.ggml.pre", "llama-bpe")
        .entry(
            "tokenizer.ggml.tokens",
            Array::from_strings(&vocabulary.tokens),
        )
        .entry("tokenizer.ggml.scores", Array::from_f32s(&scores))
        .entry("tokenizer.ggml.token_type", Array::from_i32s(&token_types))
        .entry(
            "tokenizer.ggml.merges",
            Array::from_strings(&vocabulary.merges),
        )
        .entry("tokenizer.ggml.bos_token_id", vocabulary.bos)
        .entry("tokenizer.ggml.eos_token_id", vocabulary.eos)
        .entry("tokenizer.ggml.padding_token_id", vocabulary.eos)
        .entry("tokenizer.chat_template", CHAT_TEMPLATE)
        .entry("general.quantization_version", 2u32);
    Ok(())
}

/// Turns end with `<|eot_id|>` and begin with the role's name.
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{{ message['role'] | capitalize }}: {{ message['content'] | trim }}<|eot_id|>\
{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";
