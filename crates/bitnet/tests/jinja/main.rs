//! Chat templates beside Jinja2: 34 templates in the manner of published models, in three forms, with ten conversations, and
//! a collection of single constructs. What is right was written by `expected.py`, which renders with Jinja2 3.1.6 in the
//! environment of transformers.

mod hostile;

use bitnet::chat::{ChatTemplate, TemplateOptions};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// 2025-03-06 10:34:56 UTC, as in `expected.py`.
const TIME: i64 = 1_741_257_296;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jinja")
}

fn json(name: &str) -> Value {
    let bytes = std::fs::read(folder().join(name)).expect("a file of this test");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The source in the form of that name.
fn in_form(source: &str, form: &str) -> String {
    match form {
        "plain" => source.to_owned(),
        "crlf" => source.replace('\n', "\r\n"),
        _ => ["-", "+"].iter().fold(source.to_owned(), |source, sign| {
            let opened = ["%", "{", "#"].iter().fold(source, |source, tag| {
                source.replace(&format!("{{{tag}{sign}"), &format!("{{{tag}"))
            });
            ["%", "}", "#"].iter().fold(opened, |source, tag| {
                source.replace(&format!("{sign}{tag}}}"), &format!("{tag}}}"))
            })
        }),
    }
}

/// What a template renders; none if it raises an error.
fn rendered(source: &str, conversation: &Value) -> Result<String, bitnet::Error> {
    let template = ChatTemplate::new("test", source, "<s>", "</s>").with_time(TIME, 0);
    let kwargs = conversation["kwargs"].as_object();
    let options = TemplateOptions {
        add_generation_prompt: conversation["add_generation_prompt"] != false,
        kwargs: kwargs.cloned().unwrap_or_default(),
        ..TemplateOptions::default()
    };
    let messages = conversation["messages"].as_array().expect("messages");
    template.render(messages, &options)
}

fn differs(what: &str, source: &str, got: &Result<String, bitnet::Error>, right: &Value) -> bool {
    let text = got.as_ref().ok();
    let same = match (text, right.as_str()) {
        (None, None) => true,
        (Some(text), Some(right)) => text == right || digest(text) == right,
        _ => false,
    };
    if !same {
        eprintln!("{what}: {source:.200}\n  is    {got:?}\n  right {right}");
    }
    !same
}

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text);
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn templates_render_as_with_jinja2() {
    let (conversations, expected) = (json("conversations.json"), json("expected.json"));
    let (mut compared, mut wrong) = (0, 0);
    for (name, forms) in expected.as_object().expect("templates") {
        let Some(forms) = forms.as_object() else {
            continue;
        };
        let path = folder().join("templates").join(format!("{name}.jinja"));
        let source = std::fs::read_to_string(path).expect("a template");
        for (form, texts) in forms {
            let source = in_form(&source, form);
            let pairs = conversations.as_array().expect("conversations").iter();
            for (index, (conversation, right)) in
                pairs.zip(texts.as_array().expect("texts")).enumerate()
            {
                let what = format!("{name}, {form}, conversation {index}");
                let got = rendered(&source, conversation);
                wrong += usize::from(differs(&what, "", &got, right));
                compared += 1;
            }
        }
    }
    assert_eq!((compared, wrong), (1020, 0));
}

#[test]
fn expressions_render_as_with_jinja2() {
    let mut expressions = json("expressions.json");
    let expected = json("expected.json");
    let mut variables = expressions["variables"].take();
    let messages = variables["messages"].take();
    variables
        .as_object_mut()
        .expect("variables")
        .remove("messages");
    let conversation = serde_json::json!({"messages": messages, "kwargs": variables});
    let templates = expressions["templates"].as_array().expect("templates");
    let right = expected["expressions"].as_array().expect("texts");
    assert_eq!(templates.len(), right.len());
    let wrong = templates.iter().zip(right).filter(|(source, right)| {
        let source = source.as_str().expect("a template");
        differs(
            "expression",
            source,
            &rendered(source, &conversation),
            right,
        )
    });
    assert_eq!(wrong.count(), 0);
}
