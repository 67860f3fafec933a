//! The tokenizer written out again, for conversion: as `tokenizer.json` or as GGUF metadata.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::patterns::{self, Pattern};
use super::ranks::Ranks;
use super::splitter::Splitter;
use super::vocabulary::{Spelling, TokenKind};
use super::{Cut, Inner, Merger, Tokenizer, stops};
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
    /// `eom_token_id`.
    pub eom: Option<u32>,
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

impl GgufTokenizer {
    /// Leaves out all tokens from `count` on, and the merges that make or join them.
    pub(crate) fn truncate(&mut self, count: usize) {
        let gone: HashSet<Vec<u8>> = self.tokens.drain(count.min(self.tokens.len())..).collect();
        self.token_types.truncate(count);
        if let Some(scores) = &mut self.scores {
            scores.truncate(count);
        }
        let kept = |text: &str| !gone.contains(text.as_bytes());
        self.merges.retain(|merge| {
            // A space in front belongs to the left half.
            let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
            at.is_none_or(|(at, _)| {
                let (left, right) = (&merge[..at], &merge[at + 1..]);
                kept(left) && kept(right) && kept(&[left, right].concat())
            })
        });
        for id in [
            &mut self.bos,
            &mut self.eos,
            &mut self.eot,
            &mut self.eom,
            &mut self.pad,
            &mut self.unk,
        ] {
            *id = id.filter(|id| (*id as usize) < count);
        }
    }
}

impl Tokenizer {
    /// The tokenizer as GGUF metadata.
    ///
    /// # Errors
    /// If GGUF has no name for the way in which this one normalizes and cuts text.
    pub fn to_gguf(&self) -> Result<GgufTokenizer> {
        let inner = &*self.0;
        let (model, pre, scores) = match (&inner.merger, &inner.cut, inner.vocabulary.spelling()) {
            (Merger::Scores(_), _, _) => ("llama", "default", Some(inner.scores.clone())),
            (Merger::Ranks(model), Cut::Scanner(splitter), Spelling::ByteLevel) => {
                ("gpt2", inner.gguf_pattern(*splitter, model)?.name(), None)
            }
            (Merger::Ranks(_), Cut::Whole, Spelling::Sentencepiece)
                if inner.marks_spaces_only() =>
            {
                ("llama", "default", Some(inner.scores_of_ranks()))
            }
            _ => return Err(inner.no_gguf("with rules of its own for normalizing or cutting text")),
        };
        inner.warn_of_losses();
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
            eom: marks.eom,
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
                    "normalized": token.normalized.is_some(), "special": token.control,
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
            "normalizer": inner.normalizer_json(),
            "pre_tokenizer": inner.pre_tokenizer_json(),
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

impl Inner {
    fn no_gguf(&self, what: &str) -> Error {
        let names: Vec<&str> = Pattern::names().collect();
        Error::Unsupported {
            file: self.file.clone(),
            what: format!("writing a tokenizer {what} as GGUF"),
            advice: format!(
                "GGUF can only name known ways to cut text: {}",
                names.join(", ")
            ),
        }
    }

    /// The pattern whose name in GGUF stands for this way to encode.
    fn gguf_pattern(&self, splitter: Splitter, model: &Ranks) -> Result<Pattern> {
        let ignore_merges = model.options().ignore_merges;
        let nfc = match self.normalizer_steps().as_slice() {
            [] => false,
            [only] if only.get("type").and_then(Value::as_str) == Some("NFC") => true,
            _ => return Err(self.no_gguf("with a normalizer of its own")),
        };
        let pattern = Pattern::with(splitter)
            .min_by_key(|pattern| (pattern.ignore_merges != ignore_merges, pattern.nfc != nfc))
            .ok_or_else(|| self.no_gguf("with rules of its own for cutting text"))?;
        // Whether whole pieces go first makes no difference where merges make every token.
        let mut normal = self.vocabulary.iter().filter(|(id, _, kind)| {
            *kind == TokenKind::Normal && model.id(self.text_of(*id)) == Some(*id)
        });
        if pattern.ignore_merges != ignore_merges
            && !normal.all(|(id, _, _)| model.reaches(self.text_of(id), id))
        {
            return Err(self.no_gguf(if ignore_merges {
                "with tokens that only model.ignore_merges finds"
            } else {
                "with tokens that merges do not make (model.ignore_merges is false)"
            }));
        }
        if pattern.nfc != nfc {
            tracing::warn!(
                "{}: the tokenizer {} text into normal form C, and \"{}\", its name in GGUF, stands for the opposite; text that is \
                 not in that form will give other ids",
                self.file,
                if nfc { "brings" } else { "does not bring" },
                pattern.name()
            );
        }
        Ok(pattern)
    }

    /// The steps of the normalizer, as `tokenizer.json` writes them.
    fn normalizer_steps(&self) -> Vec<Value> {
        match self.normalizer_json() {
            Value::Null => Vec::new(),
            mut one => match one.get_mut("normalizers").map(Value::take) {
                Some(Value::Array(steps)) => steps,
                _ => vec![one],
            },
        }
    }

    /// Whether the normalizer does nothing but put U+2581 for spaces and perhaps in front, as sentencepiece models do.
    fn marks_spaces_only(&self) -> bool {
        let mut steps = self.normalizer_steps();
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let prefix = json!({"type": "Prepend", "prepend": "\u{2581}"});
        let replaces = steps.pop() == Some(space);
        let prefixed = steps.pop();
        replaces && steps.is_empty() && prefixed.is_none_or(|step| step == prefix)
    }

    /// Warns of what GGUF has no place for.
    fn warn_of_losses(&self) {
        let file = &self.file;
        let roles = [self.marks.eos, self.marks.eot, self.marks.eom];
        let known: Vec<u32> = stops::known(self.special.tokens()).collect();
        for id in &self.stops {
            if !roles.contains(&Some(*id)) && !known.contains(id) {
                tracing::warn!(
                    "{file}: GGUF has no place for token {id}, {:?}, among those that end an answer",
                    self.text_of(*id)
                );
            }
        }
        let flagged = self
            .special
            .tokens()
            .iter()
            .filter(|token| token.strip_left || token.strip_right || token.single_word)
            .count();
        if flagged > 0 {
            tracing::warn!(
                "{file}: GGUF has no place for lstrip, rstrip and single_word of {flagged} tokens; text beside them will give other ids"
            );
        }
    }

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

    fn normalizer_json(&self) -> Value {
        if let Some(normalizer) = &self.normalizer {
            return normalizer.to_json();
        }
        if matches!(self.merger, Merger::Ranks(_)) {
            return Value::Null;
        }
        let mut steps = Vec::new();
        if self.space_prefix {
            steps.push(json!({"type": "Prepend", "prepend": "\u{2581}"}));
        }
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}));
        json!({"type": "Sequence", "normalizers": steps})
    }

    fn pre_tokenizer_json(&self) -> Value {
        match &self.cut {
            Cut::Whole => Value::Null,
            Cut::General(rules) => rules.source().clone(),
            Cut::Scanner(splitter) => patterns::pre_tokenizer(*splitter),
        }
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
