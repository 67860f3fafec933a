//! The arguments that say how a conversation is written: which template, and with which variables.

use crate::failure::Usage;
use anyhow::Context;
use bitnet::chat::TemplateChoice;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Which chat template.
#[derive(Args, Default)]
pub(crate) struct ChoiceArguments {
    /// The chat template: a file of Jinja source, or the name of one of the model's own (`bitnet inspect` lists them); without it, the model's default
    #[arg(long, value_name = "FILE|NAME")]
    chat_template: Option<PathBuf>,
}

/// Which chat template, and its variables.
#[derive(Args, Default)]
pub(crate) struct TemplateArguments {
    #[command(flatten)]
    which: ChoiceArguments,

    /// A variable for the chat template and its value, such as date_string='"26 Jul 2024"'; may be given more than once
    #[arg(long, value_name = "NAME=JSON", value_parser = variable)]
    template_arg: Vec<(String, Value)>,

    /// Whether the model thinks before it answers, where its template leaves the choice: the variable enable_thinking
    #[arg(long, value_name = "WHETHER", value_enum)]
    thinking: Option<Switch>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl ChoiceArguments {
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
}

impl TemplateArguments {
    /// [`ChoiceArguments::choice`].
    pub(crate) fn choice(&self) -> anyhow::Result<Option<TemplateChoice>> {
        self.which.choice()
    }

    /// The variables.
    ///
    /// # Errors
    /// If one has several values, or is the conversation's own.
    pub(crate) fn kwargs(&self) -> anyhow::Result<Map<String, Value>> {
        let thinking = self.thinking.map(|switch| {
            let thinks = Value::Bool(switch == Switch::On);
            ("enable_thinking".to_owned(), thinks)
        });
        let mut kwargs = Map::new();
        for (name, value) in self.template_arg.iter().cloned().chain(thinking) {
            let why = match name.as_str() {
                "messages" => "the conversation gives it",
                "tools" => "--tools gives it",
                _ if kwargs.contains_key(&name) => "it has a value already",
                _ => {
                    kwargs.insert(name, value);
                    continue;
                }
            };
            let why = format!("the variable {name} of the chat template cannot be set: {why}");
            return Err(Usage(why).into());
        }
        Ok(kwargs)
    }
}

fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("expected NAME=JSON")?;
    let value = serde_json::from_str(value)
        .map_err(|error| format!("expected JSON behind {name}=: {error}; texts have quotes"))?;
    Ok((name.to_owned(), value))
}
