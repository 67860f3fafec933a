//! The files that conversions write: what other programs must find in them, when they appear, and what they never replace.

use std::path::{Path, PathBuf};

use bitnet::chat::TemplateOptions;
use bitnet::file::convert::{ConvertOptions, ConvertType, convert, convert_with};
use bitnet::file::gguf::GgufWriter;
use bitnet::file::safetensors::SafeTensorsWriter;
use bitnet::file::synth::{self, SynthArch, SynthOptions};
use bitnet::file::{Dtype, Gguf, ModelFile, SafeTensorsModel, Value};
use bitnet::{Cancel, ChatMessage, Error, I2sLayout, LogitsFor, Model};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn synthetic(directory: &Path, arch: SynthArch) -> bitnet::Result<PathBuf> {
    let path = directory.join(format!("{arch}.gguf"));
    let options = SynthOptions {
        arch,
        ..SynthOptions::default()
    };
    synth::write(&options, &path, &mut |_, _| ())?;
    Ok(path)
}

/// Writes the tensors numbered `range` of `file` with `metadata`.
fn write_gguf(
    path: &Path,
    file: &Gguf,
    metadata: &[(String, Value)],
    range: std::ops::Range<usize>,
) -> Outcome {
    let mut writer = GgufWriter::new("rewritten");
    for (key, value) in metadata {
        writer.entry(key.clone(), value.clone());
    }
    let tensors = &file.tensors()[range];
    for tensor in tensors {
        let format = tensor.format(I2sLayout::A, "")?;
        writer.tensor(&tensor.name, &tensor.ne, format)?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in tensors {
        data.push(&tensor.name, &tensor.data)?;
    }
    std::fs::write(path, data.finish()?)?;
    Ok(())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn logits(path: &Path) -> bitnet::Result<Vec<u32>> {
    let logits = Model::open(path)?
        .session()?
        .forward(&[1, 7, 300], LogitsFor::All)?;
    Ok(logits.into_iter().map(f32::to_bits).collect())
}

/// What transformers 5.24 needs (integrations/bitnet.py): `AutoBitLinear` multiplies activations by weights of the type that
/// config.json states, and the loader casts neither norms nor embeddings, so that all numbers must have that type. The script
/// `with_transformers.py` beside this file loads such directories with transformers and compares logits.
#[test]
fn transformers_finds_numbers_of_one_type() -> Outcome {
    let directory = tempfile::tempdir()?;
    for arch in SynthArch::PLAIN {
        let gguf = synthetic(directory.path(), *arch)?;
        let exact = directory.path().join(format!("{arch}-f32"));
        let report = convert(&gguf, &exact, ConvertType::SafeTensors, &mut |_, _| ())?;
        // The embedding is F16 with digits that BF16 lacks.
        assert!(report.lossless() && report.to_string().contains("stored as F32"));
        one_type(&exact, Dtype::F32, "float32")?;
        if *arch != SynthArch::Llama {
            assert_eq!(logits(&exact)?, logits(&gguf)?, "{arch}");
        }

        // The same with numbers that BF16 has: those of published checkpoints.
        let rounded = directory.path().join(format!("{arch}-rounded"));
        round_to_bf16(&exact, &rounded)?;
        let narrow = directory.path().join(format!("{arch}-bf16"));
        let report = convert(&rounded, &narrow, ConvertType::SafeTensors, &mut |_, _| ())?;
        assert!(report.lossless() && !report.to_string().contains("stored as F32"));
        one_type(&narrow, Dtype::BF16, "bfloat16")?;
        assert_eq!(logits(&narrow)?, logits(&rounded)?, "{arch}");
        assert_eq!(
            names(&narrow),
            [
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json"
            ]
        );
    }
    Ok(())
}

fn one_type(directory: &Path, dtype: Dtype, name: &str) -> Outcome {
    let model = SafeTensorsModel::open(directory)?;
    let mut packed = 0;
    for tensor in model.tensors() {
        if tensor.dtype == Dtype::U8 {
            packed += 1;
            let scale = model
                .tensor(&format!("{}_scale", tensor.name))
                .expect("its scale");
            assert_eq!((scale.dtype, &scale.shape[..]), (dtype, &[1][..]));
        } else {
            assert_eq!(tensor.dtype, dtype, "{}", tensor.name);
        }
    }
    assert_eq!(packed, 14);
    let config = model.config();
    assert_eq!(config["torch_dtype"], name);
    let quantization = &config["quantization_config"];
    assert_eq!(quantization["quant_method"], "bitnet");
    assert_eq!(quantization["linear_class"], "autobitlinear");
    assert_eq!(quantization["quantization_mode"], "offline");
    Ok(())
}

/// Copies a checkpoint of F32 numbers, rounding them.
fn round_to_bf16(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir(to)?;
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name))?;
    }
    let model = SafeTensorsModel::open(from)?;
    let mut writer = SafeTensorsWriter::new("rounded");
    for tensor in model.tensors() {
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in model.tensors() {
        let mut bytes = tensor.data.to_vec();
        if tensor.dtype == Dtype::F32 {
            for number in bytes.chunks_exact_mut(4) {
                number[..2].fill(0);
            }
        }
        data.push(&tensor.name, &bytes)?;
    }
    std::fs::write(to.join("model.safetensors"), data.finish()?)?;
    Ok(())
}

/// The template in Microsoft's GGUF file of BitNet b1.58 2B-4T, shortened: it runs turns together.
const WRONG: &str = "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + \
                     '\\n\\nBITNETAssistant: ' }}{% endif %}{% endfor %}";

#[test]
fn a_directory_has_the_template_that_its_gguf_file_is_used_with() -> Outcome {
    let directory = tempfile::tempdir()?;
    let plain = Gguf::open(&synthetic(directory.path(), SynthArch::BitnetB158)?)?;
    for (template, answer) in [(WRONG, "User: Hi<|eot_id|>Assistant: "), ("{{ ", "")] {
        let mut metadata = plain.metadata().to_vec();
        for (key, value) in &mut metadata {
            if key == "tokenizer.chat_template" {
                *value = template.into();
            }
        }
        let gguf = directory.path().join("template.gguf");
        write_gguf(&gguf, &plain, &metadata, 0..plain.tensors().len())?;
        let output = tempfile::tempdir()?;
        convert(
            &gguf,
            output.path(),
            ConvertType::SafeTensors,
            &mut |_, _| (),
        )?;
        if answer.is_empty() {
            // One that cannot be used is no reason to refuse weights.
            let config = std::fs::read_to_string(output.path().join("tokenizer_config.json"))?;
            assert!(config.contains(r#""chat_template":"{{ ""#), "{config}");
            continue;
        }
        for path in [&gguf, output.path()] {
            let model = Model::open(path)?;
            let template = model.chat_template().expect("a template");
            let rendered =
                template.render(&[ChatMessage::user("Hi")], &TemplateOptions::default())?;
            assert_eq!(rendered, answer);
        }
    }
    Ok(())
}

#[test]
fn templates_keep_their_names() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    let plain = Gguf::open(&synthetic(directory.path(), SynthArch::BitnetB158)?)?;
    let mut metadata = plain.metadata().to_vec();
    metadata.push((
        "tokenizer.chat_template.tool_use".into(),
        "with tools".into(),
    ));
    write_gguf(&at("in.gguf"), &plain, &metadata, 0..plain.tensors().len())?;
    let convert = |from: &str, to: &str, kind| convert(&at(from), &at(to), kind, &mut |_, _| ());
    convert("in.gguf", "checkpoint", ConvertType::SafeTensors)?;
    std::fs::create_dir(at("checkpoint/additional_chat_templates"))?;
    std::fs::write(
        at("checkpoint/additional_chat_templates/rag.jinja"),
        "with documents",
    )?;
    convert("checkpoint", "copy", ConvertType::SafeTensors)?;
    convert("copy", "out.gguf", ConvertType::I2S)?;
    for (name, further) in [
        ("checkpoint", true),
        ("copy", true),
        ("out.gguf", true),
        ("in.gguf", false),
    ] {
        let model = Model::open(at(name))?;
        let templates = model.chat_templates();
        let source = |name: &str| templates.get(name).and_then(|template| template.source());
        assert_eq!(source("tool_use"), Some("with tools"), "{name}");
        assert_eq!(source("rag"), further.then_some("with documents"), "{name}");
        assert!(source("default").is_some(), "{name}");
    }
    Ok(())
}

#[test]
fn a_cancelled_conversion_leaves_nothing() -> Outcome {
    let directory = tempfile::tempdir()?;
    let gguf = synthetic(directory.path(), SynthArch::Qwen3)?;
    for to in ConvertType::ALL {
        let output = directory.path().join("output");
        for limit in [0, 1000, 200_000] {
            let cancel = Cancel::default();
            let options = ConvertOptions {
                cancel: cancel.clone(),
                ..ConvertOptions::default()
            };
            let mut progress = |done, _| {
                if done >= limit {
                    cancel.cancel();
                }
            };
            let outcome = convert_with(&gguf, &output, *to, &options, &mut progress);
            assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
            assert_eq!(names(directory.path()), ["qwen3.gguf"], "{to} {limit}");
        }
    }
    let cancel = Cancel::default();
    cancel.cancel();
    let output = directory.path().join("synthetic.gguf");
    let outcome = synth::write_until(&SynthOptions::default(), &output, &cancel, &mut |_, _| ());
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(names(directory.path()), ["qwen3.gguf"]);
    Ok(())
}

#[test]
fn an_output_never_replaces_its_input() -> Outcome {
    let directory = tempfile::tempdir()?;
    let gguf = synthetic(directory.path(), SynthArch::Qwen3)?;
    let folder = directory.path().join("folder");
    convert(&gguf, &folder, ConvertType::SafeTensors, &mut |_, _| ())?;
    let again = directory.path().join("folder/../qwen3.gguf");
    let weights = folder.join("model.safetensors");
    for (input, output) in [(&gguf, &again), (&folder, &weights), (&weights, &weights)] {
        let before = std::fs::read(output)?;
        let error = convert(input, output, ConvertType::TQ1_0, &mut |_, _| ());
        let error = error.expect_err("the input").to_string();
        assert!(
            error.contains("another file than those of the input"),
            "{error}"
        );
        assert!(std::fs::read(output)? == before);
    }
    // Any other file is replaced, as by other programs.
    convert(&folder, &gguf, ConvertType::TQ1_0, &mut |_, _| ())?;
    Ok(())
}

#[test]
fn a_split_model_is_one_model() -> Outcome {
    let directory = tempfile::tempdir()?;
    let whole = synthetic(directory.path(), SynthArch::BitnetB158)?;
    let file = Gguf::open(&whole)?;
    let parts = tempfile::tempdir()?;
    let count = file.tensors().len();
    let part = |number: usize| parts.path().join(format!("m-{number:05}-of-00003.gguf"));
    for (no, range) in [(0u16, 0..5), (1, 5..6), (2, 6..count)] {
        // All metadata stand in the first, as llama.cpp's tool writes them.
        let mut metadata = if no == 0 {
            file.metadata().to_vec()
        } else {
            Vec::new()
        };
        metadata.push(("split.no".to_owned(), no.into()));
        metadata.push(("split.count".to_owned(), 3u16.into()));
        metadata.push(("split.tensors.count".to_owned(), (count as i32).into()));
        write_gguf(&part(no as usize + 1), &file, &metadata, range)?;
    }
    let expected = logits(&whole)?;
    for path in [&part(1), &part(2), &part(3), parts.path()] {
        assert_eq!(logits(path)?, expected, "{}", path.display());
    }
    let opened = ModelFile::open(&part(2))?;
    assert_eq!(
        opened.tensor_bytes(),
        ModelFile::open(&whole)?.tensor_bytes()
    );
    // Converted there and back, it is the file that was never split.
    let [tq2_0, back] = ["tq2_0.gguf", "back.gguf"].map(|name| directory.path().join(name));
    convert(&part(3), &tq2_0, ConvertType::TQ2_0, &mut |_, _| ())?;
    convert(&tq2_0, &back, ConvertType::I2S, &mut |_, _| ())?;
    assert!(std::fs::read(&back)? == std::fs::read(&whole)?);
    std::fs::remove_file(part(2))?;
    let error = Model::open(part(3))
        .expect_err("a part is missing")
        .to_string();
    assert!(error.contains("no m-00002-of-00003.gguf"), "{error}");
    Ok(())
}

/// File names are bytes on Linux; elsewhere they are text of some kind.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_names() -> Outcome {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let directory = tempfile::tempdir()?;
    let name = |bytes: &[u8]| directory.path().join(OsStr::from_bytes(bytes));
    let plain = synthetic(directory.path(), SynthArch::Qwen3)?;
    let (folder, gguf) = (name(b"folder\xff"), name(b"model\xfe.gguf"));
    convert(&plain, &folder, ConvertType::SafeTensors, &mut |_, _| ())?;
    convert(&folder, &gguf, ConvertType::I2S, &mut |_, _| ())?;
    let expected = logits(&plain)?;
    for path in [&folder, &folder.join("model.safetensors"), &gguf] {
        assert_eq!(logits(path)?, expected);
    }
    let file = Gguf::open(&gguf)?;
    let parts = name(b"parts\xff");
    std::fs::create_dir(&parts)?;
    for (no, range) in [(0u16, 0..5), (1, 5..file.tensors().len())] {
        let mut metadata = if no == 0 {
            file.metadata().to_vec()
        } else {
            Vec::new()
        };
        metadata.push(("split.no".to_owned(), no.into()));
        metadata.push(("split.count".to_owned(), 2u16.into()));
        let mut part = b"m\xfd-0000".to_vec();
        part.extend_from_slice(format!("{}-of-00002.gguf", no + 1).as_bytes());
        write_gguf(
            &parts.join(OsStr::from_bytes(&part)),
            &file,
            &metadata,
            range,
        )?;
    }
    assert_eq!(logits(&parts)?, expected);
    let error = Model::open(name(b"absent\xff")).expect_err("nothing there");
    assert!(error.to_string().contains("absent\u{fffd}"), "{error}");
    Ok(())
}
