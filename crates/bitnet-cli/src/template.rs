//! The arguments that say how a conversation is written: which template, and with which variables.

use crate::failure::Usage;
use anyhow::Context;
use bitnet::chat::TemplateChoice;
use clap::Args;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Which chat template, and its variables.
#[derive(Args, Default)]
pub(crate) struct TemplateArguments {
    /// The chat template: a file of Jinja source, or the name of one of the model's own (`bitnet inspect` lists them); without it, the model's default
    #[arg(long, value_name = "FILE|NAME")]
    chat_template: Option<PathBuf>,

    /// Variables for the chat template: a JSON object, such as {"enable_thinking": false}
    #[arg(long, value_name = "JSON", value_parser = object)]
    chat_template_kwargs: Option<Map<String, Value>>,

    /// Whether the model thinks before it answers, where its template leaves the choice: the variable enable_thinking
    #[arg(long, value_name = "BOOL")]
    enable_thinking: Option<bool>,
}

impl TemplateArguments {
    /// The template that was asked for: the source in a file, if there is one of that name, or else a name.
    pub(crate) fn choice(&self) -> anyhow::Result<Option<TemplateChoice>> {
        let Some(path) = &self.chat_template else {
            return Ok(None);
        };
        if !path.exists()
            && let Some(name) = path.to_str()
            && !name.contains(['/', '\\', '.'])
        {
            return Ok(Some(TemplateChoice::Named(name.to_owned())));
        }
        let origin = path.display().to_string();
        let bytes = std::fs::read(path)
            .with_context(|| format!("cannot read the chat template {origin}"))?;
        let source = String::from_utf8(bytes)
            .with_context(|| format!("the chat template {origin} is not UTF-8 text"))?;
        Ok(Some(TemplateChoice::Source { origin, source }))
    }

    /// The variables.
    pub(crate) fn kwargs(&self) -> anyhow::Result<Map<String, Value>> {
        const THINKING: &str = "enable_thinking";
        let mut kwargs = self.chat_template_kwargs.clone().unwrap_or_default();
        if let Some(thinks) = self.enable_thinking
            && kwargs.insert(THINKING.into(), thinks.into()).is_some()
        {
            let why = "--enable-thinking and --chat-template-kwargs both give enable_thinking: leave one out";
            return Err(Usage(why.into()).into());
        }
        if kwargs.contains_key("messages") {
            let why = "--chat-template-kwargs may not name messages, which the conversation gives";
            return Err(Usage(why.into()).into());
        }
        Ok(kwargs)
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("expected a JSON object, found {other}")),
        Err(error) => Err(format!("expected a JSON object: {error}")),
    }
}
