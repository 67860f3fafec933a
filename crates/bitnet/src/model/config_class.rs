//! Configuration classes: what transformers takes for granted where a config.json says nothing.
//!
//! Source: `models/{bitnet,llama,qwen3,qwen3_5}/configuration_*.py` of transformers 5.24; the classes of version 4 have the same
//! numbers. `BitnetForCausalLM` is the code that the checkpoints of 1bitLLM bring along, a copy of Llama's.

/// Numbers of one class.
#[derive(Debug)]
pub(super) struct ConfigClass {
    /// What `architectures` calls the model.
    pub(super) name: &'static str,
    /// `hidden_size`.
    pub(super) hidden: usize,
    /// `intermediate_size`.
    pub(super) feed_forward: usize,
    /// `num_hidden_layers`.
    pub(super) layers: usize,
    /// `num_attention_heads`.
    pub(super) heads: usize,
    /// `num_key_value_heads` where the key is missing; `None`, as null does in a file, stands for as many as heads.
    pub(super) kv_heads: Option<usize>,
    /// `head_dim`; `None` stands for `hidden_size / num_attention_heads`.
    pub(super) head_dim: Option<usize>,
    /// `hidden_act`.
    pub(super) activation: &'static str,
    /// `max_position_embeddings`.
    pub(super) context: usize,
    /// `rms_norm_eps`.
    pub(super) eps: f32,
    /// `rope_theta`.
    pub(super) base: f64,
    /// Whether the class knows sliding windows (`use_sliding_window`).
    pub(super) slides: bool,
    /// `partial_rotary_factor`.
    pub(super) rotary_share: f64,
    /// Whether the class has gated delta nets between layers of gated attention, and may hold its numbers in `text_config`.
    pub(super) is_hybrid: bool,
}

const LLAMA: ConfigClass = ConfigClass {
    name: "LlamaForCausalLM",
    hidden: 4096,
    feed_forward: 11008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    activation: "silu",
    context: 2048,
    eps: 1e-6,
    base: 10_000.0,
    slides: false,
    rotary_share: 1.0,
    is_hybrid: false,
};

/// `Qwen3_5TextConfig`.
const QWEN3_5: ConfigClass = ConfigClass {
    name: "Qwen3_5ForCausalLM",
    hidden: 4096,
    feed_forward: 12288,
    layers: 32,
    heads: 16,
    kv_heads: Some(4),
    head_dim: Some(256),
    activation: "silu",
    context: 32768,
    eps: 1e-6,
    base: 10_000.0,
    slides: false,
    rotary_share: 0.25,
    is_hybrid: true,
};

/// All supported classes.
pub(super) const CLASSES: [ConfigClass; 6] = [
    ConfigClass {
        name: "BitNetForCausalLM",
        hidden: 2560,
        feed_forward: 6912,
        layers: 30,
        heads: 20,
        kv_heads: Some(5),
        head_dim: None,
        activation: "relu2",
        context: 2048,
        eps: 1e-5,
        base: 500_000.0,
        ..LLAMA
    },
    ConfigClass {
        name: "BitnetForCausalLM",
        ..LLAMA
    },
    LLAMA,
    ConfigClass {
        name: "Qwen3ForCausalLM",
        hidden: 4096,
        feed_forward: 22016,
        layers: 32,
        heads: 32,
        kv_heads: Some(32),
        head_dim: Some(128),
        activation: "silu",
        context: 32768,
        eps: 1e-6,
        base: 10_000.0,
        slides: true,
        ..LLAMA
    },
    QWEN3_5,
    ConfigClass {
        name: "Qwen3_5ForConditionalGeneration",
        ..QWEN3_5
    },
];
