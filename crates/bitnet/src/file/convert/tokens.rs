//! Tokenizer and chat template, between GGUF metadata and the files beside a checkpoint.

use serde_json::json;

use super::ConvertReport;
use crate::Result;
use crate::chat::{ChatTemplates, NAMED_TEMPLATES};
use crate::file::gguf::{Array, GgufWriter};
use crate::file::{Gguf, SafeTensorsModel};
use crate::tokenizer::{TokenKind, Tokenizer};

/// Files beside a checkpoint that belong to its tokenizer.
const FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
];

/// Names and contents of the files that belong beside the checkpoint of a GGUF file.
///
/// # Errors
/// If the tokenizer is wrong, or JSON cannot hold it.
pub(super) fn checkpoint_files(
    file: &Gguf,
    report: &mut ConvertReport,
) -> Result<Vec<(String, Vec<u8>)>> {
    if file.get("tokenizer.ggml.model").is_none() {
        report
            .notes
            .push("The input has no tokenizer, so the output has none.".to_owned());
        return Ok(Vec::new());
    }
    let tokenizer = Tokenizer::from_gguf(file, None)?;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.add_bos(),
        "add_eos_token": tokenizer.add_eos(),
        "clean_up_tokenization_spaces": false,
    });
    let tokens = [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("pad_token", tokenizer.pad()),
    ];
    for (name, id) in tokens {
        if let Some(text) = text(id) {
            config[name] = text.into();
        }
    }
    // Those that the model is really used with here: some files carry one that is known to be wrong, and a checkpoint does
    // not show which file it came from.
    let templates = ChatTemplates::from_gguf(file, &tokenizer);
    let mut named: Vec<(&str, &str)> = Vec::new();
    for (name, template) in templates.iter() {
        match template.source() {
            Some(source) => named.push((name, source)),
            None => report.notes.push(format!(
                "The chat template {name:?} is no UTF-8 text and was left out."
            )),
        }
    }
    match named.as_slice() {
        [] => {}
        [("default", source)] => config["chat_template"] = (*source).into(),
        several => {
            let entry = |(name, source): &(&str, &str)| json!({"name": name, "template": source});
            config["chat_template"] = several.iter().map(entry).collect();
        }
    }
    let generation = json!({
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.stops_by_role(),
        "pad_token_id": tokenizer.pad(),
    });
    Ok(vec![
        (
            "tokenizer.json".to_owned(),
            tokenizer.to_json()?.into_bytes(),
        ),
        (
            "tokenizer_config.json".to_owned(),
            config.to_string().into_bytes(),
        ),
        (
            "generation_config.json".to_owned(),
            generation.to_string().into_bytes(),
        ),
    ])
}

/// Names and contents of the tokenizer's files beside a checkpoint.
///
/// # Errors
/// [`Error::Io`] if one cannot be read.
pub(super) fn copied_files(file: &SafeTensorsModel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for name in FILES {
        if let Some(content) = file.sibling(name)? {
            files.push((name.to_owned(), content.into()));
        }
    }
    for (name, path) in file.siblings_in(NAMED_TEMPLATES, "jinja") {
        if let Some(content) = file.sibling(path)? {
            files.push((format!("{NAMED_TEMPLATES}/{name}.jinja"), content.into()));
        }
    }
    Ok(files)
}

/// Writes the tokenizer of a checkpoint as metadata, with as many tokens as the embedding has rows.
///
/// # Errors
/// If there is none, or GGUF has no words for it.
pub(super) fn metadata(
    file: &SafeTensorsModel,
    rows: usize,
    writer: &mut GgufWriter,
) -> Result<()> {
    let mut parts = Tokenizer::from_checkpoint(file)?.to_gguf()?;
    if parts.tokens.len() > rows {
        tracing::warn!(
            "{}: tokenizer.json has {} tokens and the embedding {rows} rows; the tokens beyond them are left out",
            file.name(),
            parts.tokens.len()
        );
        parts.truncate(rows);
    }
    // Embeddings are often padded to a round number of rows.
    for id in parts.tokens.len()..rows {
        parts.tokens.push(format!("[PAD{id}]").into_bytes());
        parts.token_types.push(TokenKind::Unused as i32);
        if let Some(scores) = &mut parts.scores {
            scores.push(-1e9);
        }
    }
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    writer
        .entry(key("model"), parts.model)
        .entry(key("pre"), parts.pre)
        .entry(key("tokens"), Array::from_strings(&parts.tokens));
    if let Some(scores) = &parts.scores {
        writer.entry(key("scores"), Array::from_f32s(scores));
    }
    writer.entry(key("token_type"), Array::from_i32s(&parts.token_types));
    if !parts.merges.is_empty() {
        writer.entry(key("merges"), Array::from_strings(&parts.merges));
    }
    let ids = [
        ("bos_token_id", parts.bos),
        ("eos_token_id", parts.eos),
        ("eot_token_id", parts.eot),
        ("eom_token_id", parts.eom),
        ("padding_token_id", parts.pad),
        ("unknown_token_id", parts.unk),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            writer.entry(key(name), id);
        }
    }
    writer.entry(key("add_bos_token"), parts.add_bos);
    writer.entry(key("add_eos_token"), parts.add_eos);
    if let Some(prefix) = parts.add_space_prefix {
        writer.entry(key("add_space_prefix"), prefix);
    }
    for (name, template) in ChatTemplates::listed_in_checkpoint(file).iter() {
        template.readable()?;
        if let Some(source) = template.source() {
            writer.entry(ChatTemplates::gguf_key(name), source);
        }
    }
    Ok(())
}
