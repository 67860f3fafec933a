//! The metadata of a synthetic file, in the order and with the names of published files.

use super::plan::Planned;
use super::shape::{Dimensions, HybridDimensions, MixtureDimensions, Yarn};
use super::vocabulary::Vocabulary;
use super::{SynthArch, SynthOptions};
use crate::Result;
use crate::file::gguf::{Array, GgufWriter};
use crate::model::ContractKeys;

/// Writes the metadata of a model whose tensors are `planned`.
pub(super) fn metadata(
    options: &SynthOptions,
    shape: &Dimensions,
    planned: &[Planned],
    file: &mut GgufWriter,
) -> Result<()> {
    let arch = options.arch.in_file();
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
        .entry(key("rope.dimension_count"), shape.rotary as u32)
        .entry(key("attention.head_count"), shape.heads as u32)
        .entry(key("attention.head_count_kv"), shape.kv_heads as u32);
    let names_width = matches!(
        options.arch,
        SynthArch::Qwen3 | SynthArch::Qwen35 | SynthArch::Maple | SynthArch::Embedding
    );
    if names_width || shape.head * shape.heads != shape.hidden {
        file.entry(key("attention.key_length"), shape.head as u32)
            .entry(key("attention.value_length"), shape.head as u32);
    }
    file.entry("tokenizer.ggml.add_bos_token", true)
        .entry(key("attention.layer_norm_rms_epsilon"), shape.eps)
        .entry(key("rope.freq_base"), shape.base);
    if options.arch == SynthArch::Embedding {
        // The mean.
        file.entry(key("pooling_type"), 1u32);
    }
    if let Some(Yarn { factor, original }) = shape.yarn {
        file.entry(key("rope.scaling.type"), "yarn")
            .entry(key("rope.scaling.factor"), f32::from(factor))
            .entry(key("rope.scaling.original_context_length"), original);
    }
    if let Some(hybrid) = &shape.hybrid {
        delta_nets(&key, shape.rotary, hybrid, file);
        rotation(options.seed, shape, hybrid, planned, file);
    }
    if let Some(mixture) = &shape.mixture {
        experts(&key, shape.layers, mixture, file);
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

/// The keys of delta nets, and of the pairs that rotate by positions of text, of rows and of columns of a picture.
fn delta_nets(
    key: &dyn Fn(&str) -> String,
    rotary: usize,
    hybrid: &HybridDimensions,
    file: &mut GgufWriter,
) {
    let pairs = rotary as i32 / 2;
    let sections = [(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3, 0];
    file.entry(key("rope.dimension_sections"), Array::from_i32s(&sections))
        .entry(key("ssm.conv_kernel"), hybrid.taps as u32)
        .entry(key("ssm.state_size"), hybrid.state as u32)
        .entry(key("ssm.group_count"), hybrid.key_heads as u32)
        .entry(key("ssm.time_step_rank"), hybrid.value_heads as u32)
        .entry(key("ssm.inner_size"), hybrid.inner() as u32)
        .entry(key("full_attention_interval"), hybrid.interval as u32);
}

/// The keys of mixtures and windows.
fn experts(
    key: &dyn Fn(&str) -> String,
    layers: usize,
    mixture: &MixtureDimensions,
    file: &mut GgufWriter,
) {
    let slides: Vec<bool> = (0..layers).map(MixtureDimensions::slides).collect();
    let limits = vec![MixtureDimensions::LIMIT; layers];
    file.entry(key("expert_count"), mixture.experts as u32)
        .entry(key("expert_used_count"), mixture.used as u32)
        .entry(key("attention.sliding_window"), mixture.window)
        .entry(
            key("attention.sliding_window_pattern"),
            Array::from_bools(&slides),
        )
        .entry(key("expert_feed_forward_length"), mixture.width as u32)
        .entry(key("swiglu_clamp_exp"), Array::from_f32s(&limits));
}

/// The contract of rotated weights: all ternary matrices, and the embedding, with random signs.
fn rotation(
    seed: u64,
    shape: &Dimensions,
    hybrid: &HybridDimensions,
    planned: &[Planned],
    file: &mut GgufWriter,
) {
    let rotated = planned
        .iter()
        .filter(|tensor| tensor.is_matrix() && tensor.name != "token_embd.weight");
    let signs = rotated.clone().map(|tensor| {
        let width = tensor.cols();
        (width, ContractKeys::random_signs(seed, width))
    });
    let keys = ContractKeys {
        block: hybrid.block,
        signs: signs.collect(),
        names: rotated.map(|tensor| tensor.name.clone()).collect(),
        table: true,
        tied: shape.tied,
        grouped: true,
    };
    keys.write(file);
}

/// Turns end with `<|eot_id|>` and begin with the role's name.
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{{ message['role'] | capitalize }}: {{ message['content'] | trim }}<|eot_id|>\
{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}";
