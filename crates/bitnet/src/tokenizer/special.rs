//! Tokens that are found in a text by their exact spelling before anything else is split.
//!
//! Control tokens count only where the caller says that the text may contain them; user-defined ones always.
//! At each place the longest token wins. Most are found in the text as it is; those that a `tokenizer.json` calls
//! `normalized` are found after it in what lies between, in its normal form, by their own normal form.

use std::ops::Range;

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Input, MatchKind};

use super::classes::{classes, contains};
use crate::{Error, Result};

/// Texts of all such tokens together may not be longer than this, which is far above any real vocabulary.
pub(super) const MAX_TEXT: usize = 1 << 20;

/// One such token.
#[derive(Debug, Clone)]
pub(super) struct SpecialToken {
    pub(super) id: u32,
    pub(super) text: String,
    /// Its text in normal form, if it is looked for in normalized text.
    pub(super) normalized: Option<String>,
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
            normalized: None,
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
    /// For text as it is.
    raw: Finders,
    /// For normalized text.
    normalized: Finders,
    /// For what a template made: all control tokens by their text, and the user-defined ones of `raw`.
    template: Option<Finder>,
}

/// Machines for some of the tokens.
#[derive(Debug)]
struct Finders {
    /// For all of them.
    every: Option<Finder>,
    /// For the user-defined ones.
    plain: Option<Finder>,
}

/// A machine; pattern i is token `tokens[i]`.
#[derive(Debug)]
struct Finder {
    machine: NFA,
    tokens: Vec<usize>,
}

impl Finder {
    /// A machine for texts of tokens, or nothing if there are none.
    fn new<'t>(
        file: &str,
        patterns: impl Iterator<Item = (usize, &'t str)>,
    ) -> Result<Option<Self>> {
        let (tokens, texts): (Vec<usize>, Vec<&str>) =
            patterns.filter(|(_, text)| !text.is_empty()).unzip();
        if texts.is_empty() {
            return Ok(None);
        }
        let machine = NFA::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| Error::tokenizer(file, error))?;
        Ok(Some(Self { machine, tokens }))
    }
}

impl SpecialTokens {
    pub(super) fn new(file: &str, mut tokens: Vec<SpecialToken>) -> Result<Self> {
        tokens.retain(|token| !token.text.is_empty());
        let total: usize = tokens
            .iter()
            .map(|token| token.text.len() + token.normalized.as_ref().map_or(0, String::len))
            .sum();
        if total > MAX_TEXT {
            return Err(Error::tokenizer(
                file,
                format!(
                    "control and user-defined tokens hold {total} bytes of text; at most {MAX_TEXT} are accepted"
                ),
            ));
        }
        let all = || tokens.iter().enumerate();
        let raw = || {
            all()
                .filter(|(_, token)| token.normalized.is_none())
                .map(|(index, token)| (index, token.text.as_str()))
        };
        let normalized =
            || all().filter_map(|(index, token)| Some((index, token.normalized.as_deref()?)));
        let user_defined = |(index, _): &(usize, &str)| !tokens[*index].control;
        let template = all()
            .filter(|(_, token)| token.control || token.normalized.is_none())
            .map(|(index, token)| (index, token.text.as_str()));
        let raw = Finders {
            every: Finder::new(file, raw())?,
            plain: Finder::new(file, raw().filter(user_defined))?,
        };
        let normalized = Finders {
            every: Finder::new(file, normalized())?,
            plain: Finder::new(file, normalized().filter(user_defined))?,
        };
        let template = Finder::new(file, template)?;
        Ok(Self {
            tokens,
            raw,
            normalized,
            template,
        })
    }

    pub(super) fn tokens(&self) -> &[SpecialToken] {
        &self.tokens
    }

    /// Where `text` spells control tokens, as [`SpecialTokens::split_template`] finds them.
    pub(super) fn control_ranges(&self, text: &str) -> Vec<Range<usize>> {
        let Some(finder) = &self.template else {
            return Vec::new();
        };
        let found = finder.machine.try_find_iter(Input::new(text));
        found
            .into_iter()
            .flatten()
            .filter(|found| {
                let index = finder.tokens.get(found.pattern().as_usize());
                let token = index.and_then(|index| self.tokens.get(*index));
                token.is_some_and(|token| token.control)
            })
            .map(|found| found.range())
            .collect()
    }

    /// `text` cut at the tokens it contains; with `control` false, at user-defined ones only.
    pub(super) fn split<'t>(&self, text: &'t str, control: bool) -> Vec<Segment<'t>> {
        self.cut(text, self.raw.choose(control))
    }

    /// As [`SpecialTokens::split`], of normalized text at those that are looked for there.
    pub(super) fn split_normalized<'t>(&self, text: &'t str, control: bool) -> Vec<Segment<'t>> {
        self.cut(text, self.normalized.choose(control))
    }

    /// As [`SpecialTokens::split`], of what a template made: every control token counts by its text.
    pub(super) fn split_template<'t>(&self, text: &'t str) -> Vec<Segment<'t>> {
        self.cut(text, self.template.as_ref())
    }

    fn cut<'t>(&self, text: &'t str, finder: Option<&Finder>) -> Vec<Segment<'t>> {
        let mut segments = Vec::new();
        let mut done = 0;
        if let Some(finder) = finder {
            // What is asked for (unanchored, leftmost) every such machine can do.
            for found in finder
                .machine
                .try_find_iter(Input::new(text))
                .into_iter()
                .flatten()
            {
                let index = finder.tokens.get(found.pattern().as_usize());
                let Some(token) = index.and_then(|index| self.tokens.get(*index)) else {
                    continue;
                };
                let (mut start, mut end) = (found.start(), found.end());
                if token.single_word && touches_word(text, start, end) {
                    continue;
                }
                // Whitespace that an earlier token swallowed may reach into this match; it is found nevertheless, as in the
                // `tokenizers` crate.
                if token.strip_left {
                    start = text[..start].trim_end().len().max(done);
                }
                if token.strip_right {
                    end = text.len() - text[end..].trim_start().len();
                }
                if done < start {
                    segments.push(Segment::Plain(&text[done..start]));
                }
                // Nothing is left of one whose whole text was swallowed.
                if start < end {
                    segments.push(Segment::Token(token.id));
                }
                done = end;
            }
        }
        if done < text.len() {
            segments.push(Segment::Plain(&text[done..]));
        }
        segments
    }
}

impl Finders {
    fn choose(&self, control: bool) -> Option<&Finder> {
        if control { &self.every } else { &self.plain }.as_ref()
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    text[..start].chars().next_back().is_some_and(is_word)
        || text[end..].chars().next().is_some_and(is_word)
}

/// Whether `c` is what `\w` matches: letters and letter-like numbers and symbols, combining marks, digits,
/// connectors (category Pc) and the two joiners.
fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    let joins = matches!(
        c,
        '\u{200c}'
            | '\u{200d}'
            | '\u{203f}'
            | '\u{2040}'
            | '\u{2054}'
            | '\u{fe33}'
            | '\u{fe34}'
            | '\u{fe4d}'..='\u{fe4f}' | '\u{ff3f}'
    );
    let classes = classes();
    let circled = matches!(
        c,
        '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}'
    );
    joins
        || circled
        || contains(&classes.letters, c)
        || contains(&classes.marks, c)
        || contains(&classes.digits, c)
        || (c.is_alphabetic() && contains(&classes.numbers, c))
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
    fn words_are_those_of_regular_expressions() {
        let word = super::super::regex::Regex::new(r"^\w$").unwrap();
        for c in '\0'..=char::MAX {
            let mut spelled = [0; 4];
            let text = &*c.encode_utf8(&mut spelled);
            assert_eq!(is_word(c), !word.matches(text).unwrap().is_empty(), "{c:?}");
        }
    }

    #[test]
    fn flags_strip_and_bound() {
        use Segment::{Plain, Token};
        let tokens = tokens();
        assert_eq!(
            tokens.split("a <mask>   b", true),
            [Plain("a"), Token(4), Token(3), Plain(" b")]
        );
        assert_eq!(
            tokens.split("words word", true),
            [Plain("words "), Token(5)]
        );
    }
}
