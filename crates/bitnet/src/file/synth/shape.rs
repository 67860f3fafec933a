//! Shapes of synthetic models: the numbers of real ones, as data.

use crate::{Error, Result};

use super::{EmbeddingType, SynthOptions, TernaryType};

named! {
    /// How large a synthetic model is.
    Shape, "shape" {
        /// A few layers of 256: small enough for tests.
        #[default]
        Tiny = "tiny",
        /// The smallest usual shape: 12 layers of 768, about 100 million parameters.
        M125 = "125m",
        /// 24 layers of 1536, about 730 million parameters.
        M700 = "700m",
        /// The shape of BitNet b1.58 2B-4T: 30 layers of 2560.
        B2_4t = "2b4t",
        /// The shape of Ternary-Bonsai 1.7B: 28 layers of 2048, positions scaled by YaRN. For [`SynthArch::Qwen3`].
        Bonsai1_7b = "bonsai-1.7b",
        /// The shape of Ternary-Bonsai 4B: 36 layers of 2560, whose heads are together wider. For [`SynthArch::Qwen3`].
        Bonsai4b = "bonsai-4b",
        /// The shape of Ternary-Bonsai 8B: 36 layers of 4096, a head of its own. For [`SynthArch::Qwen3`].
        Bonsai8b = "bonsai-8b",
        /// The shape of Ternary-Bonsai-2 2B: 24 layers of 2048, of which 18 are delta nets. For [`SynthArch::Qwen35`].
        Bonsai2_2b = "bonsai2-2b",
        /// The shape of Ternary-Bonsai-2 4B: 32 layers of 2560, of which 24 are delta nets. For [`SynthArch::Qwen35`].
        Bonsai2_4b = "bonsai2-4b",
        /// The shape of Ternary-Bonsai-2 9B: 32 layers of 4096, of which 24 are delta nets. For [`SynthArch::Qwen35`].
        Bonsai2_9b = "bonsai2-9b",
        /// The shape of Ternary-Bonsai-2 27B: 64 layers of 5120, of which 48 are delta nets. For [`SynthArch::Qwen35`].
        Bonsai2_27b = "bonsai2-27b",
        /// The shape of Maple 20B-A1B: 24 layers of 2048, each a mixture of 256 experts. For [`SynthArch::Maple`].
        Maple = "maple",
        /// The shape of BitNet-embedding 0.6B: 28 layers of 1024. For [`SynthArch::Embedding`], or those of plain layers.
        Embedding0_6b = "embedding-0.6b",
    }
}

named! {
    /// Which architecture a synthetic model has.
    SynthArch, "architecture" {
        /// Sub-norms, squared ReLU, tied head.
        #[default]
        BitnetB158 = "bitnet-b1.58",
        /// Sub-norms, SiLU, tied head.
        Bitnet = "bitnet",
        /// No sub-norms, interleaved position pairs, a head of its own.
        Llama = "llama",
        /// Norms on every query and key head, tied head.
        Qwen3 = "qwen3",
        /// Gated delta nets between layers of gated attention, Hadamard-rotated weights.
        Qwen35 = "qwen35",
        /// Mixtures of experts, windows of attention on all layers but every fourth, a head of its own.
        Maple = "maple",
        /// [`SynthArch::Qwen3`] with a norm before each projection, which text vectors are read from.
        Embedding = "bitnet-embedding",
    }
}

impl SynthArch {
    /// Those whose layers are softmax attention and a dense feed-forward, which config.json can describe too.
    pub const PLAIN: &[Self] = &[Self::BitnetB158, Self::Bitnet, Self::Llama, Self::Qwen3];
}

impl SynthArch {
    /// The architecture that files of it name.
    pub(super) const fn in_file(self) -> &'static str {
        match self {
            Self::Embedding => Self::Qwen3.name(),
            other => other.name(),
        }
    }

    /// Whether its layers are softmax attention and a dense feed-forward.
    fn is_dense(self) -> bool {
        self == Self::Embedding || Self::PLAIN.contains(&self)
    }
}

impl Shape {
    /// The architecture of the model that has this shape.
    pub const fn arch(self) -> SynthArch {
        match self {
            Self::Tiny | Self::M125 | Self::M700 | Self::B2_4t => SynthArch::BitnetB158,
            Self::Bonsai1_7b | Self::Bonsai4b | Self::Bonsai8b => SynthArch::Qwen3,
            Self::Bonsai2_2b | Self::Bonsai2_4b | Self::Bonsai2_9b | Self::Bonsai2_27b => {
                SynthArch::Qwen35
            }
            Self::Maple => SynthArch::Maple,
            Self::Embedding0_6b => SynthArch::Embedding,
        }
    }

    /// Whether its numbers are those of Qwen3.
    const fn stems_from_qwen3(self) -> bool {
        matches!(self.arch(), SynthArch::Qwen3 | SynthArch::Embedding)
    }
}

impl SynthOptions {
    /// The options that give `shape` the architecture and the types that files of its model have.
    pub fn of(shape: Shape) -> Self {
        let (ternary, embedding) = match shape.arch() {
            SynthArch::Qwen35 => (TernaryType::PQ2_0, EmbeddingType::Ternary),
            SynthArch::Qwen3 => (TernaryType::Q2_0, EmbeddingType::Ternary),
            SynthArch::Maple => (TernaryType::TQ2_0, EmbeddingType::F16),
            _ => (TernaryType::I2S, EmbeddingType::F16),
        };
        Self {
            shape,
            ternary,
            embedding,
            head: (shape.arch() == SynthArch::Maple).then_some(EmbeddingType::Q4K),
            arch: shape.arch(),
            ..Self::default()
        }
    }

    /// The numbers of the model.
    ///
    /// # Errors
    /// [`Error::Argument`] for options that do not fit each other.
    pub(super) fn dimensions(&self) -> Result<Dimensions> {
        let Self { shape, arch, .. } = *self;
        let own = shape.arch();
        let fits = own == arch || (own.is_dense() && arch.is_dense());
        if !fits && shape != Shape::Tiny {
            return Err(Error::Argument {
                what: "architecture",
                expected: if own.is_dense() {
                    format!("one of plain layers for shape {shape}")
                } else {
                    format!("{own} for shape {shape}")
                },
                found: arch.to_string(),
            });
        }
        if arch == SynthArch::Maple && self.ternary == TernaryType::I2S {
            return Err(Error::Argument {
                what: "type",
                expected: "one whose scales are those of blocks, for a mixture of experts".into(),
                found: self.ternary.to_string(),
            });
        }
        let mut dimensions = Dimensions::of(shape, arch);
        if let Some(layers) = self.layers {
            if !(1..=1024).contains(&layers) {
                return Err(Error::Argument {
                    what: "layers",
                    expected: "1 to 1024".into(),
                    found: layers.to_string(),
                });
            }
            dimensions.layers = layers;
        }
        Ok(dimensions)
    }
}

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
    /// Columns of a head that rotate.
    pub(super) rotary: usize,
    /// Whether the embedding is the head too.
    pub(super) tied: bool,
    /// Added to the mean square in every norm.
    pub(super) eps: f32,
    /// θ of the rotary embedding.
    pub(super) base: f32,
    /// How positions are scaled.
    pub(super) yarn: Option<Yarn>,
    /// Delta nets, where some layers are.
    pub(super) hybrid: Option<HybridDimensions>,
    /// Mixtures of experts, where all layers are.
    pub(super) mixture: Option<MixtureDimensions>,
}

/// Mixtures of experts, and windows of attention.
pub(super) struct MixtureDimensions {
    pub(super) experts: usize,
    /// Experts that a token meets.
    pub(super) used: usize,
    /// Width of an expert's feed-forward.
    pub(super) width: usize,
    /// Positions of a window.
    pub(super) window: u32,
}

impl MixtureDimensions {
    /// The clamp of gates and up projections.
    pub(super) const LIMIT: f32 = 7.0;

    /// Whether a layer attends to a window.
    pub(super) fn slides(layer: usize) -> bool {
        layer % 4 != 3
    }
}

/// Rotary scaling by YaRN.
pub(super) struct Yarn {
    pub(super) factor: u16,
    /// Positions the model was pretrained for.
    pub(super) original: u32,
}

/// Delta nets between layers of attention, and the rotation of their weights.
pub(super) struct HybridDimensions {
    /// One layer of so many is attention.
    pub(super) interval: usize,
    pub(super) key_heads: usize,
    pub(super) value_heads: usize,
    /// Width of a key head and of a value head.
    pub(super) state: usize,
    /// Taps of the convolution.
    pub(super) taps: usize,
    /// Columns of a block of the Hadamard transform.
    pub(super) block: usize,
}

impl HybridDimensions {
    /// Whether a layer is a delta net.
    pub(super) fn is_recurrent(&self, layer: usize) -> bool {
        !(layer + 1).is_multiple_of(self.interval)
    }

    /// Columns of all value heads.
    pub(super) fn inner(&self) -> usize {
        self.value_heads * self.state
    }

    /// Columns that the convolution mixes: queries, keys and values.
    pub(super) fn conv(&self) -> usize {
        2 * self.key_heads * self.state + self.inner()
    }
}

impl Dimensions {
    fn of(shape: Shape, arch: SynthArch) -> Self {
        match arch {
            SynthArch::Qwen35 => Self::hybrid(shape),
            SynthArch::Maple => Self::mixture(shape),
            _ => Self::plain(shape, arch),
        }
    }

    fn plain(shape: Shape, arch: SynthArch) -> Self {
        let (vocabulary, context, hidden, ffn, layers, heads, kv_heads) = match shape {
            Shape::M125 => (32_000, 2048, 768, 2048, 12, 12, 4),
            Shape::M700 => (32_000, 2048, 1536, 4096, 24, 16, 16),
            Shape::B2_4t => (128_256, 4096, 2560, 6912, 30, 20, 5),
            // Those of Qwen3, from which they stem, with four times the context that YaRN begins with.
            Shape::Bonsai1_7b => (151_936, 32_768, 2048, 6144, 28, 16, 8),
            Shape::Bonsai4b => (151_936, 32_768, 2560, 9728, 36, 32, 8),
            Shape::Bonsai8b => (151_936, 65_536, 4096, 12_288, 36, 32, 8),
            Shape::Embedding0_6b => (151_936, 32_768, 1024, 3072, 28, 16, 8),
            _ => (512, 512, 256, 512, 2, 4, 2),
        };
        let is_qwen3 = shape.stems_from_qwen3();
        let is_bonsai = shape.arch() == SynthArch::Qwen3;
        let head = if is_qwen3 { 128 } else { hidden / heads };
        Self {
            vocabulary,
            context,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head,
            rotary: head,
            tied: arch != SynthArch::Llama && shape != Shape::Bonsai8b,
            eps: if is_qwen3 { 1e-6 } else { 1e-5 },
            base: if is_qwen3 { 1e6 } else { 5e5 },
            yarn: is_bonsai.then_some(Yarn {
                factor: 4,
                original: context / 4,
            }),
            hybrid: None,
            mixture: None,
        }
    }

    fn mixture(shape: Shape) -> Self {
        let (vocabulary, context, hidden, ffn, layers, heads, kv_heads, head) = match shape {
            Shape::Maple => (151_936, 131_072, 2048, 4096, 24, 16, 4, 128),
            _ => (512, 2048, 256, 512, 4, 4, 2, 64),
        };
        let (experts, used, width, window) = match shape {
            Shape::Maple => (256, 8, 512, 512),
            _ => (6, 2, 256, 24),
        };
        Self {
            vocabulary,
            context,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head,
            rotary: head / 2,
            tied: false,
            eps: 1e-6,
            base: 1e4,
            yarn: None,
            hybrid: None,
            mixture: Some(MixtureDimensions {
                experts,
                used,
                width,
                window,
            }),
        }
    }

    fn hybrid(shape: Shape) -> Self {
        let (vocabulary, context) = match shape {
            Shape::Tiny => (512, 512),
            _ => (248_320, 262_144),
        };
        let (hidden, ffn, layers, heads, kv_heads) = match shape {
            Shape::Bonsai2_2b => (2048, 6144, 24, 8, 2),
            Shape::Bonsai2_4b => (2560, 9216, 32, 16, 4),
            Shape::Bonsai2_9b => (4096, 12_288, 32, 16, 4),
            Shape::Bonsai2_27b => (5120, 17_408, 64, 24, 4),
            _ => (256, 512, 2, 4, 2),
        };
        let (interval, head, key_heads, value_heads, state, block) = match shape {
            Shape::Bonsai2_2b => (4, 256, 16, 16, 128, 2048),
            Shape::Bonsai2_4b => (4, 256, 16, 32, 128, 512),
            Shape::Bonsai2_9b => (4, 256, 16, 32, 128, 4096),
            Shape::Bonsai2_27b => (4, 256, 16, 48, 128, 1024),
            _ => (2, 64, 2, 4, 64, 128),
        };
        Self {
            vocabulary,
            context,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head,
            rotary: head / 4,
            tied: !matches!(shape, Shape::Bonsai2_9b | Shape::Bonsai2_27b),
            eps: 1e-6,
            base: 1e7,
            yarn: None,
            hybrid: Some(HybridDimensions {
                interval,
                key_heads,
                value_heads,
                state,
                taps: 4,
                block,
            }),
            mixture: None,
        }
    }
}
