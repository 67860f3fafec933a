//! The templates that a model file carries, and which of them counts.

use super::{ChatTemplate, ends_of};
use crate::file::{Gguf, ModelFile, SafeTensorsModel};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use std::path::PathBuf;

/// The template of microsoft/bitnet-b1.58-2B-4T, whose GGUF file carries another one that drops the system
/// message and ends the text before the answer.
pub(super) const BITNET_2B_4T: &str = "{% for message in messages %}{{ message.role | capitalize }}: \
    {{ message.content | trim }}<|eot_id|>{% endfor %}\
    {% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// What a GGUF file calls its template; the name of a further one follows after a point.
const GGUF_KEY: &str = "tokenizer.chat_template";

/// Directory beside a checkpoint in which further templates lie, `NAME.jinja` each.
pub(crate) const NAMED_TEMPLATES: &str = "additional_chat_templates";

/// Name of the template that counts if none is asked for.
const DEFAULT: &str = "default";

/// A chat template in place of the one that counts if none is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateChoice {
    /// One of the model's own, by its name ([`ChatTemplates::names`]).
    Named(String),
    /// A template from elsewhere.
    Source {
        /// What errors call it, such as the name of its file.
        origin: String,
        /// Its Jinja source.
        source: String,
    },
}

/// The templates of a model by name: most have one, some have further ones for tools or retrieval.
#[derive(Debug, Clone, Default)]
pub struct ChatTemplates(Vec<(String, ChatTemplate)>);

impl ChatTemplates {
    /// The templates of a model file, with the tokenizer of that file. One that is known to be wrong is replaced. One
    /// that cannot be read is in the list all the same, and says why when it is used.
    pub fn from_file(file: &ModelFile, tokenizer: &Tokenizer) -> Self {
        Self::read(file, &ends_of(tokenizer))
    }

    /// As [`ChatTemplates::from_file`], to be looked at: what these templates print of `bos_token` and `eos_token` is
    /// empty.
    pub fn listed_in(file: &ModelFile) -> Self {
        Self::read(file, &Default::default())
    }

    /// As [`ChatTemplates::listed_in`], of a checkpoint.
    pub(crate) fn listed_in_checkpoint(file: &SafeTensorsModel) -> Self {
        Self::read_checkpoint(file, &Default::default())
    }

    /// What a GGUF file calls the template of that name.
    pub(crate) fn gguf_key(name: &str) -> String {
        match name {
            DEFAULT => GGUF_KEY.to_owned(),
            name => format!("{GGUF_KEY}.{name}"),
        }
    }

    fn read(file: &ModelFile, ends: &(String, String)) -> Self {
        match file {
            ModelFile::Gguf(file) => Self::read_gguf(file, ends),
            ModelFile::SafeTensors(file) => Self::read_checkpoint(file, ends),
        }
    }

    /// As [`ChatTemplates::from_file`], from a GGUF file.
    pub(crate) fn from_gguf(file: &Gguf, tokenizer: &Tokenizer) -> Self {
        Self::read_gguf(file, &ends_of(tokenizer))
    }

    fn read_gguf(file: &Gguf, ends: &(String, String)) -> Self {
        let architecture = file.string("general.architecture").ok().flatten();
        let mut templates = Self::default();
        let named = file
            .metadata()
            .iter()
            .filter_map(|(key, _)| Some((key, key.strip_prefix(GGUF_KEY)?.strip_prefix('.')?)));
        let mut add = |name: &str, key: &str| {
            let origin = format!("{}: {key}", file.name());
            match file.string(key) {
                Ok(None) => {}
                Ok(Some(source)) => {
                    let source = in_place_of(source, architecture.unwrap_or_default());
                    templates.add(name, origin, Ok(source.to_owned()), ends);
                }
                Err(Error::Malformed {
                    expected, found, ..
                }) => {
                    let message = format!("expected {expected}, found {found}");
                    templates.add(name, origin, Err(message), ends);
                }
                Err(error) => templates.add(name, origin, Err(error.to_string()), ends),
            }
        };
        add(DEFAULT, GGUF_KEY);
        for (key, name) in named {
            add(name, key);
        }
        templates
    }

    /// As [`ChatTemplates::from_file`], from the files beside a checkpoint: `chat_template.jinja` and
    /// `additional_chat_templates/*.jinja` go before what `tokenizer_config.json` says.
    fn read_checkpoint(file: &SafeTensorsModel, ends: &(String, String)) -> Self {
        let mut templates = Self::default();
        let mut paths = vec![(DEFAULT.to_owned(), PathBuf::from("chat_template.jinja"))];
        paths.extend(file.siblings_in(NAMED_TEMPLATES, "jinja"));
        for (name, path) in paths {
            let source = match file.sibling(&path) {
                Ok(None) => continue,
                Ok(Some(bytes)) => String::from_utf8(bytes.into()).map_err(|error| {
                    format!(
                        "expected UTF-8 text, found other bytes at {}",
                        error.utf8_error().valid_up_to()
                    )
                }),
                // Its origin names the file.
                Err(Error::Io { source, .. }) => Err(source.to_string()),
                Err(error) => Err(error.to_string()),
            };
            templates.add(&name, file.sibling_name(path), source, ends);
        }
        let origin = |field: &str| format!("{}: tokenizer_config.json: {field}", file.name());
        match file.sibling_json("tokenizer_config.json") {
            Ok(config) => {
                let entry = config
                    .as_ref()
                    .and_then(|config| config.get("chat_template"));
                for (name, source) in entry.map(sources_in_entry).unwrap_or_default() {
                    let origin = origin(&format!("chat_template {name:?}"));
                    templates.add(name, origin, Ok(source.to_owned()), ends);
                }
            }
            Err(error) if templates.0.is_empty() => {
                let message = Err(error.to_string());
                templates.add(DEFAULT, origin("chat_template"), message, ends);
            }
            Err(_) => {}
        }
        templates
    }

    /// Adds a template, unless there is one of that name.
    fn add(
        &mut self,
        name: &str,
        origin: String,
        source: Result<String, String>,
        (bos_text, eos_text): &(String, String),
    ) {
        if self.get(name).is_none() {
            let ends = (bos_text.clone(), eos_text.clone());
            let template = ChatTemplate::with_outcome(origin, source, ends);
            self.0.push((name.to_owned(), template));
        }
    }

    /// The same templates, of which the chosen one counts if none is asked for. `tokenizer` is the model's.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none of the name.
    pub fn with_choice(&self, choice: &TemplateChoice, tokenizer: &Tokenizer) -> Result<Self> {
        let chosen = match choice {
            TemplateChoice::Source { origin, source } => {
                ChatTemplate::for_tokenizer(origin, source, tokenizer)
            }
            TemplateChoice::Named(name) => {
                let found = self.get(name).cloned();
                found.ok_or_else(|| self.no_such_name(name))?
            }
        };
        let others = self.0.iter().filter(|(name, _)| name != DEFAULT);
        let first = (DEFAULT.to_owned(), chosen);
        Ok(Self([first].into_iter().chain(others.cloned()).collect()))
    }

    fn no_such_name(&self, name: &str) -> Error {
        let names: Vec<&str> = self.names().collect();
        Error::Argument {
            what: "chat template",
            expected: if names.is_empty() {
                "the source of a template, since the model has none of its own".into()
            } else {
                format!(
                    "the source of a template or one of the model's own: {}",
                    names.join(", ")
                )
            },
            found: format!("{name:?}"),
        }
    }

    /// The same templates, told the time: see [`ChatTemplate::with_time`].
    #[must_use]
    pub fn with_time(&self, unix_seconds: i64, utc_offset: i32) -> Self {
        let told = |(name, template): &(String, ChatTemplate)| {
            (name.clone(), template.with_time(unix_seconds, utc_offset))
        };
        Self(self.0.iter().map(told).collect())
    }

    /// Their names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The templates with their names, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ChatTemplate)> {
        self.0
            .iter()
            .map(|(name, template)| (name.as_str(), template))
    }

    /// The template of that name.
    pub fn get(&self, name: &str) -> Option<&ChatTemplate> {
        let found = self.0.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, template)| template)
    }

    /// The template that counts if none is asked for: the one named "default", or else the first.
    pub fn default_template(&self) -> Option<&ChatTemplate> {
        self.get(DEFAULT)
            .or_else(|| self.0.first().map(|(_, template)| template))
    }
}

/// `source`, unless it is known to be wrong for its architecture.
fn in_place_of<'s>(source: &'s str, architecture: &str) -> &'s str {
    let wrong =
        matches!(architecture, "bitnet-b1.58" | "bitnet-25") && source.contains("BITNETAssistant");
    if wrong { BITNET_2B_4T } else { source }
}

/// The templates in the `chat_template` of a `tokenizer_config.json`, which is the source or a list of named ones.
fn sources_in_entry(entry: &serde_json::Value) -> Vec<(&str, &str)> {
    if let Some(source) = entry.as_str() {
        return vec![(DEFAULT, source)];
    }
    let named = entry.as_array().map(Vec::as_slice).unwrap_or_default();
    named
        .iter()
        .filter_map(|template| Some((template["name"].as_str()?, template["template"].as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations_hold_one_template_or_several() {
        assert_eq!(sources_in_entry(&json!("a")), [("default", "a")]);
        let several = json!([
            {"name": "tool_use", "template": "t"}, {"name": "x"}, 3,
            {"name": "default", "template": "d"},
        ]);
        assert_eq!(
            sources_in_entry(&several),
            [("tool_use", "t"), ("default", "d")]
        );
        assert_eq!(sources_in_entry(&json!({})), []);
    }

    #[test]
    fn a_template_is_chosen_by_name_or_given() {
        let template = |source: &str| ChatTemplate::new("file", source, "", "");
        let own = ChatTemplates(vec![
            ("default".into(), template("d")),
            ("tool_use".into(), template("t")),
        ]);
        let tokenizer = crate::tokenizer::tests::sample();
        let chosen = |choice: TemplateChoice| own.with_choice(&choice, &tokenizer);
        let source = |templates: ChatTemplates| {
            let template = templates.default_template().cloned();
            template.and_then(|template| template.source().map(str::to_owned))
        };
        let named = chosen(TemplateChoice::Named("tool_use".into())).unwrap();
        assert_eq!(named.names().collect::<Vec<_>>(), ["default", "tool_use"]);
        assert_eq!(source(named).as_deref(), Some("t"));
        let given = TemplateChoice::Source {
            origin: "mine.jinja".into(),
            source: "m".into(),
        };
        assert_eq!(source(chosen(given).unwrap()).as_deref(), Some("m"));
        let error = chosen(TemplateChoice::Named("rag".into())).unwrap_err();
        assert!(error.to_string().contains("default, tool_use"), "{error}");
    }

    #[test]
    fn the_wrong_template_of_2b_4t_is_replaced() {
        let wrong = "{{ '\n\nBITNETAssistant: ' + eos_token }}";
        assert_eq!(in_place_of(wrong, "bitnet-b1.58"), BITNET_2B_4T);
        assert_eq!(in_place_of(wrong, "llama"), wrong);
        assert_eq!(in_place_of("a", "bitnet-b1.58"), "a");
    }
}
