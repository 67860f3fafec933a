//! The tokenizer that a `tokenizer.json` describes.
//!
//! Its parts are read one by one and checked before the `tokenizers` crate sees them. The rules for
//! cutting text of the well-known vocabularies are recognised and replaced by scanners; others run as they are written.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use web_time::Instant;

use super::ranks::{RankOptions, Ranks, Vocab};
use super::roles::{self, RoleFiles};
use super::rules::Rules;
use super::special::{self, SpecialToken, SpecialTokens};
use super::steps::{Normalize, StepError};
use super::vocabulary::{Spelling, TokenKind, Vocabulary, byte_of};
use super::{Cut, Inner, MAX_TOKENS, Marks, Merger};
use super::{normalizer, patterns};
use crate::{Error, Result};

/// How long the normal forms of all added tokens may take; thousands take a few milliseconds.
const NORMALIZING: Duration = Duration::from_secs(10);

/// What is looked at before the rest: a vocabulary of another model has another shape.
#[derive(Deserialize)]
struct Outline {
    model: ModelOutline,
}

#[derive(Deserialize)]
struct ModelOutline {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: ModelDocument,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// Whether it is looked for in normalized text; without it, user-defined tokens are.
    normalized: Option<bool>,
}

#[derive(Deserialize)]
struct ModelDocument {
    vocab: HashMap<String, u32>,
    merges: Option<Vec<Merge>>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Older files write "left right", newer ones ["left", "right"].
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

impl Merge {
    /// The halves; of a text without a space, nothing and the text.
    fn halves(self) -> (String, String) {
        match self {
            Self::Pair(left, right) => (left, right),
            Self::Joined(text) => match text.split_once(' ') {
                Some((left, right)) => (left.to_owned(), right.to_owned()),
                None => (String::new(), text),
            },
        }
    }
}

pub(super) fn read(file: &str, json: &[u8], files: &RoleFiles) -> Result<Inner> {
    let fail = |error: serde_json::Error| Error::tokenizer(file, error);
    let outline: Outline = serde_json::from_slice(json).map_err(fail)?;
    let unsupported = |what: String| Error::Unsupported {
        file: file.into(),
        what,
        advice: "this runtime reads byte-pair encoding, byte-level or with byte fallback".into(),
    };
    match outline.model.kind.as_deref() {
        Some("BPE") | None => {}
        Some(other) => return Err(unsupported(format!("the tokenizer model {other:?}"))),
    }
    let document: Document = serde_json::from_slice(json).map_err(fail)?;
    let model = document.model;
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unsupported("dropout of merges (model.dropout)".into()));
    }
    for (name, affix) in [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
            return Err(unsupported(format!("model.{name}")));
        }
    }

    let decoding = Decoding::read(document.decoder.as_ref(), document.pre_tokenizer.as_ref())
        .ok_or_else(|| {
            unsupported(format!(
                "the decoder {}",
                document.decoder.as_ref().unwrap_or(&Value::Null)
            ))
        })?;
    let vocabulary = vocabulary(
        file,
        &model.vocab,
        &document.added_tokens,
        model.unk_token.as_deref(),
        model.byte_fallback,
        decoding.spelling,
    )?;
    let declared = files.stops(file, vocabulary.len())?;
    let marks = marks(
        &vocabulary,
        &model.vocab,
        &document.added_tokens,
        document.post_processor.as_ref(),
        model.unk_token.as_deref(),
        (files, &declared),
    );
    let cut = cut(document.pre_tokenizer.as_ref())
        .map_err(|error| Error::tokenizer(file, format!("pre_tokenizer: {error}")))?;
    let normalizer = document
        .normalizer
        .map(normalizer::Steps::new)
        .transpose()
        .map_err(|error| Error::tokenizer(file, format!("normalizer: {error}")))?
        .map(|steps| -> Box<dyn Normalize> { Box::new(steps) });

    let special = special_tokens(file, &document.added_tokens, normalizer.as_deref())?;
    let special = SpecialTokens::new(file, special)?;
    let merges = merges(file, model.merges, &model.vocab, model.ignore_merges)?;
    // Special tokens stay out, so that no text can spell one; the unknown token the model needs.
    let mut by_text: Vocab = model.vocab;
    for token in document.added_tokens.iter().filter(|token| token.special) {
        if model.unk_token.as_ref() != Some(&token.content) {
            by_text.remove(&token.content);
        }
    }
    let unknown = model.unk_token.filter(|text| by_text.contains_key(text));
    let (model, merges) = Ranks::new(
        file,
        by_text,
        merges.into_iter(),
        RankOptions {
            ignore_merges: model.ignore_merges,
            byte_fallback: model.byte_fallback,
            unknown,
            fuse_unknown: model.fuse_unk,
        },
    );
    Ok(Inner {
        file: file.into(),
        vocabulary,
        normalizer,
        cut,
        merger: Merger::Ranks(Box::new(model)),
        merges: merges.pairs,
        scores: Vec::new(),
        space_prefix: false,
        strip_space: decoding.strip_space,
        stops: special.stops(&marks, &declared),
        special,
        marks,
    })
}

/// The added tokens, with the normal form of those that are looked for in normalized text.
fn special_tokens(
    file: &str,
    added: &[AddedToken],
    normalizer: Option<&dyn Normalize>,
) -> Result<Vec<SpecialToken>> {
    let started = Instant::now();
    let mut normalized_bytes = 0;
    let mut special = Vec::with_capacity(added.len());
    for token in added {
        let wrong = |what: &dyn std::fmt::Display| {
            Error::tokenizer(
                file,
                format!("the added token {:?}: normalizer: {what}", token.content),
            )
        };
        let normalized = match (token.normalized.unwrap_or(!token.special), normalizer) {
            (false, _) => None,
            (true, None) => Some(token.content.clone()),
            (true, Some(normalizer)) => {
                let text = normalizer.normalize(&token.content);
                Some(text.map_err(|error| wrong(&error))?)
            }
        };
        normalized_bytes += normalized.as_ref().map_or(0, String::len);
        if normalized_bytes > special::MAX_TEXT {
            return Err(wrong(&format_args!(
                "more than {} bytes for all added tokens",
                special::MAX_TEXT
            )));
        }
        if started.elapsed() > NORMALIZING {
            return Err(wrong(&format_args!(
                "more than {} s for all added tokens",
                NORMALIZING.as_secs()
            )));
        }
        special.push(SpecialToken {
            id: token.id,
            text: token.content.clone(),
            normalized,
            control: token.special,
            strip_left: token.lstrip,
            strip_right: token.rstrip,
            single_word: token.single_word,
        });
    }
    Ok(special)
}

/// The merges, each of two tokens that together are a token, as the `tokenizers` crate demands: with some of them left out, text would
/// become other ids than those that the model was trained on.
fn merges(
    file: &str,
    merges: Option<Vec<Merge>>,
    vocab: &HashMap<String, u32>,
    ignore_merges: bool,
) -> Result<Vec<(String, String)>> {
    let wrong = |what: String, expected: &str, found: String| {
        Err(Error::malformed(file, what, expected, found))
    };
    let Some(merges) = merges else {
        return wrong(
            "model.merges".to_owned(),
            "a list of merges, in order of rank",
            "no such key".to_owned(),
        );
    };
    let joined = || {
        let mut texts = vocab
            .keys()
            .filter(|text| byte_of(text.as_bytes()).is_none());
        texts.any(|text| text.chars().nth(1).is_some())
    };
    if merges.is_empty() && !ignore_merges && joined() {
        return wrong(
            "model.merges".to_owned(),
            "merges that make the tokens of several characters",
            "an empty list".to_owned(),
        );
    }
    let mut pairs = Vec::with_capacity(merges.len());
    let mut whole = String::new();
    for (rank, merge) in merges.into_iter().enumerate() {
        let (left, right) = merge.halves();
        whole.clear();
        whole.push_str(&left);
        whole.push_str(&right);
        if ![&left, &right, &whole]
            .into_iter()
            .all(|text| vocab.contains_key(text))
        {
            return wrong(
                format!("model.merges[{rank}]"),
                "two tokens of model.vocab that together are a token of it",
                format!("{left:?} and {right:?}"),
            );
        }
        pairs.push((left, right));
    }
    Ok(pairs)
}

/// Fills the table of tokens by id. Ids may leave gaps, but not be far beyond the number of tokens.
fn vocabulary(
    file: &str,
    vocab: &HashMap<String, u32>,
    added: &[AddedToken],
    unknown: Option<&str>,
    byte_fallback: bool,
    spelling: Spelling,
) -> Result<Vocabulary> {
    let count = vocab.len() + added.len();
    let limit = (2 * count + (1 << 16)).min(MAX_TOKENS);
    if count == 0 || count > MAX_TOKENS {
        return Err(Error::malformed(
            file,
            "model.vocab",
            format!("1 to {MAX_TOKENS} tokens"),
            count,
        ));
    }
    let mut table: Vec<Option<(&str, TokenKind)>> = Vec::new();
    let mut place = |id: u32, text, kind, replace: bool| {
        let index = id as usize;
        if index >= limit {
            return Err(Error::malformed(
                file,
                format!("the id of token {text:?}"),
                format!("less than {limit} in a vocabulary of {count} tokens"),
                id,
            ));
        }
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        match &mut table[index] {
            Some((other, _)) if *other != text && !replace => Err(Error::malformed(
                file,
                format!("token id {id}"),
                "one token",
                format!("{other:?} and {text:?}"),
            )),
            slot => {
                *slot = Some((text, kind));
                Ok(())
            }
        }
    };
    for (text, id) in vocab {
        let kind = if byte_fallback && byte_of(text.as_bytes()).is_some() {
            TokenKind::Byte
        } else if Some(text.as_str()) == unknown {
            TokenKind::Unknown
        } else {
            TokenKind::Normal
        };
        place(*id, text.as_str(), kind, false)?;
    }
    for token in added {
        let kind = match token.special {
            true if Some(token.content.as_str()) == unknown => TokenKind::Unknown,
            true => TokenKind::Control,
            false => TokenKind::UserDefined,
        };
        place(token.id, token.content.as_str(), kind, true)?;
    }
    let mut vocabulary = Vocabulary::new(spelling);
    for entry in table {
        let (text, kind) = entry.unwrap_or(("", TokenKind::Unused));
        vocabulary.push(text.as_bytes(), kind);
    }
    Ok(vocabulary)
}

/// How tokens become text.
struct Decoding {
    spelling: Spelling,
    strip_space: bool,
}

impl Decoding {
    fn read(decoder: Option<&Value>, pre_tokenizer: Option<&Value>) -> Option<Self> {
        let byte_level = Self {
            spelling: Spelling::ByteLevel,
            strip_space: false,
        };
        let Some(decoder) = decoder else {
            return flatten(pre_tokenizer?)
                .iter()
                .any(|step| kind(step) == "ByteLevel")
                .then_some(byte_level);
        };
        let steps = flatten(decoder);
        if steps.iter().any(|step| kind(step) == "ByteLevel") {
            return Some(byte_level);
        }
        let mut marked = false;
        let mut strip_space = false;
        for step in steps {
            match kind(step) {
                "Replace" | "ByteFallback" | "Fuse" => marked = true,
                "Metaspace" => {
                    marked = true;
                    strip_space |= match step.get("prepend_scheme").and_then(Value::as_str) {
                        Some(scheme) => scheme != "never",
                        None => step.get("add_prefix_space") != Some(&Value::Bool(false)),
                    };
                }
                "Strip" => {
                    strip_space |= step.get("content").and_then(Value::as_str) == Some(" ")
                        && step.get("start").and_then(Value::as_u64) == Some(1);
                }
                _ => return None,
            }
        }
        marked.then_some(Self {
            spelling: Spelling::Sentencepiece,
            strip_space,
        })
    }
}

/// The `type` of a step.
fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// A step, or the steps of a sequence (one level, as files have it).
fn flatten(step: &Value) -> Vec<&Value> {
    ["decoders", "pretokenizers", "processors"]
        .iter()
        .find_map(|list| step.get(list).and_then(Value::as_array))
        .map_or_else(|| vec![step], |steps| steps.iter().collect())
}

fn cut(pre_tokenizer: Option<&Value>) -> Result<Cut, StepError> {
    let Some(rules) = pre_tokenizer.filter(|rules| !rules.is_null()) else {
        return Ok(Cut::Whole);
    };
    if let Some(splitter) = patterns::recognise(&flatten(rules)) {
        return Ok(Cut::Scanner(splitter));
    }
    Rules::new(rules).map(|rules| Cut::General(Box::new(rules)))
}

/// The tokens with a role: the configuration names them, the post-processor says which of them are added.
fn marks(
    vocabulary: &Vocabulary,
    vocab: &HashMap<String, u32>,
    added: &[AddedToken],
    post_processor: Option<&Value>,
    unknown: Option<&str>,
    (files, declared): (&RoleFiles, &[u32]),
) -> Marks {
    let id = |text: &str| {
        added
            .iter()
            .find(|token| token.content == text)
            .map(|token| token.id)
            .or_else(|| vocab.get(text).copied())
            .filter(|id| vocabulary.kind(*id).is_some())
    };
    let named = |name: &str| id(files.text(name)?);
    let (mut before, mut after) = (None, None);
    for step in post_processor.map(flatten).unwrap_or_default() {
        match kind(step) {
            "TemplateProcessing" => {
                let single = step.get("single").and_then(Value::as_array);
                let special =
                    |item: Option<&Value>| id(item?.get("SpecialToken")?.get("id")?.as_str()?);
                before = single.and_then(|items| special(items.first()));
                after = single.and_then(|items| special(items.last()));
            }
            "RobertaProcessing" | "BertProcessing" => {
                let special = |name: &str| id(step.get(name)?.get(0)?.as_str()?);
                before = special("cls");
                after = special("sep");
            }
            _ => {}
        }
    }
    let bos = before.or_else(|| named("bos_token"));
    let eos = named("eos_token").or(after).or(declared.first().copied());
    let text = |id: u32| std::str::from_utf8(vocabulary.text(id)?).ok();
    let (eot, eom) = roles::turn_ends(declared, eos, text);
    Marks {
        bos,
        eos,
        eot,
        eom,
        pad: named("pad_token"),
        unk: unknown.and_then(id),
        add_bos: bos.is_some() && files.switch("add_bos_token").unwrap_or(before.is_some()),
        add_eos: eos.is_some() && files.switch("add_eos_token").unwrap_or(after.is_some()),
    }
}
