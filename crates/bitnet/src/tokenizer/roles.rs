//! The tokens with a role, as the JSON files beside a `tokenizer.json` name them.
//!
//! Generation ends, as in transformers, at the `eos_token_id` of generation_config.json, or else at that of config.json; and also at
//! the tokenizer's own end of text, so that a chat ends where either of them says so.

use serde_json::Value;

use super::stops;
use crate::file::SafeTensorsModel;
use crate::{Error, Result};

/// The files. Each may be missing.
#[derive(Debug, Default)]
pub(super) struct RoleFiles {
    /// tokenizer_config.json
    pub(super) tokenizer: Option<Value>,
    /// special_tokens_map.json
    pub(super) special: Option<Value>,
    /// generation_config.json
    pub(super) generation: Option<Value>,
    /// config.json
    pub(super) model: Option<Value>,
}

impl RoleFiles {
    /// The files beside a checkpoint.
    ///
    /// # Errors
    /// If one of them is no JSON.
    pub(super) fn beside(file: &SafeTensorsModel) -> Result<Self> {
        Ok(Self {
            tokenizer: file.sibling_json("tokenizer_config.json")?,
            special: file.sibling_json("special_tokens_map.json")?,
            generation: file.sibling_json("generation_config.json")?,
            model: file.sibling_json("config.json")?,
        })
    }

    /// The text of the token with the role `name`, such as "eos_token": tokenizer_config.json decides, then special_tokens_map.json.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        [&self.tokenizer, &self.special]
            .into_iter()
            .flatten()
            .find_map(|file| {
                let token = file.get(name)?;
                token.as_str().or_else(|| token.get("content")?.as_str())
            })
    }

    /// The switch `name` of tokenizer_config.json, such as "add_bos_token".
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.tokenizer.as_ref()?.get(name)?.as_bool()
    }

    /// The ids at which generation ends, in the order of the file. Ids outside the vocabulary of `count` tokens are dropped with a
    /// warning; `file` is what messages call the tokenizer.
    ///
    /// # Errors
    /// If the value is neither an integer nor a list of integers.
    pub(super) fn stops(&self, file: &str, count: usize) -> Result<Vec<u32>> {
        let nested = self
            .model
            .as_ref()
            .and_then(|model| model.get("text_config"));
        let sources = [
            ("generation_config.json", self.generation.as_ref()),
            ("config.json", self.model.as_ref()),
            ("config.json: text_config", nested),
        ];
        for (name, source) in sources {
            let Some(value) = source.and_then(|source| source.get("eos_token_id")) else {
                continue;
            };
            let ids = ids(value).ok_or_else(|| {
                Error::malformed(
                    file,
                    format!("eos_token_id of the {name} beside it"),
                    "the id of a token or a list of ids",
                    value,
                )
            })?;
            if ids.is_empty() {
                continue;
            }
            return Ok(inside(
                file,
                &format!("eos_token_id of {name}"),
                &ids,
                count,
            ));
        }
        Ok(Vec::new())
    }
}

/// The integers of a number, a list or null.
fn ids(value: &Value) -> Option<Vec<i64>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => list.iter().map(Value::as_i64).collect(),
        other => other.as_i64().map(|id| vec![id]),
    }
}

/// Those of `ids` that are below `count`, without repetitions; the others are dropped with a warning.
fn inside(file: &str, what: &str, ids: &[i64], count: usize) -> Vec<u32> {
    let mut kept = Vec::new();
    for id in ids {
        match u32::try_from(*id) {
            Ok(id) if (id as usize) < count => {
                if !kept.contains(&id) {
                    kept.push(id);
                }
            }
            _ => tracing::warn!(
                "{file}: {what} is {id}, outside the vocabulary of {count} tokens, and is ignored"
            ),
        }
    }
    kept
}

/// Among the declared `stops`, the end of a turn and the end of a message to a tool: the first two that are neither `eos` nor known by
/// their text to end a whole text. `text` gives the text of an id.
pub(super) fn turn_ends<'t>(
    stops: &[u32],
    eos: Option<u32>,
    text: impl Fn(u32) -> Option<&'t str>,
) -> (Option<u32>, Option<u32>) {
    let named = |id: u32, name: &str| text(id) == Some(name);
    let eom = stops.iter().copied().find(|id| named(*id, "<|eom_id|>"));
    let mut others = stops.iter().copied().filter(|id| {
        Some(*id) != eos && Some(*id) != eom && !text(*id).is_some_and(stops::ends_text)
    });
    let eot = others.next();
    (eot, eom.or_else(|| others.next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stops_of(generation: Value, model: Value) -> Result<Vec<u32>> {
        RoleFiles {
            generation: Some(generation),
            model: Some(model),
            ..RoleFiles::default()
        }
        .stops("test", 100)
    }

    #[test]
    fn generation_config_decides_then_config() {
        let none = || json!({});
        let one = |id: i64| json!({"eos_token_id": id});
        assert_eq!(
            stops_of(json!({"eos_token_id": [7, 3, 7]}), one(1)).unwrap(),
            [7, 3]
        );
        assert_eq!(stops_of(one(7), one(1)).unwrap(), [7]);
        assert_eq!(stops_of(none(), one(1)).unwrap(), [1]);
        assert_eq!(
            stops_of(json!({"eos_token_id": null}), one(1)).unwrap(),
            [1]
        );
        let nested = json!({"text_config": {"eos_token_id": [4, 5]}});
        assert_eq!(stops_of(none(), nested).unwrap(), [4, 5]);
        assert_eq!(stops_of(none(), none()).unwrap(), [0u32; 0]);
    }

    #[test]
    fn wrong_types_are_errors_and_ids_outside_are_ignored() {
        for wrong in [
            json!("2"),
            json!(2.5),
            json!(true),
            json!([1, "2"]),
            json!({}),
        ] {
            let error = stops_of(json!({"eos_token_id": wrong}), json!({})).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("generation_config.json"), "{message}");
        }
        assert_eq!(
            stops_of(json!({"eos_token_id": [100, 2, -1]}), json!({})).unwrap(),
            [2]
        );
    }

    #[test]
    fn ends_of_turns_are_told_from_ends_of_texts() {
        let text = |id: u32| {
            ["</s>", "<|eom_id|>", "<|turn_end|>", "<|endoftext|>", "x"]
                .get(id as usize)
                .copied()
        };
        assert_eq!(turn_ends(&[0, 2], Some(0), text), (Some(2), None));
        assert_eq!(turn_ends(&[3, 1, 2], Some(2), text), (None, Some(1)));
        assert_eq!(turn_ends(&[3, 2, 4], Some(0), text), (Some(2), Some(4)));
    }
}
