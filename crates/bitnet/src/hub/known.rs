//! The models that have a short name here.

/// A model that can be asked for by a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// The short name, such as `2b4t`.
    pub name: &'static str,
    /// What it stands for: the long form of the name, as [`resolve`](super::resolve) takes it.
    pub source: &'static str,
    /// The model in words.
    pub title: &'static str,
    /// The format of its files and weights.
    pub format: &'static str,
    /// Size in bytes of the file, or of the weights of a folder, where published. A file of another size is refused.
    pub bytes: Option<u64>,
    /// SHA-256 of the file (64 hex digits), where several independent sources agree on it.
    pub sha256: Option<&'static str>,
    /// The licence of the weights, as their page on the hub names it.
    pub license: &'static str,
}

/// Every model with a short name.
///
/// Names, sizes and digests were taken from public sources; nothing of it was downloaded to check it here. Sizes of
/// Falcon3 and Falcon-E are stated to the byte by one source, others round them to the same, and they are what the shapes
/// of the models give. The repository of Llama 3 names no licence of its own; stated is that of the model it was made from.
/// Ternary-Bonsai has its weights in three files: the one in llama.cpp's own Q2_0 (groups of 64), which is taken here, one
/// of an earlier form of the same name (groups of 128), and PQ2_0. Of Ternary-Bonsai 2 the file of 27B is described by several
/// sources; the names of the smaller ones follow its scheme.
pub const KNOWN_MODELS: &[KnownModel] = &[
    KnownModel {
        name: "2b4t",
        source: "hf:microsoft/bitnet-b1.58-2B-4T-gguf/ggml-model-i2_s.gguf",
        title: "Microsoft BitNet b1.58 2B4T, chat",
        format: "GGUF, I2_S",
        bytes: Some(1_187_801_280),
        sha256: Some("4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162"),
        license: "MIT",
    },
    KnownModel {
        name: "2b4t-packed",
        source: "hf:microsoft/bitnet-b1.58-2B-4T",
        title: "Microsoft BitNet b1.58 2B4T, chat",
        format: "safetensors, packed",
        bytes: Some(1_178_623_988),
        sha256: None,
        license: "MIT",
    },
    KnownModel {
        name: "2b4t-master",
        source: "hf:microsoft/bitnet-b1.58-2B-4T-bf16",
        title: "Microsoft BitNet b1.58 2B4T, master weights",
        format: "safetensors, BF16",
        bytes: Some(4_825_679_400),
        sha256: None,
        license: "MIT",
    },
    KnownModel {
        name: "ternary-bonsai-1.7b",
        source: "hf:prism-ml/Ternary-Bonsai-1.7B-gguf/Ternary-Bonsai-1.7B-Q2_0_g64.gguf",
        title: "Prism ML Ternary-Bonsai 1.7B, chat",
        format: "GGUF, Q2_0 (groups of 64)",
        bytes: Some(490_163_968),
        sha256: Some("6d0ecb3d9055969b5cde332b6fdb60e67ed3599e9f73e56b977731e1467e5c91"),
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-4b",
        source: "hf:prism-ml/Ternary-Bonsai-4B-gguf/Ternary-Bonsai-4B-Q2_0_g64.gguf",
        title: "Prism ML Ternary-Bonsai 4B, chat",
        format: "GGUF, Q2_0 (groups of 64)",
        bytes: Some(1_137_806_656),
        sha256: Some("9d968b04a3c9a794897bcc744c8072fb6a061c0e42efd03c989401ddf8baef0c"),
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-8b",
        source: "hf:prism-ml/Ternary-Bonsai-8B-gguf/Ternary-Bonsai-8B-Q2_0_g64.gguf",
        title: "Prism ML Ternary-Bonsai 8B, chat",
        format: "GGUF, Q2_0 (groups of 64)",
        bytes: Some(2_310_125_920),
        sha256: Some("e17b298d84ee78797916ae5c2ecc8211469cc65cccfe3080cd9a9bb503fbc55e"),
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-2-2b",
        source: "hf:prism-ml/Ternary-Bonsai-2-2B-gguf/Ternary-Bonsai-2-2B-PTQ1_0.gguf",
        title: "Prism ML Ternary-Bonsai 2 2B, chat",
        format: "GGUF, PTQ1_0",
        bytes: None,
        sha256: None,
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-2-4b",
        source: "hf:prism-ml/Ternary-Bonsai-2-4B-gguf/Ternary-Bonsai-2-4B-PTQ1_0.gguf",
        title: "Prism ML Ternary-Bonsai 2 4B, chat",
        format: "GGUF, PTQ1_0",
        bytes: None,
        sha256: None,
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-2-9b",
        source: "hf:prism-ml/Ternary-Bonsai-2-9B-gguf/Ternary-Bonsai-2-9B-PTQ1_0.gguf",
        title: "Prism ML Ternary-Bonsai 2 9B, chat",
        format: "GGUF, PTQ1_0",
        bytes: None,
        sha256: None,
        license: "Apache-2.0",
    },
    KnownModel {
        name: "ternary-bonsai-2-27b",
        source: "hf:prism-ml/Ternary-Bonsai-2-27B-gguf/Ternary-Bonsai-2-27B-PTQ1_0.gguf",
        title: "Prism ML Ternary-Bonsai 2 27B, chat",
        format: "GGUF, PTQ1_0",
        bytes: Some(5_946_648_928),
        sha256: Some("53107f530aa52eb00912263ab1ee29bd199261c87cd7b4ad4ca1318c1fe33ee3"),
        license: "Apache-2.0",
    },
    KnownModel {
        name: "bitnet-embedding-0.6b",
        source: "hf:microsoft/bitnet-embedding-0.6b/bitnet-embeddings-0.6b-bf16-i2_s.gguf",
        title: "Microsoft BitNet-embedding 0.6B, texts as vectors",
        format: "GGUF, I2_S",
        bytes: Some(427_935_008),
        sha256: Some("c89c64f05a2d3f83565250a6762640197fc624df866d4a1bd5853f811219af17"),
        license: "MIT",
    },
    KnownModel {
        name: "bitnet-embedding-270m",
        source: "hf:microsoft/bitnet-embedding-270m/bitnet-embeddings-270m-bf16-i2_s.gguf",
        title: "Microsoft BitNet-embedding 270M, texts as vectors",
        format: "GGUF, I2_S",
        bytes: Some(367_487_040),
        sha256: Some("8ee5ae971b103cd55758934be54e5c9f7cc2b58b15890615acce8e649988c751"),
        license: "MIT",
    },
    KnownModel {
        name: "maple-20b-a1b",
        source: "hf:deepgrove/maple-preview-GGUF/maple-preview-TQ2_0-head-Q4_K.gguf",
        title: "DeepGrove Maple 20B-A1B preview, chat",
        format: "GGUF, TQ2_0",
        bytes: Some(5_901_782_560),
        sha256: Some("221f792cc9760d27a34f449b4229e258fa968a63bd4213993e45d9c0bb477a9e"),
        license: "MIT",
    },
    KnownModel {
        name: "falcon-e-1b",
        source: "hf:tiiuae/Falcon-E-1B-Instruct-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon-E 1B Instruct",
        format: "GGUF, I2_S",
        bytes: Some(666_324_256),
        sha256: None,
        license: "Falcon-LLM License",
    },
    KnownModel {
        name: "falcon-e-3b",
        source: "hf:tiiuae/Falcon-E-3B-Instruct-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon-E 3B Instruct",
        format: "GGUF, I2_S",
        bytes: Some(999_908_608),
        sha256: None,
        license: "Falcon-LLM License",
    },
    KnownModel {
        name: "falcon3-1b",
        source: "hf:tiiuae/Falcon3-1B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 1B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: Some(1_361_904_672),
        sha256: None,
        license: "Falcon-LLM License 2.0",
    },
    KnownModel {
        name: "falcon3-3b",
        source: "hf:tiiuae/Falcon3-3B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 3B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: Some(2_221_465_632),
        sha256: None,
        license: "Falcon-LLM License 2.0",
    },
    KnownModel {
        name: "falcon3-7b",
        source: "hf:tiiuae/Falcon3-7B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 7B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: Some(3_278_680_768),
        sha256: None,
        license: "Falcon-LLM License 2.0",
    },
    KnownModel {
        name: "falcon3-10b",
        source: "hf:tiiuae/Falcon3-10B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 10B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: Some(3_991_393_696),
        sha256: None,
        license: "Falcon-LLM License 2.0",
    },
    KnownModel {
        name: "llama3-8b-1.58",
        source: "hf:HF1BitLLM/Llama3-8B-1.58-100B-tokens",
        title: "Llama 3 8B, fine-tuned to 1.58 bits",
        format: "safetensors, packed",
        bytes: None,
        sha256: None,
        license: "Llama 3 Community License (of its base model)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Bytes of the ternary codes, two bits each, and of embedding and head, 16 bits each, of the shapes that the makers
    /// publish; norms, vocabulary and header come on top, some megabytes.
    #[test]
    fn sizes_are_those_of_the_shapes() {
        let data = |vocabulary: u64, hidden: u64, kv: u64, ffn: u64, layers: u64| {
            let layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * ffn;
            layers * layer / 4 + 2 * 2 * vocabulary * hidden
        };
        for (name, data) in [
            ("falcon3-1b", data(131_072, 2048, 1024, 8192, 18)),
            ("falcon3-3b", data(131_072, 3072, 1024, 9216, 22)),
            ("falcon3-7b", data(131_072, 3072, 1024, 23_040, 28)),
            ("falcon3-10b", data(131_072, 3072, 1024, 23_040, 40)),
        ] {
            let model = KNOWN_MODELS
                .iter()
                .find(|model| model.name == name)
                .unwrap();
            let rest = model.bytes.unwrap().checked_sub(data).unwrap();
            assert!((1_000_000..10_000_000).contains(&rest), "{name}: {rest}");
        }
    }

    #[test]
    fn names_are_distinct_and_digests_whole() {
        let mut seen = HashSet::new();
        for model in KNOWN_MODELS {
            assert!(seen.insert(model.name), "{} twice", model.name);
            assert!(model.source.starts_with("hf:"));
            assert!(!model.license.is_empty() && !model.title.is_empty());
            if let Some(digest) = model.sha256 {
                assert_eq!(digest.len(), 64);
                assert!(
                    digest
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                );
            }
        }
    }
}
