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
    /// Size of the download in bytes, where published.
    pub bytes: Option<u64>,
    /// SHA-256 of the file (64 hex digits), where several independent sources agree on it.
    pub sha256: Option<&'static str>,
}

/// Every model with a short name.
pub const KNOWN_MODELS: &[KnownModel] = &[
    KnownModel {
        name: "2b4t",
        source: "hf:microsoft/bitnet-b1.58-2B-4T-gguf/ggml-model-i2_s.gguf",
        title: "Microsoft BitNet b1.58 2B4T, chat",
        format: "GGUF, I2_S",
        bytes: Some(1_187_801_280),
        sha256: Some("4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162"),
    },
    KnownModel {
        name: "2b4t-packed",
        source: "hf:microsoft/bitnet-b1.58-2B-4T",
        title: "Microsoft BitNet b1.58 2B4T, chat",
        format: "safetensors, packed",
        bytes: Some(1_178_623_988),
        sha256: None,
    },
    KnownModel {
        name: "2b4t-master",
        source: "hf:microsoft/bitnet-b1.58-2B-4T-bf16",
        title: "Microsoft BitNet b1.58 2B4T, master weights",
        format: "safetensors, BF16",
        bytes: Some(4_825_679_400),
        sha256: None,
    },
    KnownModel {
        name: "falcon-e-1b",
        source: "hf:tiiuae/Falcon-E-1B-Instruct-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon-E 1B Instruct",
        format: "GGUF, I2_S",
        bytes: None,
        sha256: None,
    },
    KnownModel {
        name: "falcon-e-3b",
        source: "hf:tiiuae/Falcon-E-3B-Instruct-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon-E 3B Instruct",
        format: "GGUF, I2_S",
        bytes: Some(999_908_608),
        sha256: None,
    },
    KnownModel {
        name: "falcon3-1b",
        source: "hf:tiiuae/Falcon3-1B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 1B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: None,
        sha256: None,
    },
    KnownModel {
        name: "falcon3-3b",
        source: "hf:tiiuae/Falcon3-3B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 3B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: None,
        sha256: None,
    },
    KnownModel {
        name: "falcon3-7b",
        source: "hf:tiiuae/Falcon3-7B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 7B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: None,
        sha256: None,
    },
    KnownModel {
        name: "falcon3-10b",
        source: "hf:tiiuae/Falcon3-10B-Instruct-1.58bit-GGUF/ggml-model-i2_s.gguf",
        title: "TII Falcon3 10B Instruct 1.58-bit",
        format: "GGUF, I2_S",
        bytes: None,
        sha256: None,
    },
    KnownModel {
        name: "llama3-8b-1.58",
        source: "hf:HF1BitLLM/Llama3-8B-1.58-100B-tokens",
        title: "Llama 3 8B, fine-tuned to 1.58 bits",
        format: "safetensors, packed",
        bytes: None,
        sha256: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_digests_whole() {
        let mut seen = HashSet::new();
        for model in KNOWN_MODELS {
            assert!(seen.insert(model.name), "{} twice", model.name);
            assert!(model.source.starts_with("hf:"));
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
