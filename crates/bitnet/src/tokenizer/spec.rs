//! The tokenizer that a GGUF file's metadata describes.

use super::patterns::{self, Pattern};
use super::ranks::{RankOptions, Ranks, Vocab};
use super::sentencepiece::Sentencepiece;
use super::special::{SpecialToken, SpecialTokens};
use super::steps::{self, Nfc};
use super::vocabulary::{Spelling, TokenKind, Vocabulary};
use super::{Cut, Inner, MAX_TOKENS, Marks, Merger, stops};
use crate::{Error, Result};

/// More merges than this are refused; real files have about two for each token.
const MAX_MERGES: usize = 1 << 22;

/// What a GGUF file says about its tokenizer, under `tokenizer.ggml.*` unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct TokenizerSpec<'a> {
    /// The file's name, for messages.
    pub file: &'a str,
    /// `model`: "gpt2" (byte-level, merging by rank) or "llama" (merging by score).
    pub model: &'a str,
    /// `pre`: how text is cut before merging.
    pub pre: Option<&'a str>,
    /// `general.architecture`, which decides when `pre` is absent.
    pub architecture: &'a str,
    /// `tokens`: the text of each token; those that are not UTF-8 can be decoded, but no text gives them.
    pub tokens: Vec<&'a [u8]>,
    /// `scores`: one for each token.
    pub scores: Option<Vec<f32>>,
    /// `token_type`: one for each token, numbered as [`TokenKind`].
    pub token_types: Option<Vec<i32>>,
    /// `merges`: "left right", by rank; needed for "gpt2".
    pub merges: Option<Vec<&'a [u8]>>,
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
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
}

pub(super) fn read(spec: TokenizerSpec<'_>, nfc: Option<Nfc>) -> Result<Inner> {
    let file = spec.file;
    let spelling = match spec.model {
        "gpt2" => Spelling::ByteLevel,
        "llama" => Spelling::Sentencepiece,
        other => {
            return Err(Error::Unsupported {
                file: file.into(),
                what: format!("the tokenizer model {other:?}"),
                advice:
                    "this runtime knows \"gpt2\" (byte-level BPE) and \"llama\" (sentencepiece)"
                        .into(),
            });
        }
    };
    let count = spec.tokens.len();
    if count == 0 || count > MAX_TOKENS {
        return Err(Error::malformed(
            file,
            "tokenizer.ggml.tokens",
            format!("1 to {MAX_TOKENS} tokens"),
            count,
        ));
    }
    let merges = spec.merges.as_ref().map_or(0, Vec::len);
    if merges > MAX_MERGES {
        return Err(Error::malformed(
            file,
            "tokenizer.ggml.merges",
            format!("at most {MAX_MERGES}"),
            merges,
        ));
    }
    let same_count = |what: &str, found: Option<usize>| match found {
        Some(found) if found != count => Err(Error::malformed(
            file,
            what,
            format!("{count} values, one for each token"),
            found,
        )),
        _ => Ok(()),
    };
    same_count("tokenizer.ggml.scores", spec.scores.as_ref().map(Vec::len))?;
    same_count(
        "tokenizer.ggml.token_type",
        spec.token_types.as_ref().map(Vec::len),
    )?;
    let marks = marks(&spec);
    let vocabulary = vocabulary(&spec, spelling, &marks);
    let special = vocabulary
        .iter()
        .filter_map(|(id, text, kind)| {
            let text = std::str::from_utf8(text).ok()?;
            let control = match kind {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => false,
                _ => return None,
            };
            let text = match spelling {
                Spelling::Sentencepiece if !control => text.replace('\u{2581}', " "),
                _ => text.into(),
            };
            Some(SpecialToken::new(id, text, control))
        })
        .collect();
    let special = SpecialTokens::new(spec.file, special)?;
    match spelling {
        Spelling::ByteLevel => byte_level(&spec, vocabulary, special, marks, nfc),
        Spelling::Sentencepiece => by_scores(spec, vocabulary, special, marks),
    }
}

/// The tokens with a role; ids outside the vocabulary are dropped with a warning.
fn marks(spec: &TokenizerSpec<'_>) -> Marks {
    let known = |what: &str, id: Option<u32>| {
        id.filter(|id| {
            let inside = (*id as usize) < spec.tokens.len();
            if !inside {
                tracing::warn!(
                    "{}: {what} is {id}, outside the vocabulary of {} tokens, and is ignored",
                    spec.file,
                    spec.tokens.len()
                );
            }
            inside
        })
    };
    // What llama.cpp takes where a sentencepiece file does not say.
    let usual = |id: u32, text: &[u8]| {
        let there = spec.tokens.get(id as usize).copied() == Some(text);
        (spec.model == "llama" && there).then_some(id)
    };
    Marks {
        bos: known("bos_token_id", spec.bos).or_else(|| usual(1, b"<s>")),
        eos: known("eos_token_id", spec.eos).or_else(|| usual(2, b"</s>")),
        eot: known("eot_token_id", spec.eot),
        eom: known("eom_token_id", spec.eom),
        pad: known("padding_token_id", spec.pad),
        unk: known("unknown_token_id", spec.unk),
        add_bos: false,
        add_eos: spec.add_eos.unwrap_or(false),
    }
}

fn vocabulary(spec: &TokenizerSpec<'_>, spelling: Spelling, marks: &Marks) -> Vocabulary {
    let mut vocabulary = Vocabulary::new(spelling);
    for (index, text) in spec.tokens.iter().enumerate() {
        let number = spec
            .token_types
            .as_ref()
            .and_then(|types| types.get(index).copied());
        let mut kind = TokenKind::from_number(number.unwrap_or(1));
        if number.is_none() && spelling == Spelling::Sentencepiece {
            if super::vocabulary::byte_of(text).is_some() {
                kind = TokenKind::Byte;
            } else if *text == b"<unk>" {
                kind = TokenKind::Unknown;
            }
        }
        let bracketed = text.starts_with(b"<|") && text.ends_with(b"|>");
        let plain = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
        if (plain && stops::always_stops(text))
            || (kind == TokenKind::Normal && number.is_none() && bracketed)
        {
            kind = TokenKind::Control;
        }
        vocabulary.push(text, kind);
    }
    // A token that begins or ends texts is a mark even where the file calls it normal, if it looks like one.
    for id in [marks.bos, marks.eos, marks.eot, marks.eom, marks.pad]
        .into_iter()
        .flatten()
    {
        let looks_like_one = vocabulary
            .text(id)
            .is_some_and(|text| text.len() > 2 && text.starts_with(b"<") && text.ends_with(b">"));
        if looks_like_one && vocabulary.kind(id) == Some(TokenKind::Normal) {
            vocabulary.set_kind(id, TokenKind::Control);
        }
    }
    if let Some(unknown) = marks.unk
        && vocabulary.kind(unknown) == Some(TokenKind::Normal)
        && vocabulary.text(unknown) == Some(b"<unk>")
    {
        vocabulary.set_kind(unknown, TokenKind::Unknown);
    }
    vocabulary
}

/// The pattern that `pre` stands for.
fn pattern(spec: &TokenizerSpec<'_>) -> Result<Pattern> {
    let Some(pre) = spec.pre else {
        let llama3_vocabulary = spec.tokens.len() == 128_256
            && spec.tokens.get(128_000).copied() == Some(b"<|begin_of_text|>");
        let llama3_architecture = matches!(spec.architecture, "bitnet-b1.58" | "bitnet-25");
        if llama3_vocabulary || llama3_architecture {
            return Ok(patterns::LLAMA3);
        }
        tracing::warn!(
            "{}: tokenizer.ggml.pre is missing; cutting text as GPT-2 does, which may not be how the model was trained",
            spec.file
        );
        return Ok(patterns::GPT2);
    };
    Pattern::named(pre).ok_or_else(|| {
        let known: Vec<&str> = Pattern::names().collect();
        Error::Unsupported {
            file: spec.file.into(),
            what: format!("the pre-tokenizer {pre:?} (tokenizer.ggml.pre)"),
            advice: format!(
                "known are {}; with another one the ids would be wrong",
                known.join(", ")
            ),
        }
    })
}

/// Whether texts begin with the beginning-of-text token.
fn adds_bos(spec: &TokenizerSpec<'_>, marks: &Marks, usual: bool) -> bool {
    let wanted = spec.add_bos.unwrap_or(usual);
    if wanted && marks.bos.is_none() {
        tracing::warn!(
            "{}: texts should begin with the beginning-of-text token, but tokenizer.ggml.bos_token_id names none",
            spec.file
        );
    }
    wanted && marks.bos.is_some()
}

fn byte_level(
    spec: &TokenizerSpec<'_>,
    vocabulary: Vocabulary,
    special: SpecialTokens,
    mut marks: Marks,
    host_nfc: Option<Nfc>,
) -> Result<Inner> {
    let pattern = pattern(spec)?;
    let mut by_text = Vocab::with_capacity(vocabulary.len());
    let mut twice = 0usize;
    for (id, text, kind) in vocabulary.iter() {
        // Marks stay out, so that no text can spell one.
        if kind != TokenKind::Normal || text.is_empty() {
            continue;
        }
        if let Ok(text) = std::str::from_utf8(text) {
            match by_text.entry(text.to_owned()) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(id);
                }
                std::collections::hash_map::Entry::Occupied(_) => twice += 1,
            }
        }
    }
    if twice > 0 {
        tracing::warn!(
            "{}: {twice} tokens repeat an earlier one; the earliest is used",
            spec.file
        );
    }
    // Without merges every text would become single bytes. A vocabulary of nothing but bytes needs none.
    let merges = spec.merges.as_deref().unwrap_or_default();
    let joined = by_text.keys().any(|text| text.chars().nth(1).is_some());
    if merges.is_empty() && (spec.merges.is_none() || joined) {
        return Err(Error::malformed(
            spec.file,
            "tokenizer.ggml.merges",
            "the merges of the tokenizer model \"gpt2\", \"left right\" in order of rank (convert the model again with a converter that writes them)",
            match spec.merges {
                None => "no such key",
                Some(_) => "an empty list",
            },
        ));
    }
    let merges = merges.iter().map(|merge| {
        let text = std::str::from_utf8(merge).unwrap_or_default();
        // The left half has at least one character, so a space in front belongs to it.
        match text.char_indices().skip(1).find(|(_, c)| *c == ' ') {
            Some((at, _)) => (text[..at].to_owned(), text[at + 1..].to_owned()),
            None => (String::new(), String::new()),
        }
    });
    let (model, merges) = Ranks::new(
        spec.file,
        by_text,
        merges,
        RankOptions {
            ignore_merges: pattern.ignore_merges,
            ..RankOptions::default()
        },
    );
    if merges.left_out > merges.pairs.len() {
        return Err(Error::malformed(
            spec.file,
            "tokenizer.ggml.merges",
            "\"left right\", two tokens whose texts together are a token",
            format!(
                "{} of {} that are not, the first {:?}",
                merges.left_out,
                merges.left_out + merges.pairs.len(),
                merges.first_left_out.unwrap_or_default()
            ),
        ));
    }
    marks.add_bos = adds_bos(spec, &marks, pattern.add_bos);
    let normalizer = pattern
        .nfc
        .then(|| steps::nfc(spec.file, host_nfc))
        .transpose()?;
    Ok(Inner {
        file: spec.file.into(),
        vocabulary,
        normalizer,
        cut: Cut::Scanner(pattern.splitter),
        merger: Merger::Ranks(Box::new(model)),
        merges: merges.pairs,
        scores: Vec::new(),
        space_prefix: false,
        strip_space: false,
        stops: special.stops(&marks, &[]),
        special,
        marks,
    })
}

/// Warns if all scores are the same, as they are where a converter lost them.
fn warn_of_equal_scores(file: &str, vocabulary: &Vocabulary, scores: &[f32]) {
    // Single characters, up to four bytes, are not made by joining.
    let joined = vocabulary
        .iter()
        .zip(scores)
        .filter(|((_, text, kind), _)| *kind == TokenKind::Normal && text.len() > 4);
    let mut joined = joined.map(|(_, score)| *score);
    if let (Some(first), Some(second)) = (joined.next(), joined.next())
        && first == second
        && joined.all(|score| score == first)
    {
        tracing::warn!(
            "{file}: tokenizer.ggml.scores are all {first} and do not say which tokens to make first; the ids may not be those that \
             the model was trained on"
        );
    }
}

fn by_scores(
    mut spec: TokenizerSpec<'_>,
    vocabulary: Vocabulary,
    special: SpecialTokens,
    mut marks: Marks,
) -> Result<Inner> {
    let Some(scores) = spec.scores.take() else {
        return Err(Error::malformed(
            spec.file,
            "tokenizer.ggml.scores",
            "one score for each token, for the tokenizer model \"llama\"",
            "no such key",
        ));
    };
    if let Some(index) = scores.iter().position(|score| score.is_nan()) {
        return Err(Error::malformed(
            spec.file,
            "tokenizer.ggml.scores",
            "numbers",
            format!("NaN for token {index}"),
        ));
    }
    warn_of_equal_scores(spec.file, &vocabulary, &scores);
    let unknown = marks.unk.or_else(|| {
        let mut all = vocabulary.iter();
        all.find(|(_, _, kind)| *kind == TokenKind::Unknown)
            .map(|(id, _, _)| id)
    });
    marks.unk = unknown;
    marks.add_bos = adds_bos(&spec, &marks, true);
    let space_prefix = spec.add_space_prefix.unwrap_or(true);
    let model = Sentencepiece::new(&vocabulary, &scores, unknown);
    Ok(Inner {
        file: spec.file.into(),
        vocabulary,
        normalizer: None,
        cut: Cut::Whole,
        merger: Merger::Scores(Box::new(model)),
        merges: Vec::new(),
        scores,
        space_prefix,
        strip_space: space_prefix,
        stops: special.stops(&marks, &[]),
        special,
        marks,
    })
}
