//! Models whose files are copied into memory: the same logits as from mapped files, whatever happens to the files afterwards.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::synth::{self, SynthOptions};
use bitnet::file::{Gguf, GgufWriter, ModelFile};
use bitnet::{I2sLayout, LogitsFor, Model, ModelOptions};

type Outcome = Result<(), Box<dyn Error>>;

const TOKENS: [u32; 4] = [496, 40, 300, 7];

fn bits(model: &Model) -> bitnet::Result<Vec<u32>> {
    let logits = model.session()?.forward(&TOKENS, LogitsFor::All)?;
    Ok(logits.into_iter().map(f32::to_bits).collect())
}

/// Opens the model at `path` mapped and copied; then truncates every file in `directory`, of which none is mapped any more,
/// and runs the copy.
fn survives_truncation(path: &Path, directory: &Path) -> Outcome {
    let expected = bits(&Model::open(path)?)?;
    let options = ModelOptions {
        copy: true,
        ..ModelOptions::default()
    };
    let copied = Model::open_with(path, &options, |_, _| ())?;
    for entry in std::fs::read_dir(directory)? {
        let file = OpenOptions::new().write(true).open(entry?.path())?;
        file.set_len(0)?;
    }
    assert_eq!(bits(&copied)?, expected);
    // What was not used when the model was opened is there too.
    assert_eq!(bits(&copied.clone())?, expected);
    Ok(())
}

#[test]
fn a_gguf_file() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.gguf");
    synth::write(&SynthOptions::default(), &path, &mut |_, _| ())?;
    survives_truncation(&path, directory.path())
}

#[test]
fn a_split_gguf_file() -> Outcome {
    let whole = tempfile::tempdir()?;
    let path = whole.path().join("model.gguf");
    synth::write(&SynthOptions::default(), &path, &mut |_, _| ())?;
    let file = Gguf::open(&path)?;
    let directory = tempfile::tempdir()?;
    let part = |number: usize| {
        let name = format!("model-{number:05}-of-00002.gguf");
        directory.path().join(name)
    };
    let (first, second) = file.tensors().split_at(6);
    for (no, tensors) in [first, second].into_iter().enumerate() {
        let mut writer = GgufWriter::new("part");
        if no == 0 {
            for (key, value) in file.metadata() {
                writer.entry(key.clone(), value.clone());
            }
        }
        writer
            .entry("split.no", no as u16)
            .entry("split.count", 2u16);
        for tensor in tensors {
            let format = tensor.format(I2sLayout::A, "")?;
            writer.tensor(&tensor.name, &tensor.ne, format)?;
        }
        let mut data = writer.begin(Vec::new())?;
        for tensor in tensors {
            data.push(&tensor.name, &tensor.data)?;
        }
        std::fs::write(part(no + 1), data.finish()?)?;
    }
    survives_truncation(&part(2), directory.path())
}

#[test]
fn a_directory_of_safetensors() -> Outcome {
    let directory = tempfile::tempdir()?;
    let gguf = directory.path().join("model.gguf");
    synth::write(&SynthOptions::default(), &gguf, &mut |_, _| ())?;
    let checkpoint = directory.path().join("checkpoint");
    convert(&gguf, &checkpoint, ConvertType::SafeTensors, &mut |_, _| ())?;
    survives_truncation(&checkpoint, &checkpoint)
}

#[test]
fn what_is_no_model_is_the_same_error() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.gguf");
    for content in [&b""[..], b"no model", b"GGUF\x03\0\0\0"] {
        std::fs::write(&path, content)?;
        let [mapped, copied] = [ModelFile::open(&path), ModelFile::read(&path)].map(|file| {
            file.map(|file| file.tensor_bytes())
                .map_err(|error| error.to_string())
        });
        assert!(mapped.is_err(), "{content:?}");
        assert_eq!(mapped, copied);
    }
    Ok(())
}
