//! The tokenizer written out again, for conversion: as `tokenizer.json` or as GGUF metadata.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::json::{GPT2_REGEX, LLAMA3_REGEX, QWEN2_REGEX};
use super::splitter::Splitter;
use super::vocabulary::{Spelling, TokenKind};
use super::{Cut, Inner, Merger, Tokenizer};
use crate::{Error, Result};

/// The values of GGUF's `tokenizer.ggml.*` keys.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufTokenizer {
    /// `model`: "gpt2" or "llama".
    pub model: &'static str,
    /// `pre`.
    pub pre: &'static str,
    /// `tokens`.
    pub tokens: Vec<Vec<u8>>,
    /// `scores`; present for "llama".
    pub scores: Option<Vec<f32>>,
    /// `token_type`, one for each token.
    pub token_types: Vec<i32>,
    /// `merges`, "left right" by rank; empty for "llama".
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`.
    pub eot: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `unknown_token_id`.
    pub unk: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: bool,
    /// `add_eos_token`.
    pub add_eos: bool,
    /// `add_space_prefix`; present for "llama".
    pub add_space_prefix: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer as GGUF metadata.
    ///
    /// # Errors
    /// If GGUF has no name for the way in which this one cuts text.
    pub fn to_gguf(&self) -> Result<GgufTokenizer> {
        let inner = &*self.0;
        let (model, pre, scores) = match (&inner.merger, &inner.cut, inner.vocabulary.spelling()) {
            (Merger::Scores(_), _, _) => ("llama", "default", Some(inner.scores.clone())),
            (Merger::Ranks(_), Cut::Scanner(splitter), Spelling::ByteLevel) => {
                ("gpt2", gguf_name(*splitter), None)
            }
            (Merger::Ranks(_), Cut::Whole, Spelling::Sentencepiece) => {
                ("llama", "default", Some(inner.scores_of_ranks()))
            }
            _ => {
                return Err(Error::Unsupported {
                    file: inner.file.clone(),
                    what: "writing a tokenizer with rules of its own for cutting text as GGUF"
                        .into(),
                    advice: "GGUF can only name the rules of Llama 3, Qwen 2 and GPT-2".into(),
                });
            }
        };
        let merges = if scores.is_none() {
            inner
                .merge_texts()
                .map(|(left, right)| format!("{left} {right}"))
                .collect()
        } else {
            Vec::new()
        };
        let marks = &inner.marks;
        Ok(GgufTokenizer {
            model,
            pre,
            tokens: inner
                .vocabulary
                .iter()
                .map(|(_, text, _)| text.to_vec())
                .collect(),
            token_types: inner
                .vocabulary
                .iter()
                .map(|(_, _, kind)| kind as i32)
                .collect(),
            merges,
            bos: marks.bos,
            eos: marks.eos,
            eot: marks.eot,
            pad: marks.pad,
            unk: marks.unk,
            add_bos: marks.add_bos,
            add_eos: marks.add_eos,
            add_space_prefix: scores.is_some().then_some(inner.strip_space),
            scores,
        })
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// If a token is not UTF-8, which JSON cannot hold.
    pub fn to_json(&self) -> Result<String> {
        let inner = &*self.0;
        let marks: HashMap<u32, &str> = inner
            .special
            .tokens()
            .iter()
            .map(|token| (token.id, token.text.as_str()))
            .collect();
        let mut vocab = Map::new();
        for (id, text, _) in inner.vocabulary.iter() {
            let text = std::str::from_utf8(text).map_err(|_| {
                Error::tokenizer(
                    inner.file.as_str(),
                    format!("token {id} is not UTF-8 and cannot be written as JSON"),
                )
            })?;
            // Of repeated tokens the first is the one in use. Marks are listed too: readers number those
            // that are missing here anew.
            let listed = marks.get(&id).copied().unwrap_or(text);
            if !listed.is_empty() && !vocab.contains_key(listed) {
                vocab.insert(listed.into(), id.into());
            }
        }
        let added: Vec<Value> = inner
            .special
            .tokens()
            .iter()
            .map(|token| {
                json!({
                    "id": token.id, "content": token.text, "single_word": token.single_word,
                    "lstrip": token.strip_left, "rstrip": token.strip_right,
                    "normalized": false, "special": token.control,
                })
            })
            .collect();
        let (merges, unknown, byte_fallback, ignore_merges, fuse_unknown): (
            Vec<Value>,
            _,
            _,
            _,
            _,
        ) = match &inner.merger {
            Merger::Ranks(model) => (
                inner
                    .merge_texts()
                    .map(|(left, right)| json!([left, right]))
                    .collect(),
                model.options().unknown.clone(),
                model.options().byte_fallback,
                model.options().ignore_merges,
                model.options().fuse_unknown,
            ),
            Merger::Scores(_) => (
                inner.merges_of_scores(),
                inner.marks.unk.and_then(|id| self.token_text(id)),
                true,
                false,
                true,
            ),
        };
        let document = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": inner.normalizer_json()?,
            "pre_tokenizer": inner.pre_tokenizer_json()?,
            "post_processor": inner.post_processor_json(),
            "decoder": inner.decoder_json(),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": fuse_unknown, "byte_fallback": byte_fallback, "ignore_merges": ignore_merges,
                "vocab": vocab, "merges": merges,
            },
        });
        Ok(document.to_string())
    }
}

/// The value of `tokenizer.ggml.pre`.
fn gguf_name(splitter: Splitter) -> &'static str {
    match splitter {
        Splitter::LLAMA3 => "llama-bpe",
        Splitter::Words { .. } => "qwen2",
        Splitter::Gpt2 => "gpt-2",
        Splitter::Default => "default",
    }
}

impl Inner {
    fn text_of(&self, id: u32) -> &str {
        let text = self.vocabulary.text(id).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn merge_texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.merges
            .iter()
            .map(|(left, right)| (self.text_of(*left), self.text_of(*right)))
    }

    /// Scores that merge in the order of the ranks: minus the rank at which a token first arises.
    fn scores_of_ranks(&self) -> Vec<f32> {
        let Merger::Ranks(model) = &self.merger else {
            return self.scores.clone();
        };
        let mut scores = vec![0.0; self.vocabulary.len()];
        for (id, _, kind) in self.vocabulary.iter() {
            if kind == TokenKind::Normal {
                scores[id as usize] = -(self.merges.len() as f32);
            }
        }
        let mut whole = String::new();
        for (rank, (left, right)) in self.merges.iter().enumerate().rev() {
            whole.clear();
            whole.push_str(self.text_of(*left));
            whole.push_str(self.text_of(*right));
            if let Some(id) = model.id(&whole)
                && let Some(score) = scores.get_mut(id as usize)
            {
                *score = -(rank as f32);
            }
        }
        scores
    }

    /// Every way to make a token of two others, by falling score of the whole.
    fn merges_of_scores(&self) -> Vec<Value> {
        let Merger::Scores(model) = &self.merger else {
            return Vec::new();
        };
        let mut merges = Vec::new();
        for (id, text, kind) in self.vocabulary.iter() {
            let Ok(text) = std::str::from_utf8(text) else {
                continue;
            };
            let Some((first_id, score)) = model.piece(text) else {
                continue;
            };
            if kind != TokenKind::Normal || first_id != id {
                continue;
            }
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                if let (Some((left_id, _)), Some((right_id, _))) =
                    (model.piece(left), model.piece(right))
                {
                    merges.push((score, left_id, right_id, left, right));
                }
            }
        }
        merges.sort_by(|a, b| {
            b.0.total_cmp(&a.0)
                .then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
        });
        merges
            .into_iter()
            .map(|(_, _, _, left, right)| json!([left, right]))
            .collect()
    }

    fn normalizer_json(&self) -> Result<Value> {
        if let Some(normalizer) = &self.normalizer {
            let json = normalizer.to_json();
            return json.map_err(|error| Error::tokenizer(self.file.as_str(), error));
        }
        if matches!(self.merger, Merger::Ranks(_)) {
            return Ok(Value::Null);
        }
        let mut steps = Vec::new();
        if self.space_prefix {
            steps.push(json!({"type": "Prepend", "prepend": "\u{2581}"}));
        }
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}));
        Ok(json!({"type": "Sequence", "normalizers": steps}))
    }

    fn pre_tokenizer_json(&self) -> Result<Value> {
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        let steps = match &self.cut {
            Cut::Whole => return Ok(Value::Null),
            Cut::General(rules) => return Ok(rules.source().clone()),
            Cut::Scanner(Splitter::LLAMA3) => vec![split(LLAMA3_REGEX), bytes],
            Cut::Scanner(Splitter::Words { .. }) => vec![split(QWEN2_REGEX), bytes],
            Cut::Scanner(Splitter::Gpt2) => vec![split(GPT2_REGEX), bytes],
            Cut::Scanner(Splitter::Default) => vec![
                split(r"[\p{P}\$\+<=>\^~\|]+"),
                split(GPT2_REGEX),
                split(r"\p{N}+"),
                split("[0-9][0-9][0-9]"),
                bytes,
            ],
        };
        Ok(json!({"type": "Sequence", "pretokenizers": steps}))
    }

    fn post_processor_json(&self) -> Value {
        let before = self.marks.bos.filter(|_| self.marks.add_bos);
        let after = self.marks.eos.filter(|_| self.marks.add_eos);
        if before.is_none() && after.is_none() {
            return Value::Null;
        }
        let special = |id: u32| json!({"SpecialToken": {"id": self.text_of(id), "type_id": 0}});
        let template = |sequences: &[&str]| -> Vec<Value> {
            let text = sequences
                .iter()
                .map(|name| json!({"Sequence": {"id": name, "type_id": 0}}));
            before
                .map(special)
                .into_iter()
                .chain(text)
                .chain(after.map(special))
                .collect()
        };
        let mut tokens = Map::new();
        for id in before.into_iter().chain(after) {
            let text = self.text_of(id);
            tokens.insert(
                text.into(),
                json!({"id": text, "ids": [id], "tokens": [text]}),
            );
        }
        json!({
            "type": "TemplateProcessing", "single": template(&["A"]), "pair": template(&["A", "B"]),
            "special_tokens": tokens,
        })
    }

    fn decoder_json(&self) -> Value {
        if self.vocabulary.spelling() == Spelling::ByteLevel {
            return json!({
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
            });
        }
        let mut steps = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.strip_space {
            steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps})
    }
}
