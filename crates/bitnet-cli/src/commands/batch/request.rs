//! From a line of the input to a request.

use super::lines::Line;
use crate::printable::excerpt;
use anyhow::anyhow;
use bitnet::chat::ChatMessage;
use bitnet::constraint::Grammar;
use bitnet::{Fingerprint, GenerateOptions, KvType, Prompt, Request};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The fields of a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    id: Option<Value>,
    prompt: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    tokens: Option<Vec<u32>>,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    xtc_threshold: Option<f32>,
    xtc_probability: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: Option<u64>,
    stop: Option<Vec<String>>,
    ignore_end: Option<bool>,
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// Options of lines that do not say otherwise.
pub(super) struct Defaults {
    pub(super) options: GenerateOptions,
    /// The model, whatever its file is called.
    pub(super) model: Fingerprint,
    pub(super) kv: KvType,
    pub(super) context: usize,
    /// The form of all texts.
    pub(super) grammar: Option<Grammar>,
}

impl Defaults {
    /// All that a text depends on beside its line.
    pub(super) fn fingerprint(&self) -> String {
        let options = &self.options;
        let form = self.grammar.as_ref();
        let form = form.map_or_else(String::new, |form| format!(" {form:?}"));
        format!(
            "{:?} {} {} {} {:?} {:?} {}{form}\n",
            self.model,
            self.kv,
            self.context,
            options.max_tokens,
            options.sampling,
            options.stop,
            options.stop_at_end
        )
    }
}

/// The id of a line, if there is one, and its request.
pub(super) fn parse(line: &Line, defaults: &Defaults) -> (Option<Value>, anyhow::Result<Request>) {
    let text = match &line.text {
        Ok(text) => text,
        Err(error) => return (None, Err(anyhow!(error.clone()))),
    };
    if !text.starts_with('{') {
        return (
            None,
            Err(anyhow!("expected a JSON object, found {}", excerpt(text))),
        );
    }
    let mut fields: Fields = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(error) => {
            // A line with a field too many still says whose it is.
            let id = serde_json::from_str::<Map<String, Value>>(text);
            let id = id.ok().and_then(|mut fields| fields.remove("id"));
            return (id, Err(error.into()));
        }
    };
    (fields.id.take(), request(fields, line.number, defaults))
}

fn request(fields: Fields, line: usize, defaults: &Defaults) -> anyhow::Result<Request> {
    let prompt = match (fields.prompt, fields.messages, fields.tokens) {
        (Some(prompt), None, None) => Prompt::Text(prompt),
        (None, Some(messages), None) => Prompt::Chat(messages),
        (None, None, Some(tokens)) => Prompt::Tokens(tokens),
        (None, None, None) => {
            return Err(anyhow!(
                "expected one of prompt, messages and tokens, found none"
            ));
        }
        _ => {
            return Err(anyhow!(
                "expected one of prompt, messages and tokens, found several"
            ));
        }
    };
    let mut options = defaults.options.clone();
    let sampling = &mut options.sampling;
    // Lines with the same prompt get different texts.
    sampling.seed = sampling.seed.wrapping_add(line as u64);
    set(&mut sampling.seed, fields.seed);
    set(&mut sampling.temperature, fields.temperature);
    set(&mut sampling.top_k, fields.top_k);
    set(&mut sampling.top_p, fields.top_p);
    set(&mut sampling.min_p, fields.min_p);
    set(&mut sampling.typical_p, fields.typical_p);
    set(&mut sampling.xtc_threshold, fields.xtc_threshold);
    set(&mut sampling.xtc_probability, fields.xtc_probability);
    set(&mut sampling.repetition_penalty, fields.repetition_penalty);
    set(&mut options.max_tokens, fields.max_tokens);
    set(&mut options.stop, fields.stop);
    set(
        &mut options.chat_template_kwargs,
        fields.chat_template_kwargs,
    );
    set(
        &mut options.stop_at_end,
        fields.ignore_end.map(|ignore| !ignore),
    );
    Ok(Request::new(prompt, &options))
}

fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}
