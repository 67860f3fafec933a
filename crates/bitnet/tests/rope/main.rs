//! Rotary scaling beside frequencies, magnitudes and logits computed by others.
//!
//! `frequencies.json`: frequencies of the pairs and magnitudes for metadata of GGUF and dictionaries of config.json, in
//! f64; they were found equal to transformers 5.24 (`modeling_rope_utils.py`) and llama.cpp (its rope operation), to the
//! noise of f32. `tiny-yarn.gguf`: a Qwen3 of 2 layers with YaRN; `tiny-yarn.json` has logits of an implementation in numpy, whose
//! twin in F32 agrees with llama.cpp to 2e-6.

mod config;

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::{Bytes, Gguf, GgufWriter, SafeTensorsModel};
use bitnet::{Activations, Architecture, Device, KvType, LogitsFor, Model, ModelOptions, Session};
use serde_json::{Value as Json, json};

type Outcome = Result<(), Box<dyn std::error::Error>>;

static TINY: &[u8] = include_bytes!("tiny-yarn.gguf");

fn expected(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn frequencies() -> Json {
    expected(include_str!("frequencies.json"))
}

/// A GGUF file without tensors: these entries, and what an architecture needs besides.
fn gguf(keys: &Json) -> bitnet::Result<Gguf> {
    let keys = keys.as_object().expect("keys");
    let arch = keys["general.architecture"].as_str().expect("a name");
    let mut writer = GgufWriter::new("keys");
    for (key, value) in keys {
        match value {
            Json::String(text) => writer.entry(key, text.as_str()),
            Json::Number(number) if number.is_f64() => {
                writer.entry(key, number.as_f64().expect("a number") as f32)
            }
            Json::Number(number) => writer.entry(key, number.as_u64().expect("a number") as u32),
            other => panic!("{other}"),
        };
    }
    for (key, number) in [
        ("block_count", 1u32),
        ("feed_forward_length", 1),
        ("embedding_length", 4096),
        ("attention.head_count", 32),
        ("context_length", 65536),
    ] {
        let key = format!("{arch}.{key}");
        if !keys.contains_key(&key) {
            writer.entry(key, number);
        }
    }
    writer.entry(format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-6f32);
    let bytes = writer.begin(Vec::new())?.finish()?;
    Gguf::parse("keys", Bytes::from(bytes))
}

fn of_gguf(keys: &Json) -> bitnet::Result<Architecture> {
    Architecture::from_gguf(&gguf(keys)?)
}

fn of_config(config: &Json) -> bitnet::Result<Architecture> {
    let empty = Bytes::from_static(b"\x08\0\0\0\0\0\0\0{}      ");
    let mut config = config.clone();
    if config["architectures"].is_null() {
        config["architectures"] = json!(["LlamaForCausalLM"]);
    }
    Architecture::from_config(&SafeTensorsModel::parse("config", empty, config)?)
}

fn assert_rotates(what: &str, found: &Architecture, case: &Json) {
    let rope = &found.rope;
    let frequencies = case["freqs"].as_array().expect("frequencies");
    assert_eq!(frequencies.len(), rope.dims / 2, "{what}");
    for (pair, expected) in frequencies.iter().enumerate() {
        let (expected, found) = (expected.as_f64().expect("a number"), rope.frequency(pair));
        let error = (found / expected - 1.0).abs();
        assert!(error < 2e-7, "{what}: pair {pair}: {found} != {expected}");
    }
    let magnitude = case["magnitude"].as_f64().expect("a number");
    let error = (f64::from(rope.magnitude) / magnitude - 1.0).abs();
    assert!(error < 1e-7, "{what}: {} != {magnitude}", rope.magnitude);
}

#[test]
fn metadata_gives_the_frequencies_of_llama_cpp() -> Outcome {
    let frequencies = frequencies();
    let cases = frequencies["gguf"].as_array().ok_or("cases")?;
    assert_eq!(cases.len(), 11);
    for case in cases {
        let what = case["name"].to_string();
        assert_rotates(&what, &of_gguf(&case["keys"])?, case);
    }
    Ok(())
}

#[test]
fn configurations_give_the_frequencies_of_transformers() -> Outcome {
    let frequencies = frequencies();
    let cases = frequencies["hf"].as_array().ok_or("cases")?;
    for case in cases {
        let what = case["name"].to_string();
        let found = of_config(&case["config"])?;
        if what.contains("dynamic") {
            // Its frequencies are those beyond the context, where no session goes.
            assert!(found.rope.divisors.is_empty(), "{what}");
        } else {
            assert_rotates(&what, &found, case);
        }
    }
    let divisors = frequencies["llama3_divisors_128_5e5_8_1_4_8192"].as_array();
    let found = of_config(&cases[0]["config"])?.rope.divisors;
    for (found, expected) in found.iter().zip(divisors.ok_or("divisors")?) {
        let expected = expected.as_f64().ok_or("a number")?;
        assert!(
            (f64::from(*found) / expected - 1.0).abs() < 1e-6,
            "{found} != {expected}"
        );
    }
    Ok(())
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let keys = |edit: &dyn Fn(&mut Json)| {
        let mut keys = json!({
            "general.architecture": "qwen3",
            "qwen3.rope.scaling.type": "yarn",
            "qwen3.rope.scaling.factor": 4.0,
        });
        edit(&mut keys);
        of_gguf(&keys).expect_err("refused").to_string()
    };
    for (key, value, with) in [
        ("type", json!("longrope"), "\"longrope\""),
        ("type", json!("su"), "\"su\""),
        ("factor", json!(-2.0), "factor: expected a positive number"),
        (
            "original_context_length",
            json!(0),
            "original context length",
        ),
        ("attn_factor", json!(0.0), "magnitude (attention factor)"),
        ("yarn_beta_fast", json!(16.0), "yarn_beta_fast = 16"),
        ("yarn_attn_factor", json!(0.5), "yarn_attn_factor = 0.5"),
        ("alpha", json!(1000.0), "rope.scaling.alpha"),
    ] {
        let error = keys(&|keys| keys[format!("qwen3.rope.scaling.{key}")] = value.clone());
        assert!(error.contains(with), "{error}");
    }
    let error = keys(&|keys| keys["qwen3.rope.freq_base"] = json!(1.0));
    assert!(
        error.contains("rotary base: expected more than 1"),
        "{error}"
    );
    // Keys that say what is the case anyway.
    let neutral = json!({
        "general.architecture": "qwen3",
        "qwen3.rope.scaling.type": "yarn",
        "qwen3.rope.scaling.yarn_beta_fast": 32.0,
        "qwen3.rope.scaling.yarn_beta_slow": 1.0,
        "qwen3.rope.scaling.yarn_ext_factor": 1.0,
        "qwen3.rope.scaling.yarn_log_multiplier": 0.0,
        // 0 counts as 1.
        "qwen3.rope.scaling.factor": 0.0,
    });
    assert_eq!(of_gguf(&neutral).expect("neutral").rope.magnitude, 1.0);
}

fn options(activations: Activations) -> ModelOptions {
    ModelOptions {
        device: Some(Device::Cpu),
        activations,
        kv: Some(KvType::F32),
        ..ModelOptions::default()
    }
}

/// The largest difference from the golden logits.
fn distance(model: &Model) -> bitnet::Result<f64> {
    let golden = expected(include_str!("tiny-yarn.json"));
    let tokens: Vec<u32> = serde_json::from_value(golden["tokens"].clone()).expect("tokens");
    let rows: Vec<usize> = serde_json::from_value(golden["rows"].clone()).expect("rows");
    let found = model.session()?.forward(&tokens, LogitsFor::All)?;
    let mut worst = 0f64;
    for (row, logits) in rows
        .iter()
        .zip(golden["logits"].as_array().expect("logits"))
    {
        let found = &found[row * model.vocabulary()..][..model.vocabulary()];
        let logits = logits.as_array().expect("a row");
        assert_eq!(logits.len(), found.len());
        for (found, expected) in found.iter().zip(logits) {
            let expected = expected.as_f64().expect("a number");
            worst = worst.max((f64::from(*found) - expected).abs());
        }
    }
    Ok(worst)
}

#[test]
fn logits_with_yarn_are_the_golden_ones_from_both_kinds_of_file() -> Outcome {
    let options = options(Activations::F32);
    let worst = distance(&Model::from_bytes("tiny-yarn", TINY, &options)?)?;
    assert!(worst < 1e-4, "{worst}");

    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("tiny.gguf"), TINY)?;
    convert(
        &path("tiny.gguf"),
        &path("st"),
        ConvertType::SafeTensors,
        &mut |_, _| (),
    )?;
    let config: Json = serde_json::from_slice(&std::fs::read(path("st").join("config.json"))?)?;
    assert_eq!(
        config["rope_scaling"],
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})
    );
    let checkpoint = Model::open_with(path("st"), &options, |_, _| ())?;
    let worst = distance(&checkpoint)?;
    assert!(worst < 1e-4, "{worst}");

    convert(
        &path("st"),
        &path("back.gguf"),
        ConvertType::TQ2_0,
        &mut |_, _| (),
    )?;
    let back = Model::open_with(path("back.gguf"), &options, |_, _| ())?;
    assert_eq!(back.architecture().rope, checkpoint.architecture().rope);
    let worst = distance(&back)?;
    assert!(worst < 1e-4, "{worst}");
    Ok(())
}

#[cfg(feature = "wgpu")]
#[test]
fn logits_with_yarn_are_the_golden_ones_on_a_gpu() -> Outcome {
    let adapter = bitnet_core::gpu::GpuOptions {
        software: true,
        ..Default::default()
    };
    let gpu = bitnet_core::gpu::WgpuBackend::new(&adapter)?;
    let file = bitnet::file::ModelFile::parse("tiny-yarn", Bytes::from_static(TINY))?;
    let model = Model::from_file_on(&file, gpu, &options(Activations::F32), |_, _| ())?;
    let worst = distance(&model)?;
    assert!(worst < 1e-4, "{worst}");
    Ok(())
}

/// The file with another factor and, if some are given, divisors of frequencies.
fn changed(factor: f32, divisors: Option<&[f32]>) -> bitnet::Result<Model> {
    let file = Gguf::parse("tiny-yarn", Bytes::from_static(TINY))?;
    let mut writer = GgufWriter::new("changed");
    for (key, value) in file.metadata() {
        if key == "qwen3.rope.scaling.factor" {
            writer.entry(key, factor);
        } else {
            writer.entry(key, value.clone());
        }
    }
    for tensor in file.tensors() {
        let format = tensor.format(Default::default(), "tiny-yarn")?;
        writer.tensor(&tensor.name, &tensor.ne, format)?;
    }
    let divisors = divisors.map(bytemuck::cast_slice::<f32, u8>);
    if let Some(bytes) = divisors {
        let ne = [bytes.len() as u64 / 4];
        writer.tensor("rope_freqs.weight", &ne, bitnet_quant::Format::F32)?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in file.tensors() {
        data.push(&tensor.name, &tensor.data)?;
    }
    if let Some(bytes) = divisors {
        data.push("rope_freqs.weight", bytes)?;
    }
    Model::from_bytes("changed", data.finish()?, &options(Activations::Int8))
}

#[test]
fn a_session_is_not_restored_by_a_model_that_is_scaled_otherwise() -> Outcome {
    let model = changed(4.0, None)?;
    let mut session = model.session()?;
    session.forward(&[41, 102], LogitsFor::Last)?;
    let mut saved = Vec::new();
    session.save("saved", &mut saved)?;
    Session::restore(&changed(4.0, None)?, "saved", &saved[..])?;
    let error = Session::restore(&changed(4.5, None)?, "saved", &saved[..]).err();
    let error = error.ok_or("another scaling")?.to_string();
    assert!(error.contains("weights or options are others"), "{error}");
    Ok(())
}

#[test]
fn divisors_of_a_file_are_checked_and_divide_what_scaling_left() -> Outcome {
    let plain = changed(4.0, None)?.architecture().rope.clone();
    let half = plain.dims / 2;
    let mut divisors = vec![2.0; half];
    let rope = changed(4.0, Some(&divisors))?.architecture().rope.clone();
    for pair in 0..half {
        assert_eq!(rope.frequency(pair) * 2.0, plain.frequency(pair));
    }
    for (wrong, with) in [
        (0.0, "found 0"),
        (-1.0, "found -1"),
        (f32::NAN, "found NaN"),
    ] {
        divisors[1] = wrong;
        let error = changed(4.0, Some(&divisors)).expect_err(with).to_string();
        assert!(
            error.contains("rope_freqs.weight") && error.contains(with),
            "{error}"
        );
    }
    let error = changed(4.0, Some(&divisors[1..]))
        .expect_err("too few")
        .to_string();
    assert!(error.contains("rope_freqs.weight"), "{error}");
    Ok(())
}

/// Llama 3.1's scaling has a tensor of divisors in GGUF and a dictionary in config.json.
#[test]
fn llama_3_goes_there_and_back() -> Outcome {
    use bitnet::file::synth::{self, CheckpointWeights, SynthArch, SynthOptions};
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    for (arch, refused) in [(SynthArch::Llama, false), (SynthArch::Qwen3, true)] {
        let options = SynthOptions {
            arch,
            ..SynthOptions::default()
        };
        let (from, gguf) = (path(&format!("{arch}")), path(&format!("{arch}.gguf")));
        synth::write_checkpoint(&options, CheckpointWeights::Packed, &from)?;
        let config_path = from.join("config.json");
        let mut config: Json = serde_json::from_slice(&std::fs::read(&config_path)?)?;
        config["rope_scaling"] = scaling.clone();
        std::fs::write(config_path, config.to_string())?;
        let converted = convert(&from, &gguf, ConvertType::I2S, &mut |_, _| ());
        if refused {
            // Other safetensors have a place for it.
            convert(
                &from,
                &path("again"),
                ConvertType::SafeTensors,
                &mut |_, _| (),
            )?;
            let error = converted.expect_err("no place").to_string();
            assert!(error.contains("Llama 3's rotary scaling"), "{error}");
            continue;
        }
        converted?;
        let back = path("back");
        convert(&gguf, &back, ConvertType::SafeTensors, &mut |_, _| ())?;
        let config: Json = serde_json::from_slice(&std::fs::read(back.join("config.json"))?)?;
        assert_eq!(config["rope_scaling"], scaling);
        let logits = |path: &std::path::Path| -> bitnet::Result<Vec<f32>> {
            let model = Model::open_with(path, &self::options(Activations::F32), |_, _| ())?;
            model
                .session()?
                .forward(&[1, 2, 3, 4, 5, 6, 7, 8], LogitsFor::Last)
        };
        let expected = logits(&from)?;
        assert!(logits(&back)? == expected);
        // Pairs lie elsewhere, and sums take another order.
        for (found, expected) in logits(&gguf)?.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} != {expected}");
        }
    }
    Ok(())
}
