//! The arguments that give a text its form, shared by `run`, `chat` and `batch`.

use anyhow::Context;
use bitnet::Model;
use bitnet::chat::Thinking;
use bitnet::constraint::{Constraint, Grammar, Grammars};
use std::fs;
use std::path::{Path, PathBuf};

/// The form that a text must have; any without these.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(super) struct FormArguments {
    /// Write JSON by the JSON Schema in this file
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,

    /// Write a text by the grammar in this file, in the notation of Lark (its rule `start` is the text) or in GBNF (`root`)
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,

    /// Write a text that this regular expression matches as a whole
    #[arg(long, value_name = "EXPRESSION")]
    regex: Option<String>,

    /// Write one of these texts, with commas between them
    #[arg(long, value_name = "TEXT,…", value_delimiter = ',')]
    choices: Option<Vec<String>>,
}

impl FormArguments {
    /// The form that was asked for.
    ///
    /// # Errors
    /// If a file cannot be read, or is no JSON.
    pub(super) fn grammar(&self) -> anyhow::Result<Option<Grammar>> {
        Ok(if let Some(path) = &self.json_schema {
            let text = read(path, "the JSON Schema")?;
            let schema = serde_json::from_str(&text)
                .with_context(|| format!("the JSON Schema {} is no JSON", path.display()))?;
            Some(Grammar::JsonSchema(schema))
        } else if let Some(path) = &self.grammar {
            Some(Grammar::from_text(read(path, "the grammar")?))
        } else if let Some(expression) = &self.regex {
            Some(Grammar::Regex(expression.clone()))
        } else {
            self.choices.clone().map(Grammar::Choice)
        })
    }
}

/// Forms of a model's texts. Its tokens are sorted for that when the first one is made.
pub(super) struct Forms {
    model: Model,
    grammars: Option<Grammars>,
}

impl Forms {
    pub(super) fn of(model: &Model) -> Self {
        Self {
            model: model.clone(),
            grammars: None,
        }
    }

    /// A hook that keeps a text to a form, behind thinking if there is any.
    ///
    /// # Errors
    /// If the grammar is none, or takes too much.
    pub(super) fn constraint(
        &mut self,
        grammar: &Grammar,
        thinking: Option<&Thinking>,
    ) -> bitnet::Result<Constraint> {
        let grammars = match self.grammars.take() {
            Some(grammars) => grammars,
            None => Grammars::new(&self.model)?,
        };
        let grammars = self.grammars.insert(grammars);
        match thinking {
            Some(thinking) => grammars.constraint_after(grammar, thinking),
            None => grammars.constraint(grammar),
        }
    }
}

fn read(path: &Path, what: &str) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {what} {}", path.display());
    fs::read_to_string(path).with_context(cannot)
}
