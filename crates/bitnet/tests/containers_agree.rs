//! One model gives the same logits from whichever file it is read.

use std::path::Path;

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::safetensors::{Dtype, SafeTensorsModel, SafeTensorsWriter};
use bitnet::file::synth::{self, CheckpointWeights, SynthArch, SynthOptions, TernaryType};
use bitnet::file::{Gguf, GgufWriter};
use bitnet::{Activations, LogitsFor, Model, ModelOptions};
use bitnet_core::Tag;
use bitnet_quant::{Format, I2sLayout, hf_packed};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const TOKENS: [u32; 9] = [496, 40, 300, 7, 256, 71, 455, 12, 12];

fn logits(path: &Path, activations: Activations) -> bitnet::Result<Vec<f32>> {
    let options = ModelOptions {
        activations,
        ..ModelOptions::default()
    };
    let model = Model::open_with(path, &options, |_, _| ())?;
    model.session()?.forward(&TOKENS, LogitsFor::All)
}

/// Without rounded activations, different sums stay within 1e-4 of the largest logit.
fn assert_close(expected: &[f32], found: &[f32], arch: SynthArch) {
    let range = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (a, b) in expected.iter().zip(found) {
        assert!((a - b).abs() < 1e-4 * range, "{arch}: {a} {b}");
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn synthetic_models_say_different_things_at_different_places() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let path = directory.path().join("model.gguf");
        let options = SynthOptions {
            arch: *arch,
            ..SynthOptions::default()
        };
        synth::write(&options, &path, &mut |_, _| ())?;
        let logits = logits(&path, Activations::Int8)?;
        assert!(logits.iter().all(|logit| logit.is_finite()), "{arch}");
        for position in logits.chunks(512) {
            let mean = position.iter().sum::<f32>() / 512.0;
            let variance = position.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 512.0;
            assert!((0.5..30.0).contains(&variance.sqrt()), "{arch}: {variance}");
        }
        assert_ne!(logits[..512], logits[512..1024], "{arch}");
    }
    Ok(())
}

#[test]
fn synthetic_tokenizers_spell_every_text() -> Outcome {
    let bytes = synth::to_vec(&SynthOptions::default())?;
    let model = Model::from_bytes("tiny", bytes, &ModelOptions::default())?;
    let tokenizer = model.tokenizer();
    for text in [
        "",
        "the rain in Spain",
        "  Größe\n\t12345 — 日本 🦊",
        "<|eot_id|>",
    ] {
        let ids = tokenizer.encode(text, Default::default())?;
        assert_eq!(tokenizer.decode(&ids), text);
    }
    let words = tokenizer.encode(" the theatre", Default::default())?;
    assert!(words.len() < " the theatre".len(), "{words:?}");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(496), Some(497)));
    assert!(tokenizer.stops().contains(&505), "{:?}", tokenizer.stops());
    Ok(())
}

#[test]
fn every_container_and_type_agrees() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let first = directory.path().join(format!("{arch}.gguf"));
        let options = SynthOptions {
            arch: *arch,
            ternary: TernaryType::I2S,
            ..SynthOptions::default()
        };
        synth::write(&options, &first, &mut |_, _| ())?;
        let expected = logits(&first, Activations::Int8)?;
        let exact = logits(&first, Activations::F32)?;
        let [tq1_0, tq2_0] = [ConvertType::TQ1_0, ConvertType::TQ2_0]
            .map(|kind| directory.path().join(format!("{arch}-{kind}.gguf")));
        convert(&first, &tq1_0, ConvertType::TQ1_0, &mut |_, _| ())?;
        convert(&tq1_0, &tq2_0, ConvertType::TQ2_0, &mut |_, _| ())?;
        // Scales for every block make sums of another shape than one scale for all.
        assert_close(&exact, &logits(&tq1_0, Activations::F32)?, *arch);
        let [tq1_0, tq2_0] = [tq1_0, tq2_0].map(|path| logits(&path, Activations::Int8));
        assert!(bits(&tq1_0?) == bits(&tq2_0?), "{arch}");
        let checkpoint = directory.path().join(arch.name());
        convert(
            &first,
            &checkpoint,
            ConvertType::SafeTensors,
            &mut |_, _| (),
        )?;
        if matches!(
            arch,
            SynthArch::BitnetB158 | SynthArch::Qwen3 | SynthArch::Bitnet
        ) {
            let found = logits(&checkpoint, Activations::Int8)?;
            assert!(bits(&found) == bits(&expected), "{arch}");
        }
        // The other order of rotary pairs adds the same products up in another order.
        assert_close(&exact, &logits(&checkpoint, Activations::F32)?, *arch);
    }
    Ok(())
}

#[test]
fn master_weights_agree_with_what_they_are_converted_to() -> Outcome {
    let directory = tempfile::tempdir()?;
    let master = directory.path().join("master");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Master, &master)?;
    let expected = logits(&master, Activations::Int8)?;
    let gguf = directory.path().join("master.gguf");
    let packed = directory.path().join("packed");
    convert(&master, &gguf, ConvertType::I2S, &mut |_, _| ())?;
    convert(&master, &packed, ConvertType::SafeTensors, &mut |_, _| ())?;
    for path in [gguf, packed] {
        let found = logits(&path, Activations::Int8)?;
        assert!(bits(&found) == bits(&expected), "{}", path.display());
    }
    Ok(())
}

/// Writes the packed checkpoint `from` again with projections of floats that are ternary, and a head of ones beside the
/// embedding it is tied to.
fn as_floats(from: &Path, to: &Path, quantization: serde_json::Value) -> Outcome {
    std::fs::create_dir(to)?;
    std::fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json"))?;
    let packed = SafeTensorsModel::open(from)?;
    let mut config = packed.config().clone();
    assert_eq!(config["tie_word_embeddings"], true);
    config["quantization_config"] = quantization;
    std::fs::write(to.join("config.json"), config.to_string())?;
    let mut tensors = Vec::new();
    for tensor in packed.tensors() {
        let (name, data) = (tensor.name.clone(), tensor.data.to_vec());
        match (tensor.dtype, &tensor.shape[..]) {
            (Dtype::U8, &[packed_rows, cols]) => {
                let scale = packed.tensor(&format!("{name}_scale")).ok_or("a scale")?;
                let scale = match scale.data[..] {
                    [a, b] => f32::from_le_bytes([0, 0, a, b]),
                    [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                    _ => return Err("a scale of another type".into()),
                };
                let mut codes = vec![0; 4 * packed_rows * cols];
                hf_packed::unpack(&data, 4 * packed_rows, cols, &mut codes)?;
                let floats = codes.iter().map(|code| f32::from(*code) * scale);
                let data = floats.flat_map(f32::to_le_bytes).collect();
                tensors.push((name, Dtype::F32, vec![4 * packed_rows, cols], data));
            }
            _ if name.ends_with("_scale") => {}
            (dtype, shape) => {
                if name == "model.embed_tokens.weight" {
                    let ones = vec![60; data.len()];
                    tensors.push(("lm_head.weight".into(), dtype, shape.to_vec(), ones));
                }
                tensors.push((name, dtype, shape.to_vec(), data));
            }
        }
    }
    let mut writer = SafeTensorsWriter::new("floats");
    for (name, dtype, shape, _) in &tensors {
        writer.tensor(name, *dtype, shape)?;
    }
    let mut out = writer.begin(Vec::new())?;
    for (name, _, _, data) in &tensors {
        out.push(name, data)?;
    }
    std::fs::write(to.join("model.safetensors"), out.finish()?)?;
    Ok(())
}

#[test]
fn floats_that_are_ternary_are_not_shrunk_and_a_tied_head_is_ignored() -> Outcome {
    let directory = tempfile::tempdir()?;
    let packed = directory.path().join("packed");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Packed, &packed)?;
    let expected = logits(&packed, Activations::Int8)?;
    for (name, quantization) in [
        ("quantized", serde_json::json!({"quant_method": "bitnet"})),
        ("plain", serde_json::Value::Null),
    ] {
        let floats = directory.path().join(name);
        as_floats(&packed, &floats, quantization)?;
        let gguf = directory.path().join(format!("{name}.gguf"));
        let report = convert(&floats, &gguf, ConvertType::I2S, &mut |_, _| ())?;
        assert!(report.lossless(), "{report}");
        for path in [floats, gguf] {
            let found = logits(&path, Activations::Int8)?;
            assert!(bits(&found) == bits(&expected), "{}", path.display());
        }
    }
    Ok(())
}

/// The file with every I2_S matrix as the floats `code · scale`.
fn with_float_projections(from: &Path, to: &Path) -> Outcome {
    let file = Gguf::open(from)?;
    let mut writer = GgufWriter::new("floats");
    for (key, value) in file.metadata() {
        writer.entry(key, value.clone());
    }
    let mut tensors = Vec::new();
    for tensor in file.tensors() {
        let format = tensor.format(I2sLayout::A, file.name())?;
        if !matches!(format, Format::I2s(_)) {
            writer.tensor(&tensor.name, &tensor.ne, format)?;
            tensors.push((&tensor.name, tensor.data.to_vec()));
            continue;
        }
        let scale = tensor.i2s_scale(file.name())?;
        let (data, mut row) = (tensor.row_data(), vec![0.0; tensor.cols()]);
        let mut floats = Vec::new();
        for packed in data.chunks_exact(format.row_bytes(tensor.cols())?) {
            format.decode_row(packed, scale, &mut row)?;
            floats.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        }
        writer.tensor(&tensor.name, &tensor.ne, Format::F32)?;
        tensors.push((&tensor.name, floats));
    }
    let mut out = writer.begin(Vec::new())?;
    for (name, data) in &tensors {
        out.push(name, data)?;
    }
    Ok(std::fs::write(to, out.finish()?)?)
}

#[test]
fn floats_that_are_ternary_run_from_gguf_as_ternary_weights_of_the_pool() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let [packed, floats] = ["packed", "floats"].map(|name| directory.path().join(name));
        let options = SynthOptions {
            arch: *arch,
            ternary: TernaryType::I2S,
            ..SynthOptions::default()
        };
        synth::write(&options, &packed, &mut |_, _| ())?;
        with_float_projections(&packed, &floats)?;
        let expected = logits(&packed, Activations::Int8)?;
        let found = logits(&floats, Activations::Int8)?;
        assert!(bits(&found) == bits(&expected), "{arch}");

        let weights = |path| -> bitnet::Result<usize> {
            let model = Model::open(path)?;
            Ok(model.pool_stats().tag(Tag::Weights).in_use)
        };
        assert_eq!(weights(&packed)?, 0, "{arch}: nothing to repack");
        assert!(weights(&floats)? > 0, "{arch}");
    }
    Ok(())
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_model_survives_the_journey() -> Outcome {
    let directory = tempfile::tempdir()?;
    let gguf = directory.path().join("demo.gguf");
    std::fs::write(&gguf, bitnet_demo::GGUF)?;
    let checkpoint = directory.path().join("checkpoint");
    let report = convert(&gguf, &checkpoint, ConvertType::SafeTensors, &mut |_, _| ())?;
    assert!(report.lossless(), "{report}");
    let back = directory.path().join("back.gguf");
    convert(&checkpoint, &back, ConvertType::I2S, &mut |_, _| ())?;

    let text = "Once upon a time, a fox named Mia hid 42 red apples.\n\nIt's raining!";
    let first = Model::open(&gguf)?;
    let ids = first.tokenizer().encode(text, Default::default())?;
    let expected = first.session()?.forward(&ids, LogitsFor::All)?;
    for path in [checkpoint, back] {
        let model = Model::open(&path)?;
        assert_eq!(model.tokenizer().encode(text, Default::default())?, ids);
        assert_eq!(model.tokenizer().stops(), first.tokenizer().stops());
        let found = model.session()?.forward(&ids, LogitsFor::All)?;
        assert!(bits(&found) == bits(&expected), "{}", path.display());
    }
    Ok(())
}
