//! Architectures of GGUF files: names, the classes of config.json that are the same model, and the numbers in which they
//! differ. A further Llama-like architecture is an entry here and one in `model::config_class`.

use bitnet_core::{Gate, RopePairs};

/// One architecture.
#[derive(Debug, PartialEq)]
pub(crate) struct GgufArchitecture {
    /// `general.architecture`.
    pub(crate) name: &'static str,
    /// `architectures` in config.json; the first is written when a file is converted. None for models that only GGUF holds.
    pub(crate) classes: &'static [&'static str],
    /// `model_type` in config.json.
    pub(crate) model_type: &'static str,
    /// Elements of a head that rotate together, which is also the order of the rows of queries and keys.
    pub(crate) pairs: RopePairs,
    /// The gate's function, where the file does not name it.
    pub(crate) gate: Gate,
    /// Whether rows of the embedding are multiplied by √hidden.
    pub(crate) scales_embedding: bool,
    /// Whether the result of each sublayer is normed before it is added.
    pub(crate) norms_results: bool,
    /// Whether some layers are gated delta nets, and the others have gated attention.
    pub(crate) is_hybrid: bool,
    /// Whether feed-forwards are mixtures of experts.
    pub(crate) is_mixture: bool,
    /// Which layers attend in a window.
    pub(crate) sliding: Sliding,
    /// Whether files may have Hadamard-rotated weights.
    pub(crate) rotates: bool,
}

/// Whether some layers of an architecture attend in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sliding {
    /// None does; a file that says otherwise is refused.
    Never,
    /// The layers that the file says, if it states a window; they have a rotary base of their own.
    IfStated,
    /// The layers that the file says, as it must; they alone rotate.
    Always,
}

/// Both spellings of BitNet's class.
const BITNET: &[&str] = &["BitNetForCausalLM", "BitnetForCausalLM"];

/// All supported architectures. Of those with one class the first with the model's gate is written.
pub(crate) const ARCHITECTURES: [GgufArchitecture; 8] = [
    GgufArchitecture {
        name: "bitnet-b1.58",
        classes: BITNET,
        model_type: "bitnet",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Relu2,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: false,
    },
    GgufArchitecture {
        name: "bitnet-25",
        classes: BITNET,
        model_type: "bitnet",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Relu2,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: false,
    },
    GgufArchitecture {
        name: "bitnet",
        classes: BITNET,
        model_type: "bitnet",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Silu,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: false,
    },
    GgufArchitecture {
        name: "llama",
        classes: &["LlamaForCausalLM"],
        model_type: "llama",
        pairs: RopePairs::Interleaved,
        gate: Gate::Silu,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: false,
    },
    GgufArchitecture {
        name: "qwen3",
        classes: &["Qwen3ForCausalLM"],
        model_type: "qwen3",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Silu,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: true,
    },
    GgufArchitecture {
        name: "qwen35",
        classes: &[],
        model_type: "qwen3_5_text",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Silu,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: true,
        is_mixture: false,
        sliding: Sliding::Never,
        rotates: true,
    },
    GgufArchitecture {
        name: "maple",
        classes: &[],
        model_type: "maple",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Silu,
        scales_embedding: false,
        norms_results: false,
        is_hybrid: false,
        is_mixture: true,
        sliding: Sliding::Always,
        rotates: false,
    },
    GgufArchitecture {
        name: "gemma3",
        classes: &[],
        model_type: "gemma3_text",
        pairs: RopePairs::HalfSplit,
        gate: Gate::Gelu,
        scales_embedding: true,
        norms_results: true,
        is_hybrid: false,
        is_mixture: false,
        sliding: Sliding::IfStated,
        rotates: false,
    },
];

impl GgufArchitecture {
    /// The architecture of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|known| known.name == name)
    }

    /// The architecture that a model of a class with that gate has in GGUF.
    pub(crate) fn of_class(class: &str, gate: Gate) -> Option<&'static Self> {
        let mut known = ARCHITECTURES.iter();
        known.find(|known| known.classes.contains(&class) && known.gate == gate)
    }

    /// The names of all, for an error.
    pub(crate) fn names() -> String {
        ARCHITECTURES.map(|known| known.name).join(", ")
    }
}
