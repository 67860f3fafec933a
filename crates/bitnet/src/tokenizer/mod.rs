//! Text to token ids and back.
//!
//! A [`Tokenizer`] comes with a model file ([`Tokenizer::from_file`]): it is built from what a GGUF file says
//! ([`Tokenizer::from_spec`]) or from a `tokenizer.json` ([`Tokenizer::from_json`]). Encoding goes in four steps:
//!
//! 1. control and user-defined tokens are cut out by their exact text (some of them after the text is normalized);
//! 2. every stretch between them is normalized and cut into pieces (words, numbers, marks);
//! 3. a piece is spelled in the vocabulary's alphabet: one character per byte, or U+2581 for spaces;
//! 4. neighbours are merged, by rank (byte-pair encoding) or by score.
//!
//! A [`Detokenizer`] turns ids into text as they come and never emits half a character.

mod byte_alphabet;
mod charsmap;
mod classes;
mod export;
mod from_file;
mod json;
mod normalizer;
mod patterns;
mod ranks;
mod regex;
mod roles;
mod rules;
mod sentencepiece;
mod spec;
mod special;
mod splitter;
mod steps;
mod stops;
mod stream;
mod vocabulary;
mod words;

use std::borrow::Cow;
use std::sync::Arc;

use crate::{Error, Result};
pub use export::GgufTokenizer;
use ranks::Ranks;
use roles::RoleFiles;
use sentencepiece::Sentencepiece;
pub use spec::TokenizerSpec;
use special::{Segment, SpecialTokens};
use splitter::Splitter;
pub use steps::Nfc;
use steps::{CutByRules, Normalize, StepError};
pub use stream::Detokenizer;
pub use vocabulary::TokenKind;
use vocabulary::Vocabulary;
pub use words::{TokenWord, TokenWords};

/// Vocabularies larger than this are refused; the largest in use are a quarter of it.
const MAX_TOKENS: usize = 1 << 20;

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Put the beginning-of-text token in front, exactly once: if the text already begins with it (which
    /// takes `parse_special`), none is added. Nothing happens if the vocabulary has no such token.
    pub add_bos: bool,
    /// Let the text's spelling of control tokens, such as `<|eot_id|>`, stand for those tokens. Leave it off
    /// for text that a user typed.
    pub parse_special: bool,
}

/// A vocabulary and the rules to encode with it. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: String,
    vocabulary: Vocabulary,
    special: SpecialTokens,
    normalizer: Option<Box<dyn Normalize>>,
    cut: Cut,
    merger: Merger,
    /// Pairs of ids in order of rank; empty when merging by score.
    merges: Vec<(u32, u32)>,
    /// Scores by id, when merging by score.
    scores: Vec<f32>,
    /// Merging by score: put a space in front of every stretch of text.
    space_prefix: bool,
    /// Decoding: drop one space at the start of the text.
    strip_space: bool,
    marks: Marks,
    stops: Vec<u32>,
}

/// The tokens with a role.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    eom: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
    add_bos: bool,
    add_eos: bool,
}

/// How a stretch of text is cut into pieces.
#[derive(Debug)]
enum Cut {
    /// Not at all.
    Whole,
    /// By a scanner, and then each piece spelled in the byte alphabet.
    Scanner(Splitter),
    /// As a `tokenizer.json` says.
    General(Box<dyn CutByRules>),
}

#[derive(Debug)]
enum Merger {
    Ranks(Box<Ranks>),
    Scores(Box<Sentencepiece>),
}

impl SpecialTokens {
    /// The ids that end an answer: those with that role among `marks`, those that are `declared` besides, and those known by
    /// their text.
    fn stops(&self, marks: &Marks, declared: &[u32]) -> Vec<u32> {
        let mut stops: Vec<u32> = [marks.eos, marks.eot, marks.eom]
            .into_iter()
            .flatten()
            .chain(declared.iter().copied())
            .chain(stops::known(self.tokens()))
            .collect();
        stops.sort_unstable();
        stops.dedup();
        stops
    }
}

impl Tokenizer {
    /// A tokenizer from a GGUF file's metadata.
    ///
    /// # Errors
    /// If the description contradicts itself, or names a model or pre-tokenizer that is not known: guessing
    /// would give ids that look right and are not.
    pub fn from_spec(spec: TokenizerSpec<'_>) -> Result<Self> {
        Self::from_spec_with(spec, None)
    }

    /// As [`Tokenizer::from_spec`], with the normal form C of the host.
    fn from_spec_with(spec: TokenizerSpec<'_>, nfc: Option<Nfc>) -> Result<Self> {
        Ok(Self(Arc::new(spec::read(spec, nfc)?)))
    }

    /// A tokenizer from the bytes of a `tokenizer.json` and, for the tokens with a role, the
    /// `tokenizer_config.json` beside it. `file` names the source in errors.
    ///
    /// # Errors
    /// If it is not byte-pair encoding or its parts are not understood.
    pub fn from_json(file: &str, json: &[u8], config: Option<&serde_json::Value>) -> Result<Self> {
        let files = RoleFiles {
            tokenizer: config.cloned(),
            ..RoleFiles::default()
        };
        Ok(Self(Arc::new(json::read(file, json, &files)?)))
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// If the vocabulary has no token for some part of the text.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let control = options.parse_special;
        for (index, segment) in self.0.special.split(text, control).iter().enumerate() {
            self.encode_segment(segment, index == 0, control, &mut ids)?;
        }
        Ok(self.with_bos(ids, options.add_bos))
    }

    /// The ids of `text`, in which control tokens count; the stretches between them pass through `restore`,
    /// and in what comes out of it they do not count. See [`crate::chat`] for what this is for.
    pub(crate) fn encode_guarded(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
        add_bos: bool,
    ) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut at_start = true;
        for segment in self.0.special.split_template(text) {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Plain(plain) => {
                    let clean = restore(plain);
                    for segment in self.0.special.split(&clean, false) {
                        self.encode_segment(&segment, at_start, false, &mut ids)?;
                        at_start = false;
                    }
                }
            }
            at_start = false;
        }
        Ok(self.with_bos(ids, add_bos))
    }

    /// Where `text` spells control tokens.
    pub(crate) fn control_ranges(&self, text: &str) -> Vec<std::ops::Range<usize>> {
        self.0.special.control_ranges(text)
    }

    /// The texts of all control tokens.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.0
            .special
            .tokens()
            .iter()
            .filter(|token| token.control)
            .map(|token| token.text.as_str())
    }

    fn with_bos(&self, mut ids: Vec<u32>, add_bos: bool) -> Vec<u32> {
        if let (true, Some(bos)) = (add_bos, self.0.marks.bos) {
            let present = ids.iter().take_while(|id| **id == bos).count();
            ids.splice(..present, [bos]);
        }
        ids
    }

    /// Appends the ids of a stretch. `control` says whether control tokens count that are looked for in normalized text.
    fn encode_segment(
        &self,
        segment: &Segment<'_>,
        at_start: bool,
        control: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let text = match segment {
            Segment::Token(id) => {
                ids.push(*id);
                return Ok(());
            }
            Segment::Plain(text) => *text,
        };
        let inner = &*self.0;
        let mut normalized = Cow::Borrowed(text);
        if let Some(normalizer) = &inner.normalizer {
            let text = normalizer.normalize(text);
            normalized = Cow::Owned(text.map_err(|error| inner.failed(error))?);
        }
        let segments = inner.special.split_normalized(&normalized, control);
        for (index, segment) in segments.into_iter().enumerate() {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Plain(text) => self.encode_plain(text, at_start && index == 0, ids)?,
            }
        }
        Ok(())
    }

    /// Appends the ids of normalized text without tokens that are found by their spelling.
    fn encode_plain(&self, normalized: &str, at_start: bool, ids: &mut Vec<u32>) -> Result<()> {
        let inner = &*self.0;
        match (&inner.merger, &inner.cut) {
            (Merger::Scores(model), _) => {
                let mut spelled = String::with_capacity(normalized.len() + 3);
                if inner.space_prefix {
                    spelled.push('\u{2581}');
                }
                spelled.extend(
                    normalized
                        .chars()
                        .map(|c| if c == ' ' { '\u{2581}' } else { c }),
                );
                model
                    .encode(&spelled, ids)
                    .map_err(|byte| inner.no_token(&format!("byte 0x{byte:02X}")))
            }
            (Merger::Ranks(model), Cut::Whole) => inner.merge(model, normalized, ids),
            (Merger::Ranks(model), Cut::Scanner(splitter)) => {
                let mut spelled = String::new();
                for piece in splitter.split(normalized) {
                    spelled.clear();
                    byte_alphabet::push_mapped(piece, &mut spelled);
                    inner.merge(model, &spelled, ids)?;
                }
                Ok(())
            }
            (Merger::Ranks(model), Cut::General(rules)) => {
                let pieces = rules.split(normalized, at_start);
                for piece in pieces.map_err(|error| inner.failed(error))? {
                    inner.merge(model, &piece, ids)?;
                }
                Ok(())
            }
        }
    }

    /// The text of `ids`. Control tokens print as nothing; bytes that are not UTF-8 as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.detokenizer();
        let mut text = String::new();
        for id in ids {
            text.push_str(&stream.push(*id));
        }
        text.push_str(&stream.finish());
        text
    }

    /// A decoder for ids that come one by one.
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(self.clone())
    }

    /// The bytes that token `id` adds to a text (none for control tokens), or `None` if there is no such id.
    pub fn token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        self.0.vocabulary.bytes(id)
    }

    /// The token as the vocabulary spells it, for display; bytes that are not UTF-8 show as U+FFFD.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let text = self.0.vocabulary.text(id)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// What token `id` is for.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.0.vocabulary.kind(id)
    }

    /// The id of the token that the vocabulary spells `text`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let inner = &*self.0;
        let special = inner.special.tokens().iter();
        special
            .filter(|token| token.text == text)
            .map(|token| token.id)
            .next()
            .or_else(|| match &inner.merger {
                Merger::Ranks(model) => model.id(text),
                Merger::Scores(model) => model.piece(text).map(|(id, _)| id),
            })
            .or_else(|| {
                let mut all = inner.vocabulary.iter();
                all.find(|(_, other, _)| *other == text.as_bytes())
                    .map(|(id, _, _)| id)
            })
    }

    /// How many ids there are: ids are `0..vocab_size`.
    pub fn vocab_size(&self) -> usize {
        self.0.vocabulary.len()
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.0.marks.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.0.marks.eos
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.0.marks.pad
    }

    /// Whether prompts of this model begin with [`Tokenizer::bos`].
    pub fn add_bos(&self) -> bool {
        self.0.marks.add_bos
    }

    /// Whether texts to be embedded (not continued) end with [`Tokenizer::eos`]. Encoding never adds it.
    pub fn add_eos(&self) -> bool {
        self.0.marks.add_eos
    }

    /// The tokens after which an answer is complete, ascending: those that the file declares, and those
    /// known by their text, such as `<|eot_id|>`.
    pub fn stops(&self) -> &[u32] {
        &self.0.stops
    }

    /// As [`Tokenizer::stops`], but the ends of the text, of the turn and of the message first, in this order.
    pub(crate) fn stops_by_role(&self) -> Vec<u32> {
        let marks = &self.0.marks;
        let mut ids: Vec<u32> = Vec::new();
        let roles = [marks.eos, marks.eot, marks.eom].into_iter().flatten();
        for id in roles.chain(self.0.stops.iter().copied()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

impl Inner {
    /// Appends the ids of one piece, spelled in the vocabulary's alphabet.
    fn merge(&self, model: &Ranks, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        model
            .encode(piece, ids)
            .map_err(|_| self.no_token(&format!("some part of {:?}", shortened(piece))))
    }

    fn failed(&self, error: StepError) -> Error {
        Error::tokenizer(self.file.as_str(), error)
    }

    fn no_token(&self, what: &str) -> Error {
        Error::tokenizer(
            self.file.as_str(),
            format!("the vocabulary has no token for {what}"),
        )
    }
}

/// The first few characters of a text, for messages.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('\u{2026}');
    }
    short
}

#[cfg(test)]
pub(crate) mod tests;
