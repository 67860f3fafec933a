//! Synthetic models: random ternary weights in the exact shape, names and keys of real ones.
//!
//! They say nothing sensible, but they load, run and take as much memory and time as a trained model, here and in
//! every runtime that knows their types. Each row of each tensor has a random generator of its own, so the same options
//! give the same file on every machine, whatever the number of threads; and all ternary types hold the same
//! weights.

mod checkpoint;
mod plan;
mod random;
mod vocabulary;

use std::io::Write;
use std::path::Path;

use bitnet_quant::{Format, I2sLayout, QuantError};
use rayon::prelude::*;

use super::create::NewFile;
use super::gguf::GgufWriter;
use crate::{Cancel, Result};
pub use checkpoint::{CheckpointWeights, write_checkpoint};
use plan::{Content, Dimensions, Planned, Yarn};
use random::Random;

/// About how many bytes of data are made before they are written.
const PIECE: usize = 8 << 20;

/// Which model to make.
#[derive(Debug, Clone, Default)]
pub struct SynthOptions {
    /// How large.
    pub shape: Shape,
    /// How the ternary weights are stored.
    pub ternary: TernaryType,
    /// How the token embedding is stored.
    pub embedding: EmbeddingType,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Which architecture's keys and tensors.
    pub arch: SynthArch,
}

named! {
    /// How large a synthetic model is.
    Shape, "shape" {
        /// 2 layers of 256: small enough for tests.
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
    }
}

named! {
    /// How ternary weights are stored.
    TernaryType, "type" {
        /// 2 bits, one scale per matrix.
        #[default]
        I2S = "i2_s",
        /// 1.6875 bits: base 3 with a scale for every 256.
        TQ1_0 = "tq1_0",
        /// 2.0625 bits with a scale for every 256.
        TQ2_0 = "tq2_0",
        /// 2.25 bits with a scale for every 64.
        Q2_0 = "q2_0",
        /// 2.125 bits with a scale for every 128.
        PQ2_0 = "pq2_0",
        /// 1.75 bits: base 3 with a scale for every 128.
        PTQ1_0 = "ptq1_0",
    }
}

named! {
    /// How the token embedding is stored.
    EmbeddingType, "embedding" {
        /// 16 bits.
        #[default]
        F16 = "f16",
        /// 8.5 bits.
        Q8_0 = "q8_0",
        /// 6.5625 bits.
        Q6K = "q6_k",
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
    }
}

impl Shape {
    fn dimensions(self) -> Dimensions {
        let (vocabulary, context, hidden, ffn, layers, heads, kv_heads) = match self {
            Self::Tiny => (512, 512, 256, 512, 2, 4, 2),
            Self::M125 => (32_000, 2048, 768, 2048, 12, 12, 4),
            Self::M700 => (32_000, 2048, 1536, 4096, 24, 16, 16),
            Self::B2_4t => (128_256, 4096, 2560, 6912, 30, 20, 5),
            // Those of Qwen3, from which they stem, with four times the context that YaRN begins with.
            Self::Bonsai1_7b => (151_936, 32_768, 2048, 6144, 28, 16, 8),
            Self::Bonsai4b => (151_936, 32_768, 2560, 9728, 36, 32, 8),
            Self::Bonsai8b => (151_936, 65_536, 4096, 12_288, 36, 32, 8),
        };
        let yarn = match self {
            Self::Bonsai1_7b | Self::Bonsai4b | Self::Bonsai8b => Some(Yarn {
                factor: 4,
                original: context / 4,
            }),
            Self::Tiny | Self::M125 | Self::M700 | Self::B2_4t => None,
        };
        Dimensions {
            vocabulary,
            context,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head: if yarn.is_some() { 128 } else { hidden / heads },
            tied: self != Self::Bonsai8b,
            eps: if yarn.is_some() { 1e-6 } else { 1e-5 },
            base: if yarn.is_some() { 1e6 } else { 5e5 },
            yarn,
        }
    }
}

impl TernaryType {
    /// The codec of this type.
    pub const fn format(self) -> Format {
        match self {
            Self::I2S => Format::I2s(I2sLayout::A),
            Self::TQ1_0 => Format::Tq1_0,
            Self::TQ2_0 => Format::Tq2_0,
            Self::Q2_0 => Format::Q2_0,
            Self::PQ2_0 => Format::Q2_0Group128,
            Self::PTQ1_0 => Format::Ptq1_0,
        }
    }

    /// The number that `general.file_type` has for it.
    pub(crate) const fn file_type(self) -> u32 {
        match self {
            Self::I2S => 40,
            Self::TQ1_0 => 36,
            Self::TQ2_0 => 37,
            Self::Q2_0 => 41,
            Self::PQ2_0 => 141,
            Self::PTQ1_0 => 143,
        }
    }
}

impl EmbeddingType {
    /// The codec of this type.
    pub const fn format(self) -> Format {
        match self {
            Self::F16 => Format::F16,
            Self::Q8_0 => Format::Q8_0,
            Self::Q6K => Format::Q6K,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of tensor data.
    pub data_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Elements of the ternary ones.
    pub ternary_parameters: u64,
}

/// Makes a model file at `path`. `progress` hears how many bytes of how many are done.
///
/// # Errors
/// [`crate::Error::Io`] if the file cannot be written; nothing is left behind then.
pub fn write(
    options: &SynthOptions,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    write_until(options, path, &Cancel::default(), progress)
}

/// As [`write()`], until `cancel` is set.
///
/// # Errors
/// As [`write()`]; [`crate::Error::Cancelled`], and nothing is left behind then either.
pub fn write_until(
    options: &SynthOptions,
    path: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let mut file = NewFile::create(path)?;
    let name = path.display().to_string();
    let summary = make(options, &name, &mut file, cancel, progress)?;
    file.keep()?;
    Ok(summary)
}

/// Makes a model in memory.
///
/// # Errors
/// As [`write()`].
pub fn to_vec(options: &SynthOptions) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(options, "memory", &mut bytes, &mut |_, _| ())?;
    Ok(bytes)
}

/// Makes a model into `out`, which errors call `name`.
///
/// # Errors
/// As [`write()`].
pub fn write_to(
    options: &SynthOptions,
    name: &str,
    out: impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    make(options, name, out, &Cancel::default(), progress)
}

fn make(
    options: &SynthOptions,
    name: &str,
    out: impl Write,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let mut file = GgufWriter::new(name);
    plan::metadata(options, &mut file)?;
    let tensors = plan::tensors(options);
    let mut summary = Summary {
        data_bytes: 0,
        tensors: tensors.len(),
        parameters: 0,
        ternary_parameters: 0,
    };
    for tensor in &tensors {
        let ne = [tensor.cols as u64, tensor.rows as u64];
        file.tensor(
            &tensor.name,
            if tensor.vector { &ne[..1] } else { &ne },
            tensor.format,
        )?;
        let elements = ne[0] * ne[1];
        summary.parameters += elements;
        if matches!(tensor.content, Content::Ternary { .. }) {
            summary.ternary_parameters += elements;
        }
    }
    summary.data_bytes = file.data_bytes();
    let mut done = 0;
    progress(done, summary.data_bytes);
    let mut file = file.begin(out)?;
    let mut piece = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let row_bytes = tensor.format.row_bytes(tensor.cols)?;
        let rows_at_once = (PIECE / row_bytes).max(1);
        for first in (0..tensor.rows).step_by(rows_at_once) {
            cancel.check()?;
            let rows = rows_at_once.min(tensor.rows - first);
            piece.resize(rows * row_bytes, 0);
            fill(options.seed, index, tensor, first, row_bytes, &mut piece)?;
            file.push(&tensor.name, &piece)?;
            done += piece.len() as u64;
            progress(done, summary.data_bytes);
        }
        if let (Format::I2s(_), Content::Ternary { scale }) = (tensor.format, tensor.content) {
            let mut tail = [0; 32];
            tail[..4].copy_from_slice(&scale.to_le_bytes());
            file.push(&tensor.name, &tail)?;
            done += tail.len() as u64;
        }
    }
    progress(done, summary.data_bytes);
    file.finish()?;
    Ok(summary)
}

/// Makes the rows of `tensor` from `first` on.
fn fill(
    seed: u64,
    index: usize,
    tensor: &Planned,
    first: usize,
    row_bytes: usize,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let random = |row: usize| Random::of(seed, index as u64, (first + row) as u64);
    let rows = out.par_chunks_mut(row_bytes).enumerate();
    match tensor.content {
        Content::Ternary { scale } => {
            let scales = vec![scale; tensor.cols / tensor.format.block_len()];
            rows.try_for_each_init(
                || vec![0i8; tensor.cols],
                |codes, (row, out)| {
                    random(row).ternary(codes);
                    tensor.format.encode_codes(codes, &scales, out)
                },
            )
        }
        Content::Normal { mean, deviation } => rows.try_for_each_init(
            || vec![0f32; tensor.cols],
            |values, (row, out)| {
                random(row).normal(mean, deviation, values);
                tensor.format.encode_row(values, 0.0, out)
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Bytes, GgmlType, Gguf};

    fn tiny(ternary: TernaryType, arch: SynthArch) -> Gguf {
        let options = SynthOptions {
            ternary,
            arch,
            ..SynthOptions::default()
        };
        Gguf::parse("tiny", Bytes::from(to_vec(&options).unwrap())).unwrap()
    }

    #[test]
    fn has_the_keys_and_tensors_of_the_published_file() {
        let file = tiny(TernaryType::I2S, SynthArch::BitnetB158);
        assert_eq!(
            file.string("general.architecture").unwrap(),
            Some("bitnet-b1.58")
        );
        assert_eq!(file.u32("bitnet-b1.58.vocab_size").unwrap(), Some(512));
        assert_eq!(
            file.f32("bitnet-b1.58.rope.freq_base").unwrap(),
            Some(500_000.0)
        );
        assert_eq!(
            file.bool("tokenizer.ggml.add_bos_token").unwrap(),
            Some(true)
        );
        assert_eq!(
            file.strings("tokenizer.ggml.tokens")
                .unwrap()
                .unwrap()
                .len(),
            512
        );
        assert_eq!(file.tensors().len(), 2 + 2 * 11);
        let q = file.tensor("blk.1.attn_q.weight").unwrap();
        assert_eq!((q.kind, q.cols(), q.rows()), (GgmlType::I2_S, 256, 256));
        assert_eq!(file.tensor("blk.0.ffn_down.weight").unwrap().ne, [512, 256]);
        assert_eq!(
            file.tensor("token_embd.weight").unwrap().kind,
            GgmlType::F16
        );
        let scale = q.i2s_scale("tiny").unwrap();
        assert!(
            (scale - 1.0 / (0.6015625f32 * 256.0).sqrt()).abs() < 1e-4,
            "{scale}"
        );
    }

    #[test]
    fn architectures_differ_where_they_should() {
        let has = |arch, name: &str| tiny(TernaryType::TQ2_0, arch).tensor(name).is_some();
        assert!(has(SynthArch::Bitnet, "blk.0.attn_sub_norm.weight"));
        assert!(!has(SynthArch::Bitnet, "output.weight"));
        assert!(has(SynthArch::Llama, "output.weight"));
        assert!(!has(SynthArch::Llama, "blk.0.ffn_sub_norm.weight"));
        assert!(has(SynthArch::Qwen3, "blk.1.attn_k_norm.weight"));
    }

    #[test]
    fn all_ternary_types_hold_the_same_weights() {
        let decode = |ternary| {
            let file = tiny(ternary, SynthArch::BitnetB158);
            let tensor = file.tensor("blk.0.ffn_down.weight").unwrap();
            let format = tensor.format(I2sLayout::A, "tiny").unwrap();
            let scale = tensor.i2s_scale("tiny").unwrap_or(0.0);
            let rows = tensor.row_data();
            let mut values = vec![0.0; tensor.elements()];
            for (row, out) in rows
                .chunks(format.row_bytes(512).unwrap())
                .zip(values.chunks_mut(512))
            {
                format.decode_row(row, scale, out).unwrap();
            }
            values
        };
        let expected = decode(TernaryType::I2S);
        assert!(expected.iter().any(|v| *v < 0.0));
        for ternary in TernaryType::ALL {
            assert!(decode(*ternary) == expected, "{ternary}");
        }
    }

    #[test]
    fn the_seed_decides_the_bytes() {
        let bytes = |seed| {
            to_vec(&SynthOptions {
                seed,
                ..SynthOptions::default()
            })
            .unwrap()
        };
        // FNV-1a of the file, so that a change of its bytes, on any machine, does not go unseen.
        let hash = bytes(1)
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        assert_eq!(format!("{hash:016x}"), "c9dc4a2253e51e12");
        assert!(bytes(1) != bytes(2));
    }

    #[test]
    fn embeddings_come_in_three_types() {
        for (embedding, kind) in [
            (EmbeddingType::F16, GgmlType::F16),
            (EmbeddingType::Q8_0, GgmlType::Q8_0),
            (EmbeddingType::Q6K, GgmlType::Q6_K),
        ] {
            let options = SynthOptions {
                embedding,
                ..SynthOptions::default()
            };
            let file = Gguf::parse("tiny", Bytes::from(to_vec(&options).unwrap())).unwrap();
            assert_eq!(file.tensor("token_embd.weight").unwrap().kind, kind);
        }
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!("2b4t".parse::<Shape>().unwrap(), Shape::B2_4t);
        assert_eq!("tq1_0".parse::<TernaryType>().unwrap(), TernaryType::TQ1_0);
        let error = "3b".parse::<Shape>().unwrap_err().to_string();
        assert!(error.contains("tiny, 125m, 700m, 2b4t"), "{error}");
    }

    #[test]
    fn shapes_of_bonsai_have_their_keys_and_tensors() {
        for (shape, original, heads, tied) in [
            (Shape::Bonsai1_7b, 8192, 2048, true),
            (Shape::Bonsai4b, 8192, 4096, true),
            (Shape::Bonsai8b, 16_384, 4096, false),
        ] {
            let options = SynthOptions {
                shape,
                arch: SynthArch::Qwen3,
                ternary: TernaryType::PQ2_0,
                ..SynthOptions::default()
            };
            let mut writer = GgufWriter::new("keys");
            plan::metadata(&options, &mut writer).unwrap();
            let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
            let file = Gguf::parse("keys", Bytes::from(bytes)).unwrap();
            let architecture = crate::Architecture::from_gguf(&file).unwrap();
            let expected = format!("YaRN, factor 4 from {original} positions, magnitude 1.138629");
            assert_eq!(architecture.rope_scaling.to_string(), expected);
            assert_eq!(architecture.heads.query * architecture.heads.dim, heads);
            let tensors = plan::tensors(&options);
            let has = |name: &str| tensors.iter().any(|tensor| tensor.name == name);
            assert_eq!(has("output.weight"), !tied, "{shape}");
            let query = tensors
                .iter()
                .find(|tensor| tensor.name == "blk.0.attn_q.weight");
            assert_eq!(query.unwrap().rows, heads);
        }
    }

    #[test]
    fn a_file_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        let mut last = (0, 0);
        let summary = write(&SynthOptions::default(), &path, &mut |done, total| {
            last = (done, total)
        })
        .unwrap();
        assert_eq!(last, (summary.data_bytes, summary.data_bytes));
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.tensors().len(), summary.tensors);
    }
}
