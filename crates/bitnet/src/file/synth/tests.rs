//! Tests of synthetic models.

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

/// A file without data, and its tensors.
fn described(options: &SynthOptions) -> (Gguf, Vec<Planned>) {
    let shape = options.dimensions().unwrap();
    let tensors = plan::tensors(options, &shape);
    let mut writer = GgufWriter::new("keys");
    keys::metadata(options, &shape, &tensors, &mut writer).unwrap();
    let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
    (Gguf::parse("keys", Bytes::from(bytes)).unwrap(), tensors)
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
        let (file, tensors) = described(&options);
        let architecture = crate::Architecture::from_gguf(&file).unwrap();
        let expected = format!("YaRN, factor 4 from {original} positions, magnitude 1.138629");
        assert_eq!(architecture.rope_scaling.to_string(), expected);
        assert_eq!(architecture.heads.query * architecture.heads.dim, heads);
        let has = |name: &str| tensors.iter().any(|tensor| tensor.name == name);
        assert_eq!(has("output.weight"), !tied, "{shape}");
        let query = tensors
            .iter()
            .find(|tensor| tensor.name == "blk.0.attn_q.weight");
        assert_eq!(query.unwrap().rows(), heads);
    }
}

#[test]
fn shapes_of_bonsai_2_have_as_many_weights_as_published() {
    for (shape, millions) in [
        (Shape::Bonsai2_2b, 1880),
        (Shape::Bonsai2_4b, 4201),
        (Shape::Bonsai2_9b, 8946),
        (Shape::Bonsai2_27b, 26_870),
    ] {
        let options = SynthOptions::of(shape);
        let tensors = plan::tensors(&options, &options.dimensions().unwrap());
        let ternary = tensors.iter().filter(|tensor| tensor.is_matrix());
        let weights: u64 = ternary
            .map(|tensor| tensor.ne.iter().product::<u64>())
            .sum();
        let found = (weights as f64 / 1e6).round() as i64;
        assert!(
            (found - millions).abs() <= millions / 1000,
            "{shape}: {found}"
        );
    }
    let options = SynthOptions::of(Shape::Bonsai2_27b);
    let tensors = plan::tensors(&options, &options.dimensions().unwrap());
    let bf16 = tensors
        .iter()
        .filter(|tensor| tensor.format == Format::Bf16);
    assert_eq!((tensors.len(), bf16.count()), (851, 96));
}

#[test]
fn the_shape_of_maple_has_its_tensors() {
    let options = SynthOptions::of(Shape::Maple);
    let tensors = plan::tensors(&options, &options.dimensions().unwrap());
    let ternary = tensors.iter().filter(|tensor| tensor.is_matrix());
    let weights = ternary.map(|tensor| tensor.ne.iter().product::<u64>());
    assert_eq!(weights.sum::<u64>(), 19_579_011_072);
    let bytes = tensors.iter().map(|tensor| {
        let row = tensor.format.row_bytes(tensor.cols()).unwrap();
        (row * tensor.rows()) as u64
    });
    // The published file, but for its metadata.
    assert_eq!((tensors.len(), bytes.sum::<u64>()), (291, 5_895_831_552));
    let layers = SynthOptions {
        layers: Some(2),
        ..options
    };
    let (file, _) = described(&layers);
    let architecture = crate::Architecture::from_gguf(&file).unwrap();
    let mixture = architecture.mixture.unwrap();
    assert_eq!(
        (mixture.experts, mixture.used, mixture.width),
        (256, 8, 512)
    );
    let windows = architecture.windows.unwrap();
    assert_eq!((windows.positions, windows.slides), (512, vec![true; 2]));
    assert_eq!(mixture.limits, [Some(7.0); 2]);
}

#[test]
fn the_shape_of_an_embedding_has_its_tensors() {
    let options = SynthOptions::of(Shape::Embedding0_6b);
    let tensors = plan::tensors(&options, &options.dimensions().unwrap());
    let ternary = tensors.iter().filter(|tensor| tensor.is_matrix());
    let weights = ternary.map(|tensor| tensor.ne.iter().product::<u64>());
    assert_eq!((tensors.len(), weights.sum::<u64>()), (506, 440_401_920));
}

#[test]
fn tiny_models_of_every_architecture_run() {
    for &arch in SynthArch::ALL {
        let options = SynthOptions {
            arch,
            ternary: TernaryType::TQ2_0,
            ..SynthOptions::default()
        };
        let bytes = to_vec(&options).unwrap();
        let model = crate::Model::from_bytes("tiny", bytes, &crate::ModelOptions::default());
        let model = model.unwrap();
        let numbers = if arch == SynthArch::Embedding {
            let vectors = model.embed(&["a text"], &crate::EmbedOptions::default());
            vectors.unwrap().rows.concat()
        } else {
            let mut session = model.session().unwrap();
            session.forward(&[1, 2, 3], crate::LogitsFor::Last).unwrap()
        };
        assert!(numbers.iter().all(|number| number.is_finite()), "{arch}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (shape, arch, layers, expected) in [
        (
            Shape::Bonsai2_2b,
            SynthArch::Llama,
            None,
            "qwen35 for shape",
        ),
        (Shape::M125, SynthArch::Qwen35, None, "plain layers"),
        (Shape::Tiny, SynthArch::Qwen3, Some(0), "1 to 1024"),
        (Shape::Maple, SynthArch::Qwen35, None, "maple for shape"),
        (Shape::Tiny, SynthArch::Maple, None, "mixture of experts"),
    ] {
        let options = SynthOptions {
            shape,
            arch,
            layers,
            ..SynthOptions::default()
        };
        let error = to_vec(&options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
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
