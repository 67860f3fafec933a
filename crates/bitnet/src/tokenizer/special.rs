//! Tokens that are found in a text by their exact spelling before anything else is split.
//!
//! Control tokens count only where the caller says that the text may contain them; user-defined ones always.
//! At each place the longest token wins.

use std::ops::Range;

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Input, MatchKind};

use crate::{Error, Result};

/// Texts of all such tokens together may not be longer than this, which is far above any real vocabulary.
const MAX_TEXT: usize = 1 << 20;

/// One such token.
#[derive(Debug, Clone)]
pub(super) struct SpecialToken {
    pub(super) id: u32,
    pub(super) text: String,
    /// A control token, as opposed to a user-defined one.
    pub(super) control: bool,
    /// Whether it swallows the whitespace before it.
    pub(super) strip_left: bool,
    /// Whether it swallows the whitespace after it.
    pub(super) strip_right: bool,
    /// Whether it counts only where no word character touches it.
    pub(super) single_word: bool,
}

impl SpecialToken {
    pub(super) fn new(id: u32, text: String, control: bool) -> Self {
        Self {
            id,
            text,
            control,
            strip_left: false,
            strip_right: false,
            single_word: false,
        }
    }
}

/// A stretch of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'t> {
    /// Text to be split and merged.
    Plain(&'t str),
    /// A token.
    Token(u32),
}

/// The tokens and the machines that find them.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
    /// Finds every token; pattern i is token i.
    every: Option<NFA>,
    /// Finds the user-defined ones; pattern i is token `user_defined[i]`.
    plain: Option<NFA>,
    user_defined: Vec<usize>,
}

impl SpecialTokens {
    pub(super) fn new(file: &str, mut tokens: Vec<SpecialToken>) -> Result<Self> {
        tokens.retain(|token| !token.text.is_empty());
        let total: usize = tokens.iter().map(|token| token.text.len()).sum();
        if total > MAX_TEXT {
            return Err(Error::tokenizer(
                file,
                format!(
                    "control and user-defined tokens hold {total} bytes of text; at most {MAX_TEXT} are accepted"
                ),
            ));
        }
        let build = |texts: Vec<&str>| -> Result<Option<NFA>> {
            if texts.is_empty() {
                return Ok(None);
            }
            NFA::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(texts)
                .map(Some)
                .map_err(|error| Error::tokenizer(file, error))
        };
        let user_defined: Vec<usize> = tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| !token.control)
            .map(|(index, _)| index)
            .collect();
        let every = build(tokens.iter().map(|token| token.text.as_str()).collect())?;
        let plain = build(
            user_defined
                .iter()
                .map(|index| tokens[*index].text.as_str())
                .collect(),
        )?;
        Ok(Self {
            tokens,
            every,
            plain,
            user_defined,
        })
    }

    pub(super) fn tokens(&self) -> &[SpecialToken] {
        &self.tokens
    }

    /// Where `text` spells control tokens.
    pub(super) fn control_ranges(&self, text: &str) -> Vec<Range<usize>> {
        let found = self
            .every
            .iter()
            .flat_map(|machine| machine.try_find_iter(Input::new(text)))
            .flatten();
        found
            .filter(|found| {
                let token = self.tokens.get(found.pattern().as_usize());
                token.is_some_and(|token| token.control)
            })
            .map(|found| found.range())
            .collect()
    }

    /// `text` cut at the tokens it contains; with `control` false, at user-defined ones only.
    pub(super) fn split<'t>(&self, text: &'t str, control: bool) -> Vec<Segment<'t>> {
        let machine = if control { &self.every } else { &self.plain };
        let mut segments = Vec::new();
        let mut done = 0;
        if let Some(machine) = machine {
            // What is asked for (unanchored, leftmost) every such machine can do.
            for found in machine
                .try_find_iter(Input::new(text))
                .into_iter()
                .flatten()
            {
                let index = found.pattern().as_usize();
                let index = if control {
                    Some(index)
                } else {
                    self.user_defined.get(index).copied()
                };
                let Some(token) = index.and_then(|index| self.tokens.get(index)) else {
                    continue;
                };
                let (mut start, mut end) = (found.start(), found.end());
                // Whitespace that an earlier token swallowed may reach into this match.
                if start < done || (token.single_word && touches_word(text, start, end)) {
                    continue;
                }
                if token.strip_left {
                    start = done + text[done..start].trim_end().len();
                }
                if token.strip_right {
                    end = text.len() - text[end..].trim_start().len();
                }
                if done < start {
                    segments.push(Segment::Plain(&text[done..start]));
                }
                segments.push(Segment::Token(token.id));
                done = end;
            }
        }
        if done < text.len() {
            segments.push(Segment::Plain(&text[done..]));
        }
        segments
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text[..start].chars().next_back().is_some_and(word)
        || text[end..].chars().next().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> SpecialTokens {
        let mut mask = SpecialToken::new(4, "<mask>".into(), true);
        mask.strip_left = true;
        mask.strip_right = true;
        let mut word = SpecialToken::new(5, "word".into(), false);
        word.single_word = true;
        SpecialTokens::new(
            "test",
            vec![
                SpecialToken::new(1, "<a>".into(), true),
                SpecialToken::new(2, "<a><b>".into(), true),
                SpecialToken::new(3, "  ".into(), false),
                mask,
                word,
                SpecialToken::new(6, String::new(), true),
            ],
        )
        .unwrap()
    }

    #[test]
    fn the_longest_token_wins_and_control_tokens_need_leave() {
        use Segment::{Plain, Token};
        let tokens = tokens();
        assert_eq!(
            tokens.split("x<a><b><a>  y", true),
            [Plain("x"), Token(2), Token(1), Token(3), Plain("y")]
        );
        assert_eq!(
            tokens.split("x<a>  y", false),
            [Plain("x<a>"), Token(3), Plain("y")]
        );
        assert_eq!(tokens.split("", true), []);
    }

    #[test]
    fn flags_strip_and_bound() {
        use Segment::{Plain, Token};
        let tokens = tokens();
        assert_eq!(
            tokens.split("a <mask>   b", true),
            [Plain("a"), Token(4), Plain("b")]
        );
        assert_eq!(
            tokens.split("words word", true),
            [Plain("words "), Token(5)]
        );
    }
}
