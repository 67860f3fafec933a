//! Conversions keep every weight, say what they round, and refuse what they cannot keep.

use std::path::{Path, PathBuf};

use bitnet::file::convert::{ConvertReport, ConvertType, convert};
use bitnet::file::gguf::{Array, GgufWriter};
use bitnet::file::synth::{self, CheckpointWeights, SynthArch, SynthOptions, TernaryType};
use bitnet::file::{Dtype, Gguf, SafeTensorsModel, Value};
use bitnet_quant::{Format, I2sLayout, hf_packed, quantize_absmean};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn to(input: &Path, output: &Path, kind: ConvertType) -> bitnet::Result<ConvertReport> {
    convert(input, output, kind, &mut |_, _| ())
}

fn synthetic(directory: &Path, arch: SynthArch, ternary: TernaryType) -> bitnet::Result<PathBuf> {
    let path = directory.join(format!("{arch}-{ternary}.gguf"));
    let options = SynthOptions {
        arch,
        ternary,
        ..SynthOptions::default()
    };
    synth::write(&options, &path, &mut |_, _| ())?;
    Ok(path)
}

/// The codes of a ternary tensor of a GGUF file, row after row.
fn codes(file: &Gguf, name: &str) -> Vec<i8> {
    let tensor = file.tensor(name).expect(name);
    let format = tensor.format(I2sLayout::A, "").expect("a format");
    let (cols, rows) = (tensor.cols(), tensor.row_data());
    let mut codes = vec![0; tensor.elements()];
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    for (row, codes) in rows.chunks(row_bytes).zip(codes.chunks_mut(cols)) {
        format.decode_codes(row, codes).expect("codes");
    }
    codes
}

#[test]
fn ternary_types_come_back_to_the_same_bytes() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let first = synthetic(directory.path(), *arch, TernaryType::I2S)?;
        let mut at = first.clone();
        for (step, kind) in [
            ConvertType::TQ1_0,
            ConvertType::PTQ1_0,
            ConvertType::TQ2_0,
            ConvertType::PQ2_0,
            ConvertType::I2S,
        ]
        .into_iter()
        .enumerate()
        {
            let next = directory.path().join(format!("step{step}.gguf"));
            let mut progress = (0, 0);
            let report = convert(&at, &next, kind, &mut |done, total| {
                progress = (done, total)
            })?;
            assert!(report.lossless(), "{report}");
            assert!(report.to_string().contains("Lossless"));
            assert_eq!(report.ternary, 14);
            assert_eq!(progress, (report.data_bytes, report.data_bytes));
            at = next;
        }
        assert!(std::fs::read(&first)? == std::fs::read(&at)?, "{arch}");
    }
    // What a conversion makes is what would have been made directly.
    let converted = directory.path().join("converted.gguf");
    for (from, kind, ternary) in [
        (TernaryType::TQ2_0, ConvertType::TQ1_0, TernaryType::TQ1_0),
        (TernaryType::TQ2_0, ConvertType::PTQ1_0, TernaryType::PTQ1_0),
        (TernaryType::Q2_0, ConvertType::PQ2_0, TernaryType::PQ2_0),
    ] {
        let direct = synthetic(directory.path(), SynthArch::Llama, ternary)?;
        let from = synthetic(directory.path(), SynthArch::Llama, from)?;
        to(&from, &converted, kind)?;
        assert!(
            std::fs::read(direct)? == std::fs::read(&converted)?,
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn gguf_comes_back_from_safetensors() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let first = synthetic(directory.path(), *arch, TernaryType::I2S)?;
        let checkpoint = directory.path().join(arch.name());
        let report = to(&first, &checkpoint, ConvertType::SafeTensors)?;
        assert!(report.lossless() && report.ternary == 14, "{report}");
        let repacked = directory.path().join(format!("{arch}-repacked"));
        assert!(to(&checkpoint, &repacked, ConvertType::SafeTensors)?.lossless());
        let second = directory.path().join("second.gguf");
        let report = to(&repacked, &second, ConvertType::I2S)?;
        assert!(report.lossless(), "{report}");

        let (first, second) = (Gguf::open(&first)?, Gguf::open(&second)?);
        assert_eq!(first.tensors().len(), second.tensors().len());
        for tensor in first.tensors() {
            let same = second.tensor(&tensor.name).expect("the tensor");
            assert_eq!(
                (tensor.kind, &tensor.ne),
                (same.kind, &same.ne),
                "{}",
                tensor.name
            );
            assert!(tensor.data == same.data, "{arch}: {}", tensor.name);
        }
        for (key, value) in first.metadata() {
            // Scores mean nothing to a vocabulary that merges by rank.
            if key != "tokenizer.ggml.scores" {
                assert_eq!(second.get(key), Some(value), "{arch}: {key}");
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_rotary_heads_change_places_for_llama_alone() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in [SynthArch::Llama, SynthArch::BitnetB158] {
        let path = synthetic(directory.path(), arch, TernaryType::I2S)?;
        let checkpoint = directory.path().join(arch.name());
        to(&path, &checkpoint, ConvertType::SafeTensors)?;
        let (file, checkpoint) = (Gguf::open(&path)?, SafeTensorsModel::open(&checkpoint)?);
        for (gguf, name, rows) in [("attn_k", "k_proj", 128), ("attn_v", "v_proj", 128)] {
            let expected = codes(&file, &format!("blk.1.{gguf}.weight"));
            let packed = checkpoint
                .tensor(&format!("model.layers.1.self_attn.{name}.weight"))
                .expect("packed");
            let mut found = vec![0; rows * 256];
            hf_packed::unpack(&packed.data, rows, 256, &mut found)?;
            let head = 64;
            for row in 0..rows {
                let source = match (arch, gguf) {
                    (SynthArch::Llama, "attn_k") => {
                        // Pair i of a head: rows 2i and 2i + 1 in GGUF, rows i and i + 32 in a checkpoint.
                        let (start, at) = (row / head * head, row % head);
                        start + at % 32 * 2 + at / 32
                    }
                    _ => row,
                };
                assert_eq!(
                    found[row * 256..][..256],
                    expected[source * 256..][..256],
                    "{arch} {gguf} {row}"
                );
            }
        }
        let config = checkpoint.config();
        assert_eq!(
            config["quantization_config"]["linear_class"],
            "autobitlinear"
        );
        assert_eq!(config["tie_word_embeddings"], arch != SynthArch::Llama);
        assert_eq!(config["num_key_value_heads"], 2);
    }
    Ok(())
}

#[test]
fn master_weights_become_ternary_once() -> Outcome {
    let directory = tempfile::tempdir()?;
    let master = directory.path().join("master");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Master, &master)?;
    let output = directory.path().join("master.gguf");
    let report = to(&master, &output, ConvertType::I2S)?;
    assert_eq!((report.ternary, report.quantized), (14, 14));
    assert!(
        !report.lossless() && report.to_string().contains("mean magnitude"),
        "{report}"
    );

    let file = Gguf::open(&output)?;
    let name = "model.layers.0.mlp.down_proj.weight";
    let raw = SafeTensorsModel::open(&master)?
        .tensor(name)
        .expect("the weights");
    let mut values = vec![0.0; 256 * 512];
    Format::Bf16.decode_row(&raw.data, 1.0, &mut values)?;
    let mut expected = vec![0; values.len()];
    let scale = quantize_absmean(&values, &mut expected)?;
    assert_eq!(
        file.tensor("blk.0.ffn_down.weight")
            .expect("down")
            .i2s_scale("")?,
        scale
    );
    assert!(codes(&file, "blk.0.ffn_down.weight") == expected);

    // Written out as floats and read again, the weights keep their scale.
    let dequantized = directory.path().join("dequantized");
    std::fs::create_dir(&dequantized)?;
    rewrite(&master, &dequantized, |tensor, dtype, data| {
        if !is_projection(tensor) {
            return (dtype, data.to_vec());
        }
        let mut values = vec![0.0; data.len() / 2];
        Format::Bf16
            .decode_row(data, 1.0, &mut values)
            .expect("floats");
        let mut codes = vec![0; values.len()];
        let scale = quantize_absmean(&values, &mut codes).expect("finite");
        let floats = codes
            .iter()
            .flat_map(|code| (f32::from(*code) * scale).to_le_bytes());
        (Dtype::F32, floats.collect())
    })?;
    let again = directory.path().join("again.gguf");
    let report = to(&dequantized, &again, ConvertType::I2S)?;
    assert!(report.lossless(), "{report}");
    let again = Gguf::open(&again)?;
    for tensor in file.tensors() {
        assert!(
            tensor.data == again.tensor(&tensor.name).expect("the tensor").data,
            "{}",
            tensor.name
        );
    }
    Ok(())
}

fn is_projection(name: &str) -> bool {
    name.ends_with("_proj.weight")
}

/// Copies a checkpoint, changing every tensor's type and bytes.
fn rewrite(
    from: &Path,
    to: &Path,
    change: impl Fn(&str, Dtype, &[u8]) -> (Dtype, Vec<u8>),
) -> bitnet::Result<()> {
    let model = SafeTensorsModel::open(from)?;
    let mut writer = bitnet::file::safetensors::SafeTensorsWriter::new("rewritten");
    let mut contents = Vec::new();
    for tensor in model.tensors() {
        let (dtype, data) = change(&tensor.name, tensor.dtype, &tensor.data);
        writer.tensor(&tensor.name, dtype, &tensor.shape)?;
        contents.push((tensor.name.clone(), data));
    }
    let mut data = writer.begin(Vec::new())?;
    for (name, content) in contents {
        data.push(&name, &content)?;
    }
    std::fs::write(to.join("model.safetensors"), data.finish()?).expect("written");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name)).expect("copied");
    }
    Ok(())
}

fn edit_config(directory: &Path, edit: impl FnOnce(&mut serde_json::Value)) -> Outcome {
    let path = directory.join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path)?)?;
    edit(&mut config);
    std::fs::write(path, config.to_string())?;
    Ok(())
}

#[test]
fn the_class_of_a_checkpoint_says_what_its_scales_mean() -> Outcome {
    let directory = tempfile::tempdir()?;
    let packed = directory.path().join("packed");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Packed, &packed)?;
    let reciprocal = directory.path().join("reciprocal");
    std::fs::create_dir(&reciprocal)?;
    rewrite(&packed, &reciprocal, |name, dtype, data| {
        match (name.ends_with("_scale"), data) {
            (true, &[a, b]) => {
                let scale = f32::from_le_bytes([0, 0, a, b]);
                (Dtype::F32, (1.0 / scale).to_le_bytes().to_vec())
            }
            (true, &[a, b, c, d]) => {
                let scale = f32::from_le_bytes([a, b, c, d]);
                (Dtype::F32, (1.0 / scale).to_le_bytes().to_vec())
            }
            _ => (dtype, data.to_vec()),
        }
    })?;
    edit_config(&reciprocal, |config| {
        config["quantization_config"]["linear_class"] = "bitlinear".into()
    })?;
    let output = directory.path().join("out.gguf");
    to(&reciprocal, &output, ConvertType::I2S)?;
    let found = Gguf::open(&output)?
        .tensor("blk.0.attn_q.weight")
        .expect("q")
        .i2s_scale("")?;
    let original = synthetic(directory.path(), SynthArch::BitnetB158, TernaryType::I2S)?;
    let expected = Gguf::open(&original)?
        .tensor("blk.0.attn_q.weight")
        .expect("q")
        .i2s_scale("")?;
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    Ok(())
}

/// A GGUF file with the metadata of `like`, one scale for every ternary matrix, and rows of its own.
fn with_scale(like: &Path, output: &Path, scale: f32) -> Outcome {
    let file = Gguf::open(like)?;
    let mut writer = GgufWriter::new("scaled");
    for (key, value) in file.metadata() {
        writer.entry(key.clone(), value.clone());
    }
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, &tensor.ne, tensor.format(I2sLayout::A, "")?)?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in file.tensors() {
        let mut bytes = tensor.data.to_vec();
        if tensor.i2s_scale("").is_ok() {
            let at = bytes.len() - 32;
            bytes[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        }
        data.push(&tensor.name, &bytes)?;
    }
    std::fs::write(output, data.finish()?)?;
    Ok(())
}

#[test]
fn rounded_scales_are_reported() -> Outcome {
    let directory = tempfile::tempdir()?;
    let like = synthetic(directory.path(), SynthArch::Qwen3, TernaryType::I2S)?;
    let path = directory.path().join("tenth.gguf");
    with_scale(&like, &path, 0.1)?;
    let tq = directory.path().join("tq.gguf");
    let report = to(&path, &tq, ConvertType::TQ2_0)?;
    let expected = (half::f16::from_f32(0.1).to_f64() / f64::from(0.1f32) - 1.0).abs();
    assert!(
        (report.scale_error - expected).abs() < 1e-12,
        "{} {expected}",
        report.scale_error
    );
    assert!(
        !report.lossless() && report.to_string().contains("rounded to f16"),
        "{report}"
    );
    assert!(
        codes(&Gguf::open(&path)?, "blk.0.ffn_up.weight")
            == codes(&Gguf::open(&tq)?, "blk.0.ffn_up.weight")
    );
    // To a checkpoint it goes as it is.
    let report = to(
        &path,
        &directory.path().join("checkpoint"),
        ConvertType::SafeTensors,
    )?;
    assert!(report.lossless());
    // A scale that f16 would make 0, or infinite, cannot be kept at all.
    for scale in [1e-9, 1e6, f32::NAN] {
        with_scale(&like, &path, scale)?;
        let error = to(&path, &tq, ConvertType::TQ1_0)
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("tenth.gguf: tensor blk.0.attn_q.weight"),
            "{error}"
        );
    }
    Ok(())
}

/// A GGUF file with one matrix of `rows` in TQ2_0 blocks of the given scales.
fn one_matrix(path: &Path, cols: usize, format: Format, scales: &[f32]) -> Outcome {
    let mut writer = GgufWriter::new("one");
    writer
        .entry("general.architecture", "llama")
        .entry("some.list", Array::from_strings(["a"]));
    writer.tensor("blk.0.attn_v.weight", &[cols as u64, 1], format)?;
    let mut row = vec![0; format.row_bytes(cols)?];
    format.encode_codes(&vec![1; cols], scales, &mut row)?;
    let mut data = writer.begin(Vec::new())?;
    data.push("blk.0.attn_v.weight", &row)?;
    if matches!(format, Format::I2s(_)) {
        data.push("blk.0.attn_v.weight", &[0; 32])?;
    }
    std::fs::write(path, data.finish()?)?;
    Ok(())
}

#[test]
fn what_cannot_be_kept_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("one.gguf");
    let output = directory.path().join("out.gguf");
    let refused = |kind, with: &str| {
        let error = to(&path, &output, kind).expect_err(with).to_string();
        assert!(
            error.contains("one.gguf") && error.contains(with),
            "{error}"
        );
        assert!(!output.exists());
    };
    one_matrix(&path, 512, Format::Tq2_0, &[0.5, 0.25])?;
    refused(ConvertType::I2S, "one scale for the whole matrix");
    assert!(to(&path, &output, ConvertType::TQ1_0)?.lossless());
    assert_eq!(
        Gguf::open(&output)?.get("some.list").map(Value::to_string),
        Some("string[1] \"a\"".into())
    );
    std::fs::remove_file(&output)?;

    one_matrix(&path, 128, Format::I2s(I2sLayout::A), &[])?;
    refused(
        ConvertType::TQ1_0,
        "rows of a multiple of 256 elements, which TQ1_0 needs",
    );
    let mut groups = [1.0; 128];
    groups[70] = 2.0;
    one_matrix(&path, 8192, Format::Q2_0, &groups)?;
    refused(
        ConvertType::TQ2_0,
        "second scale within a block of the output",
    );

    let mut writer = GgufWriter::new("plain");
    writer.tensor("blk.0.attn_v.weight", &[2], Format::F32)?;
    let mut data = writer.begin(Vec::new())?;
    data.push("blk.0.attn_v.weight", &[0, 0, 128, 63, 0, 0, 0, 64])?;
    std::fs::write(&path, data.finish()?)?;
    refused(ConvertType::I2S, "without ternary weights");
    Ok(())
}

#[test]
fn checkpoints_with_unknown_parts_are_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let packed = directory.path().join("packed");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Packed, &packed)?;
    let output = directory.path().join("out.gguf");
    let error = to(&packed, &packed, ConvertType::SafeTensors)
        .expect_err("not empty")
        .to_string();
    assert!(error.contains("not empty"), "{error}");

    let edits: [(&str, serde_json::Value, &str); 4] = [
        (
            "quantization_config",
            serde_json::json!({"quant_method": "gptq"}),
            "gptq",
        ),
        (
            "quantization_config",
            serde_json::json!({"quant_method": "bitnet", "use_rms_norm": true}),
            "use_rms_norm",
        ),
        (
            "quantization_config",
            serde_json::json!({"linear_class": "other"}),
            "linear_class",
        ),
        (
            "intermediate_size",
            serde_json::json!(1024),
            "matrix of 256 × 1024",
        ),
    ];
    for (key, value, with) in edits {
        let mut before = serde_json::Value::Null;
        edit_config(&packed, |config| {
            before = std::mem::replace(&mut config[key], value)
        })?;
        let error = to(&packed, &output, ConvertType::I2S)
            .expect_err(with)
            .to_string();
        assert!(error.contains(with), "{error}");
        edit_config(&packed, |config| config[key] = before)?;
    }
    to(&packed, &output, ConvertType::I2S)?;

    std::fs::remove_file(packed.join("tokenizer.json"))?;
    let error = to(&packed, &output, ConvertType::I2S)
        .expect_err("no tokenizer")
        .to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    Ok(())
}
