//! Whole files to begin with, made once.

use bitnet::file::synth::{
    self, CheckpointWeights, EmbeddingType, SynthArch, SynthOptions, TernaryType,
};
use serde_json::Value;

/// A checkpoint's files.
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    pub(crate) weights: Vec<u8>,
}

fn options() -> [SynthOptions; 6] {
    [
        (SynthArch::BitnetB158, TernaryType::I2S, EmbeddingType::F16),
        (SynthArch::Llama, TernaryType::TQ1_0, EmbeddingType::Q8_0),
        (SynthArch::Qwen3, TernaryType::TQ2_0, EmbeddingType::Q6K),
        (SynthArch::Qwen3, TernaryType::PTQ1_0, EmbeddingType::F16),
        (SynthArch::Qwen3, TernaryType::Q2_0, EmbeddingType::F16),
        (SynthArch::Maple, TernaryType::TQ2_0, EmbeddingType::Q4K),
    ]
    .map(|(arch, ternary, embedding)| SynthOptions {
        arch,
        ternary,
        embedding,
        ..SynthOptions::default()
    })
}

/// Tiny models of architectures that are not synthesized: a hybrid one with rotated weights, and two that embed.
const TINY: [&[u8]; 3] = [
    include_bytes!("../../tests/bonsai2/tiny-bonsai2.gguf"),
    include_bytes!("../../tests/vectors/tiny-qwen3.gguf"),
    include_bytes!("../../tests/vectors/tiny-gemma3.gguf"),
];

/// GGUF files of several architectures and types.
pub(crate) fn gguf() -> Vec<Vec<u8>> {
    let file = |options| synth::to_vec(&options).expect("a synthetic model");
    let files = options().into_iter().map(file);
    files.chain(TINY.map(<[u8]>::to_vec)).collect()
}

/// Checkpoints of the architectures that have them.
pub(crate) fn checkpoints() -> Vec<Checkpoint> {
    let checkpoint = |options| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        synth::write_checkpoint(&options, CheckpointWeights::Packed, path).expect("a checkpoint");
        let read = |name: &str| std::fs::read(path.join(name)).expect("a file of the checkpoint");
        let json = |name: &str| serde_json::from_slice(&read(name)).expect("JSON");
        Checkpoint {
            config: json("config.json"),
            tokenizer: json("tokenizer.json"),
            weights: read("model.safetensors"),
        }
    };
    let plain = |options: &SynthOptions| SynthArch::PLAIN.contains(&options.arch);
    options()
        .into_iter()
        .filter(plain)
        .map(checkpoint)
        .collect()
}
