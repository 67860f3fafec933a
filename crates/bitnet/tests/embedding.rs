//! What programs that carry the library need: models from files in memory, loading that can be cancelled, conversations that
//! outgrow the context.
#![cfg(feature = "demo")]

use bitnet::file::convert::{ConvertType, convert};
use bitnet::file::synth::{self, SynthOptions};
use bitnet::file::{ModelFile, ModelFiles};
use bitnet::{
    ChatMessage, Error, GenerateOptions, LogitsFor, Model, ModelOptions, SamplingOptions,
};
use std::fs;
use std::path::Path;

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    }
}

/// The answer of a model to a question, by its own template.
fn answer(model: &Model) -> String {
    let mut session = model.session().expect("a session");
    let question = [ChatMessage::user("What is 20 + 22?")];
    let pieces = session.chat(&question, &greedy(24)).expect("a prompt");
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

#[test]
fn loading_is_cancelled_between_tensors() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    synth::write(&SynthOptions::default(), &path, &mut |_, _| ()).expect("a file");
    for (copy, layer) in [(false, 0), (false, 1), (true, 0)] {
        let options = ModelOptions {
            copy,
            threads: Some(1),
            ..ModelOptions::default()
        };
        let outcome = Model::open_with(&path, &options, |done, _| {
            if done == layer {
                options.cancel.cancel();
            }
        });
        assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
        // Also before the file is read.
        let outcome = Model::open_with(&path, &options, |_, _| panic!("a layer was loaded"));
        assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
        options.cancel.reset();
        let model = Model::open_with(&path, &options, |_, _| ()).expect("the model");
        options.cancel.cancel();
        let mut session = model.session().expect("a session");
        session.forward(&[1], LogitsFor::Last).expect("logits");
    }
}

#[test]
fn a_long_conversation_loses_its_oldest_turns() {
    let options = greedy(8);
    let model = Model::demo_with(&ModelOptions {
        context: Some(160),
        ..ModelOptions::default()
    })
    .expect("the demo model");
    let mut messages = vec![ChatMessage::system("Be kind.")];
    let tokens = |messages: &[ChatMessage]| {
        let prompt = messages.to_vec().into();
        model
            .prompt_tokens(&prompt, &options)
            .expect("tokens")
            .len()
    };
    let mut session = model.session().expect("a session");
    let mut gone = 0;
    for number in 0..30 {
        messages.push(ChatMessage::user(format!("What is {number} + 20?")));
        let fitted = model
            .fit_chat(&messages, 20, &options)
            .expect("the last turn fits");
        // The system message, and what follows the dropped turns.
        assert_eq!(fitted.messages[0], messages[0]);
        assert_eq!(fitted.dropped, messages[1..1 + fitted.dropped.len()]);
        assert_eq!(fitted.messages[1..], messages[1 + fitted.dropped.len()..]);
        assert!(tokens(&fitted.messages) + 20 <= 160);
        // No more than has to.
        if let [.., question, answer] = &fitted.dropped[..] {
            let mut more = fitted.messages.clone();
            more.splice(1..1, [question.clone(), answer.clone()]);
            assert!(tokens(&more) + 20 > 160, "{number}");
        }
        assert!(fitted.dropped.len() >= gone && fitted.dropped.len().is_multiple_of(2));
        gone = fitted.dropped.len();
        let pieces = session.chat(&fitted.messages, &options).expect("a prompt");
        let answer: String = pieces.map(|piece| piece.expect("a piece")).collect();
        messages.push(ChatMessage::assistant(answer.trim()));
    }
    assert!(gone > 30, "{gone}");
    // More bytes than a prompt can have are no error either.
    let question = messages.pop().expect("an answer");
    messages.insert(1, ChatMessage::user("a".repeat(1 << 20)));
    messages.push(question);
    let fitted = model.fit_chat(&messages, 20, &options);
    assert!(fitted.expect("a fit").dropped.len() > 30);
    // The last turn stays, with less room than asked for, or none.
    let one = [ChatMessage::user("What is 1 + 20?")];
    let fitted = model.fit_chat(&one, 1000, &options).expect("a fit");
    assert!(fitted.dropped.is_empty() && fitted.messages == one);
    let long = [ChatMessage::user("again ".repeat(400))];
    let error = model.fit_chat(&long, 1, &options).expect_err("no room");
    assert!(
        matches!(error, Error::ContextFull { capacity: 160, used: 0, wanted } if wanted > 160),
        "{error}"
    );
}
