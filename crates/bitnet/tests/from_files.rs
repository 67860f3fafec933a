//! Models from files in memory: the same texts as from a directory of them.
#![cfg(feature = "demo")]

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::{ModelFile, ModelFiles};
use bitnet::{ChatMessage, Error, GenerateOptions, Model, ModelOptions, SamplingOptions};
use std::fs;
use std::path::Path;

/// The answer of a model to a question, by its own template.
fn answer(model: &Model) -> String {
    let options = GenerateOptions {
        max_tokens: 24,
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    };
    let mut session = model.session().expect("a session");
    let question = [ChatMessage::user("What is 20 + 22?")];
    let pieces = session.chat(&question, &options).expect("a prompt");
    pieces.map(|piece| piece.expect("a piece")).collect()
}

/// The demo model as a folder of safetensors.
fn checkpoint(directory: &Path) -> std::path::PathBuf {
    let gguf = directory.join("demo.gguf");
    fs::write(&gguf, bitnet_demo::GGUF).expect("a file");
    let folder = directory.join("checkpoint");
    convert(&gguf, &folder, ConvertType::SafeTensors, &mut |_, _| ()).expect("a checkpoint");
    folder
}

/// The files of a folder.
fn loaded(folder: &Path) -> ModelFiles {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.filter(|entry| entry.path().is_file()).fold(
        ModelFiles::new("carried"),
        |files, entry| {
            let content = fs::read(entry.path()).expect("a file");
            files.with(entry.file_name(), content)
        },
    )
}

fn open(files: ModelFiles) -> bitnet::Result<Model> {
    Model::from_files(files, &ModelOptions::default(), |_, _| ())
}

#[test]
fn a_checkpoint_in_memory_is_the_same_model() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = checkpoint(directory.path());
    let expected = Model::open(&folder).expect("the folder");
    let files = loaded(&folder);
    drop(directory);
    let model = open(files).expect("the files");
    assert_eq!(model.name(), "carried");
    assert_eq!(
        model.fingerprint().expect("a fingerprint"),
        expected.fingerprint().expect("a fingerprint")
    );
    assert_eq!(answer(&model), answer(&expected));
    assert!(!answer(&model).is_empty());
}

#[test]
fn an_index_leads_to_its_parts_and_templates_to_theirs() {
    let directory = tempfile::tempdir().expect("a folder");
    let folder = checkpoint(directory.path());
    let weights = folder.join("model.safetensors");
    let ModelFile::SafeTensors(file) = ModelFile::open(&folder).expect("the folder") else {
        panic!("no checkpoint");
    };
    let map: serde_json::Map<String, serde_json::Value> = file
        .names()
        .map(|name| (name.to_owned(), "part-1.safetensors".into()))
        .collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    let bytes = fs::read(&weights).expect("the weights");
    drop(file);
    fs::remove_file(weights).expect("a file");
    let files = loaded(&folder)
        .with("model.safetensors.index.json", index)
        .with("chat_template.jinja", "{{ messages[0].content }}")
        .with("additional_chat_templates/short.jinja", "short");
    let error = open(files.clone()).expect_err("a part is missing");
    assert!(
        matches!(&error, Error::Io { path, .. } if path.ends_with("carried/part-1.safetensors")),
        "{error}"
    );
    let model = open(files.with("part-1.safetensors", bytes)).expect("the files");
    let templates = model.chat_templates();
    let source = |name: &str| templates.get(name).and_then(|template| template.source());
    assert_eq!(source("default"), Some("{{ messages[0].content }}"));
    assert_eq!(source("short"), Some("short"));
}

#[test]
fn a_gguf_file_needs_no_other() {
    let files = ModelFiles::new("carried").with("demo.gguf", bitnet_demo::GGUF);
    let model = open(files).expect("the file");
    let demo = Model::demo().expect("the demo model");
    assert_eq!(answer(&model), answer(&demo));
}

#[test]
fn what_is_missing_is_named() {
    let error = |files: ModelFiles| open(files).expect_err("no model").to_string();
    let said = error(ModelFiles::new("carried"));
    assert!(said.starts_with("carried: the directory: expected a GGUF file, model.safetensors"));
    let directory = tempfile::tempdir().expect("a folder");
    let folder = checkpoint(directory.path());
    let weights = fs::read(folder.join("model.safetensors")).expect("the weights");
    let files = ModelFiles::new("carried").with("model.safetensors", weights);
    let said = error(files.clone());
    assert!(
        said.contains("config.json") && said.contains("not among the files"),
        "{said}"
    );
    let config = fs::read(folder.join("config.json")).expect("a file");
    let files = files.with("config.json", config);
    let said = error(files.clone());
    assert!(said.contains("no tokenizer.json beside"), "{said}");
    let said = error(files.with("tokenizer.json", "{"));
    assert!(said.contains("tokenizer.json"), "{said}");
}
