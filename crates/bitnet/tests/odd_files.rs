//! Files that are unusual and right, and files that are refused with advice.

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::synth::{self, CheckpointWeights, SynthOptions};
use bitnet::file::{Bytes, Dtype, Gguf, GgufWriter, SafeTensorsModel, Value};
use bitnet::{LogitsFor, Model};
use serde_json::{Value as Json, json};
use std::path::Path;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn logits(model: &Model) -> bitnet::Result<Vec<f32>> {
    model.session()?.forward(&[1, 2, 3], LogitsFor::Last)
}

fn edit_config(directory: &Path, edit: impl FnOnce(&mut Json)) -> Outcome {
    let path = directory.join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path)?)?;
    edit(&mut config);
    Ok(std::fs::write(path, config.to_string())?)
}

fn packed(directory: &Path) -> Outcome {
    Ok(synth::write_checkpoint(
        &SynthOptions::default(),
        CheckpointWeights::Packed,
        directory,
    )?)
}

fn refusal(directory: &Path) -> Outcome<String> {
    let error = Model::open(directory).err();
    Ok(error.ok_or("it opened")?.to_string())
}

/// Writes the checkpoint again with scales and vectors in F64.
fn widen(directory: &Path) -> Outcome {
    let from = SafeTensorsModel::open(directory)?;
    let mut tensors = Vec::new();
    for tensor in from.tensors() {
        let bytes = &tensor.data;
        let floats: Option<Vec<f32>> = match tensor.dtype {
            Dtype::F32 => Some(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            ),
            Dtype::BF16 => {
                let high = bytes.as_chunks::<2>().0.iter();
                Some(
                    high.map(|&[a, b]| f32::from_le_bytes([0, 0, a, b]))
                        .collect(),
                )
            }
            _ => None,
        };
        let wide = floats.filter(|_| tensor.shape.len() == 1);
        let (dtype, data) = match wide {
            Some(floats) => {
                let bytes = floats.iter().flat_map(|x| f64::from(*x).to_le_bytes());
                (Dtype::F64, bytes.collect())
            }
            None => (tensor.dtype, tensor.data.to_vec()),
        };
        tensors.push((tensor.name.clone(), dtype, tensor.shape.clone(), data));
    }
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        Ok((name.clone(), view?))
    });
    let views: Outcome<Vec<_>> = views.collect();
    let bytes = safetensors::serialize(views?, None)?;
    drop(from);
    Ok(std::fs::write(directory.join("model.safetensors"), bytes)?)
}

#[test]
fn scales_and_vectors_may_be_f64() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("st");
    packed(&path)?;
    let expected = logits(&Model::open(&path)?)?;
    widen(&path)?;
    assert!(logits(&Model::open(&path)?)? == expected);
    let gguf = directory.path().join("back.gguf");
    convert(&path, &gguf, ConvertType::I2S, &mut |_, _| ())?;
    assert!(logits(&Model::open(gguf)?)? == expected);
    Ok(())
}

#[test]
fn packed_weights_need_a_configuration() -> Outcome {
    let directory = tempfile::tempdir()?;
    packed(directory.path().join("st").as_path())?;
    let path = directory.path().join("st");
    let mut before = Json::Null;
    for missing in [
        json!(null),
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}),
    ] {
        edit_config(&path, |config| {
            before = std::mem::replace(&mut config["quantization_config"], missing);
        })?;
        let error = refusal(&path)?;
        assert!(error.contains("q_proj.weight is U8"), "{error}");
        assert!(
            error.contains("quantization_config (quant_method"),
            "{error}"
        );
    }
    // Fields of other types and values are no defaults.
    for (key, value) in [
        ("linear_class", json!(5)),
        ("linear_class", json!("linear")),
        ("quantization_mode", json!("sometimes")),
        ("use_rms_norm", json!("no")),
        ("modules_to_not_convert", json!("lm_head")),
        ("modules_to_not_convert", json!(["("])),
    ] {
        edit_config(&path, |config| {
            config["quantization_config"] = json!({"quant_method": "bitnet", key: value})
        })?;
        let error = refusal(&path)?;
        assert!(error.contains(key), "{error}");
    }
    edit_config(&path, |config| {
        config["quantization_config"] = json!("bitnet")
    })?;
    assert!(refusal(&path)?.contains("quantization_config: expected an object or null"));
    Ok(())
}

/// transformers 5.24, `integrations/bitnet.py`: AutoBitLinear rounds its weights in mode "online" and uses them as they are in
/// mode "offline", which is the default.
#[test]
fn master_weights_are_rounded_where_transformers_rounds_them() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("st");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Master, &path)?;
    Model::open(&path)?;
    for mode in [json!("offline"), json!(null)] {
        edit_config(&path, |config| {
            config["quantization_config"]["quantization_mode"] = mode
        })?;
        let error = refusal(&path)?;
        assert!(
            error.contains("as quantization_mode \"offline\" says"),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn folders_of_mlx_are_refused_with_advice() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("st");
    packed(&path)?;
    // mlx-lm writes both keys.
    let groups = json!({"group_size": 128, "bits": 2});
    edit_config(&path, |config| {
        config["quantization"] = groups.clone();
        config["quantization_config"] = groups;
    })?;
    let error = refusal(&path)?;
    assert!(
        error.contains("an MLX checkpoint of 2 bits in groups of 128"),
        "{error}"
    );
    assert!(
        error.contains("use the same model as a GGUF file"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_name_that_is_no_text_does_not_stop_a_model() -> Outcome {
    let bytes = Bytes::from(synth::to_vec(&SynthOptions::default())?);
    let file = Gguf::parse("tiny", bytes)?;
    let mut writer = GgufWriter::new("renamed");
    let name = Bytes::from_static(b"caf\xe9");
    for (key, value) in file.metadata() {
        match key.as_str() {
            "general.name" => writer.entry(key, Value::String(name.clone())),
            _ => writer.entry(key, value.clone()),
        };
    }
    writer.entry("general.author", Value::String(name.clone()));
    for tensor in file.tensors() {
        writer.tensor(
            &tensor.name,
            &tensor.ne,
            tensor.format(Default::default(), "tiny")?,
        )?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in file.tensors() {
        data.push(&tensor.name, &tensor.data)?;
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("renamed.gguf");
    std::fs::write(&path, data.finish()?)?;
    logits(&Model::open(&path)?)?;
    let st = directory.path().join("st");
    convert(&path, &st, ConvertType::SafeTensors, &mut |_, _| ())?;
    let config: Json = serde_json::from_slice(&std::fs::read(st.join("config.json"))?)?;
    assert_eq!(config["_name_or_path"], "caf\u{fffd}");
    Ok(())
}
