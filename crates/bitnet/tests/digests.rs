//! The contract on bits over time: logits of every architecture, ternary type and embedding type, compared with digests
//! that were recorded once. A change of the forward pass that changes a bit fails here, whatever else still agrees.
//!
//! `cargo xtask test --cross` compares kernel sets with each other at one time; this compares times.
#![allow(clippy::unwrap_used)]

use bitnet::file::synth::{self, EmbeddingType, SynthArch, SynthOptions, TernaryType};
use bitnet::file::{Bytes, ModelFile};
use bitnet::{Activations, Isa, KvType, LogitsFor, Model, ModelOptions};
use sha2::{Digest, Sha256};

/// Lines of `name digest`.
const RECORDED: &str = include_str!("digests.txt");

/// SHA-256 of the logits of 40 positions, of which the first 33 are one batch and the others follow one by one.
fn digest(model: &Model) -> String {
    let mut session = model.session().unwrap();
    let tokens: Vec<u32> = (0..40).map(|index| index * 11 % 509 + 1).collect();
    let mut digest = Sha256::new();
    let mut update = |logits: Vec<f32>| {
        for logit in logits {
            digest.update(logit.to_le_bytes());
        }
    };
    update(session.forward(&tokens[..33], LogitsFor::All).unwrap());
    for token in &tokens[33..] {
        update(session.forward(&[*token], LogitsFor::Last).unwrap());
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the logits of a line come about.
#[derive(Clone, Copy)]
struct Way {
    activations: Activations,
    kv: KvType,
}

impl Way {
    /// With keys and values as the first digests were recorded.
    const fn of(activations: Activations) -> Self {
        let kv = KvType::F32;
        Self { activations, kv }
    }
}

fn options(isa: Isa, way: Way) -> ModelOptions {
    ModelOptions {
        threads: Some(2),
        isa: Some(isa),
        activations: way.activations,
        kv: Some(way.kv),
        ..ModelOptions::default()
    }
}

/// The digest of one model, which is the same on every kernel set of this machine.
fn line(name: &str, open: impl Fn(&ModelOptions) -> Model, way: Way) -> String {
    let mut digests = Isa::ALL
        .into_iter()
        .filter(|isa| isa.is_available())
        .map(|isa| (isa, digest(&open(&options(isa, way)))));
    let (first_isa, first) = digests.next().unwrap();
    for (isa, other) in digests {
        assert_eq!(first, other, "{name}: {first_isa} and {isa} differ");
    }
    match way.kv {
        KvType::F32 => format!("{name} {first}\n"),
        kv => format!("{name}/kv-{kv} {first}\n"),
    }
}

fn synthetic(synth: &SynthOptions, way: Way) -> String {
    let bytes = Bytes::from(synth::to_vec(synth).unwrap());
    let name = format!(
        "{}/{}/{}/{}",
        synth.arch,
        synth.ternary,
        synth.embedding,
        match way.activations {
            Activations::Int8 => "int8",
            Activations::Int8Groups => "int8-groups",
            Activations::F32 => "f32",
        }
    );
    let open = |options: &ModelOptions| {
        let file = ModelFile::parse(&name, bytes.clone()).unwrap();
        Model::from_file(&file, options, |_, _| ()).unwrap()
    };
    line(&name, open, way)
}

/// Types that an architecture's weights may have.
fn types(arch: SynthArch) -> &'static [TernaryType] {
    match arch {
        // Mixtures have scales of blocks.
        SynthArch::Maple => &[TernaryType::TQ2_0, TernaryType::TQ1_0, TernaryType::Q2_0],
        _ => TernaryType::ALL,
    }
}

/// The architectures that have logits.
fn generating() -> impl Iterator<Item = SynthArch> {
    let all = SynthArch::ALL.iter().copied();
    all.filter(|arch| *arch != SynthArch::Embedding)
}

#[test]
fn logits_have_the_recorded_bits() {
    let mut found = String::new();
    for arch in generating() {
        for &ternary in types(arch) {
            let synth = SynthOptions {
                arch,
                ternary,
                ..SynthOptions::default()
            };
            found += &synthetic(&synth, Way::of(Activations::Int8));
        }
        let float = SynthOptions {
            arch,
            ternary: types(arch)[0],
            ..SynthOptions::default()
        };
        found += &synthetic(&float, Way::of(Activations::F32));
    }
    for embedding in [EmbeddingType::Q8_0, EmbeddingType::Q6K, EmbeddingType::Q4K] {
        let synth = SynthOptions {
            embedding,
            ..SynthOptions::default()
        };
        found += &synthetic(&synth, Way::of(Activations::Int8));
    }
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../bitnet-demo/data/demo.gguf");
    let open = |options: &ModelOptions| Model::open_with(demo, options, |_, _| ()).unwrap();
    found += &line("demo", open, Way::of(Activations::Int8));
    // Keys and values of the other types.
    for kv in [KvType::F16, KvType::Int8] {
        let activations = Activations::Int8;
        let way = Way { activations, kv };
        for arch in generating() {
            let synth = SynthOptions {
                arch,
                ternary: types(arch)[0],
                ..SynthOptions::default()
            };
            found += &synthetic(&synth, way);
        }
        found += &line("demo", open, way);
    }
    assert!(
        found == RECORDED,
        "logits changed; if that is meant, tests/digests.txt becomes:\n{found}"
    );
}
