//! Cutting text into the pieces within which byte-pair merges happen.
//!
//! Vocabularies define this cut by a regular expression with a look-ahead. The scanners here decide the same
//! cut by hand: linear in the text, no backtracking limit. Every scanner
//! returns pieces that are never empty and that join to the text again.

use super::classes::{classes, contains};

/// A way to cut text into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Splitter {
    /// Llama 3: contractions in any case, words with one leading mark, up to `digits` digits together, line
    /// ends kept with what precedes them. Qwen 2 is the same with single digits; in Qwen 3.5 combining marks
    /// (category M) count as letters besides.
    Words {
        /// How many digits stay together.
        digits: usize,
        /// Whether combining marks count as letters.
        marks: bool,
    },
    /// GPT-4o: as Llama 3, but a word also ends where a capital letter follows a small one, a contraction stays
    /// with its word, and slashes are kept with the marks before them. Tekken is the same with single digits
    /// and without contractions.
    Cased {
        /// How many digits stay together.
        digits: usize,
        /// Whether contractions stay with their word.
        contractions: bool,
    },
    /// GPT-2: lower-case contractions, words, numbers and marks with one leading space.
    Gpt2,
    /// What files with `tokenizer.ggml.pre` = "default" were made for: runs of punctuation first, then as
    /// GPT-2, then numbers apart, in groups of three ASCII digits.
    Default,
}

impl Splitter {
    pub(super) const LLAMA3: Self = Self::Words {
        digits: 3,
        marks: false,
    };
    pub(super) const QWEN2: Self = Self::Words {
        digits: 1,
        marks: false,
    };
    pub(super) const QWEN35: Self = Self::Words {
        digits: 1,
        marks: true,
    };
    pub(super) const GPT4O: Self = Self::Cased {
        digits: 3,
        contractions: true,
    };
    pub(super) const TEKKEN: Self = Self::Cased {
        digits: 1,
        contractions: false,
    };

    /// The pieces of `text` in order.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        match self {
            Self::Words {
                digits,
                marks: false,
            } => scan(text, |rest| word_piece(rest, *digits, is_letter)),
            Self::Words {
                digits,
                marks: true,
            } => scan(text, |rest| word_piece(rest, *digits, is_letter_or_mark)),
            Self::Cased {
                digits,
                contractions,
            } => scan(text, |rest| cased_piece(rest, *digits, *contractions)),
            Self::Gpt2 => scan(text, gpt2_piece),
            Self::Default => scan(text, punctuation_piece)
                .into_iter()
                .flat_map(|piece| scan(piece, gpt2_piece))
                .flat_map(|piece| scan(piece, |rest| same_run(rest, is_number)))
                .flat_map(|piece| scan(piece, digit_group))
                .collect(),
        }
    }
}

/// Cuts `text` by asking `piece` for the byte length of the first piece of what is left.
fn scan(text: &str, piece: impl Fn(&str) -> usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // A scanner that did not advance would be a defect; the whole rest as one piece keeps the loop finite.
        let end = match piece(rest) {
            0 => rest.len(),
            end => end,
        };
        let (first, after) = rest.split_at(end);
        pieces.push(first);
        rest = after;
    }
    pieces
}

/// Byte length of the run of characters that satisfy `test` at the start of `text`.
fn run(text: &str, test: impl Fn(char) -> bool) -> usize {
    text.find(|c| !test(c)).unwrap_or(text.len())
}

/// Byte length of the first run that is wholly inside or wholly outside of `test`.
fn same_run(text: &str, test: impl Fn(char) -> bool) -> usize {
    let inside = text.chars().next().is_some_and(&test);
    run(text, |c| test(c) == inside)
}

/// Length of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at the start of `text`.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let mut chars = rest.chars().map(|c| match c {
        // The one character beyond ASCII that folds to a letter of the list.
        '\u{17f}' if any_case => 's',
        c if any_case => c.to_ascii_lowercase(),
        c => c,
    });
    let first_length = rest.chars().next()?.len_utf8();
    match (chars.next()?, chars.next()) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first_length),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

/// The first piece by the Llama 3 rules; see [`Splitter::Words`]. `in_word` says which characters words are made of: letters, or letters
/// and combining marks.
fn word_piece(text: &str, digits: usize, in_word: impl Fn(char) -> bool) -> usize {
    if let Some(length) = contraction(text, true) {
        return length;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after_first = first.len_utf8();
    let second = chars.next();
    // A mark may lead a word too.
    if is_word_lead(first) && second.is_some_and(&in_word) {
        return after_first + run(&text[after_first..], in_word);
    }
    if in_word(first) {
        return run(text, in_word);
    }
    let other = |c: char| is_other(c) && !in_word(c);
    after_words(text, first, second, digits, other, |c| {
        matches!(c, '\r' | '\n')
    })
}

/// The first piece by the GPT-4o rules; see [`Splitter::Cased`].
fn cased_piece(text: &str, digits: usize, contractions: bool) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after_lead = is_word_lead(first).then(|| first.len_utf8());
    let starts = || after_lead.into_iter().chain([0]);
    let word = starts()
        .find_map(|start| Some(start + small_word(&text[start..])?))
        .or_else(|| starts().find_map(|start| Some(start + capital_word(&text[start..])?)));
    if let Some(end) = word {
        let suffix = contractions.then(|| contraction(&text[end..], true));
        return end + suffix.flatten().unwrap_or(0);
    }
    after_words(text, first, chars.next(), digits, is_other, |c| {
        matches!(c, '\r' | '\n' | '/')
    })
}

/// Byte length of capital letters and then at least one small one at the start of `text`; letters without case and combining marks
/// are both.
fn small_word(text: &str) -> Option<usize> {
    let capitals = run(text, is_capital);
    let small = run(&text[capitals..], is_small);
    if small > 0 {
        return Some(capitals + small);
    }
    // The last of the capitals that can be a small one as well.
    let last = text[..capitals].char_indices().rev();
    let mut last = last.filter(|(_, c)| is_small(*c));
    last.next().map(|(at, c)| at + c.len_utf8())
}

/// Byte length of at least one capital letter, and the small ones after it, at the start of `text`.
fn capital_word(text: &str) -> Option<usize> {
    let capitals = run(text, is_capital);
    (capitals > 0).then(|| capitals + run(&text[capitals..], is_small))
}

/// The first piece where no word begins: numbers, marks with one leading space and the characters of `tail` behind them, or whitespace.
fn after_words(
    text: &str,
    first: char,
    second: Option<char>,
    digits: usize,
    other: impl Fn(char) -> bool,
    tail: impl Fn(char) -> bool,
) -> usize {
    if is_number(first) {
        return text
            .char_indices()
            .take(digits)
            .take_while(|(_, c)| is_number(*c))
            .last()
            .map_or(0, |(at, c)| at + c.len_utf8());
    }
    let mark = match (first, second) {
        (' ', Some(second)) if other(second) => Some(first.len_utf8()),
        _ if other(first) => Some(0),
        _ => None,
    };
    if let Some(start) = mark {
        let end = start + run(&text[start..], other);
        return end + run(&text[end..], tail);
    }
    let spaces = &text[..run(text, char::is_whitespace)];
    match spaces.rfind(['\r', '\n']) {
        Some(at) => at + 1,
        None => space_piece(text, spaces),
    }
}

/// The first piece by the GPT-2 rules; see [`Splitter::Gpt2`].
fn gpt2_piece(text: &str) -> usize {
    if let Some(length) = contraction(text, false) {
        return length;
    }
    let start = usize::from(text.starts_with(' '));
    match text[start..].chars().next() {
        Some(c) if is_letter(c) => start + run(&text[start..], is_letter),
        Some(c) if is_number(c) => start + run(&text[start..], is_number),
        Some(c) if is_other(c) => start + run(&text[start..], is_other),
        _ => space_piece(text, &text[..run(text, char::is_whitespace)]),
    }
}

/// The piece of a whitespace run `spaces` at the start of `text`: its last character is left to the word
/// that follows, unless it is the only one or the text ends.
fn space_piece(text: &str, spaces: &str) -> usize {
    match spaces.char_indices().last() {
        Some((last, _)) if last > 0 && spaces.len() < text.len() => last,
        _ => spaces.len(),
    }
}

/// A run of punctuation (category P and eight ASCII symbols), or of anything else.
fn punctuation_piece(text: &str) -> usize {
    same_run(text, |c| {
        matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c)
    })
}

/// Three ASCII digits, or what lies before the next three.
fn digit_group(text: &str) -> usize {
    let group = text
        .as_bytes()
        .windows(3)
        .position(|window| window.iter().all(u8::is_ascii_digit));
    match group {
        Some(0) => 3,
        Some(at) => at,
        None => text.len(),
    }
}

fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    contains(&classes().letters, c)
}

fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    contains(&classes().numbers, c)
}

fn is_punctuation(c: char) -> bool {
    contains(&classes().punctuation, c)
}

fn is_mark(c: char) -> bool {
    !c.is_ascii() && contains(&classes().marks, c)
}

fn is_letter_or_mark(c: char) -> bool {
    is_letter(c) || is_mark(c)
}

/// A letter that is not a small one, or a combining mark.
fn is_capital(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_uppercase();
    }
    is_letter_or_mark(c) && !contains(&classes().small, c)
}

/// A letter that is neither a capital nor a title-case one, or a combining mark.
fn is_small(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_lowercase();
    }
    is_letter_or_mark(c) && !contains(&classes().capitals, c)
}

/// What one may stand in front of a word: anything but line ends, letters and numbers.
fn is_word_lead(c: char) -> bool {
    !matches!(c, '\r' | '\n') && !is_letter(c) && !is_number(c)
}

/// Neither whitespace, letter nor number.
fn is_other(c: char) -> bool {
    !c.is_whitespace() && !is_letter(c) && !is_number(c)
}

#[cfg(test)]
mod tests {
    use super::super::patterns::regexes;
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    };

    const ALL: [Splitter; 7] = [
        Splitter::LLAMA3,
        Splitter::QWEN2,
        Splitter::QWEN35,
        Splitter::GPT4O,
        Splitter::TEKKEN,
        Splitter::Gpt2,
        Splitter::Default,
    ];

    fn compiled(pattern: &str) -> Split {
        Split::new(
            SplitPattern::Regex(pattern.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .unwrap()
    }

    fn by_regex(split: &Split, text: &str) -> Vec<String> {
        let mut text = PreTokenizedString::from(text);
        split.pre_tokenize(&mut text).unwrap();
        text.get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(piece, _, _)| piece.to_owned())
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    #[test]
    fn llama3_golden_cuts() {
        let golden: [(&str, &[&str]); 19] = [
            ("I'M don't we'LL", &["I", "'M", " don", "'t", " we", "'LL"]),
            ("a   b", &["a", "  ", " b"]),
            ("12345678 9", &["123", "456", "78", " ", "9"]),
            ("  \n\n  x", &["  \n\n", " ", " x"]),
            (" x\n \t y", &[" x", "\n", " \t", " y"]),
            ("foo(bar);\n\n", &["foo", "(bar", ");\n\n"]),
            ("tab\tend  ", &["tab", "\tend", "  "]),
            ("$100.50!!", &["$", "100", ".", "50", "!!"]),
            (
                "\u{e9}\u{301} a\u{301}b",
                &["\u{e9}", "\u{301}", " a", "\u{301}b"],
            ),
            ("\u{4e2d}\u{6587}123", &["\u{4e2d}\u{6587}", "123"]),
            ("'\u{17f}x", &["'\u{17f}", "x"]),
            ("a\u{a0}b", &["a", "\u{a0}b"]),
            ("x \u{3000} y", &["x", " \u{3000}", " y"]),
            ("\u{2026}''s", &["\u{2026}''", "s"]),
            ("\u{bd}\u{b2}\u{2163}9", &["\u{bd}\u{b2}\u{2163}", "9"]),
            ("don\u{2019}t", &["don", "\u{2019}t"]),
            ("  1", &[" ", " ", "1"]),
            (" \r\n ", &[" \r\n", " "]),
            ("_a __b", &["_a", " __", "b"]),
        ];
        for (text, pieces) in golden {
            assert_eq!(Splitter::LLAMA3.split(text), pieces, "{text:?}");
        }
    }

    #[test]
    fn qwen2_takes_digits_one_at_a_time() {
        assert_eq!(
            Splitter::QWEN2.split("a12 34"),
            ["a", "1", "2", " ", "3", "4"]
        );
    }

    /// Pieces that llama.cpp gives for pre "qwen35", and those that it gives for "qwen2".
    #[test]
    fn marks_join_the_words_of_qwen35() {
        let golden: [(&str, &[&str], &[&str]); 7] = [
            ("x\u{301}y", &["x\u{301}y"], &["x", "\u{301}y"]),
            (" \u{301}x", &[" \u{301}x"], &[" \u{301}", "x"]),
            (
                "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} 1",
                &["\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}", " ", "1"],
                &[
                    "\u{939}",
                    "\u{93f}\u{928}",
                    "\u{94d}\u{926}",
                    "\u{940}",
                    " ",
                    "1",
                ],
            ),
            ("$x\u{301}!", &["$x\u{301}", "!"], &["$x", "\u{301}!"]),
            ("'\u{301}s", &["'\u{301}s"], &["'\u{301}", "s"]),
            (
                " \u{200d}\u{301}",
                &[" \u{200d}", "\u{301}"],
                &[" \u{200d}\u{301}"],
            ),
            (
                "1\u{20e3}12",
                &["1", "\u{20e3}", "1", "2"],
                &["1", "\u{20e3}", "1", "2"],
            ),
        ];
        for (text, qwen35, qwen2) in golden {
            assert_eq!(Splitter::QWEN35.split(text), qwen35, "{text:?}");
            assert_eq!(Splitter::QWEN2.split(text), qwen2, "{text:?}");
        }
    }

    #[test]
    fn case_cuts_words_in_gpt4o_and_tekken() {
        let text = "HelloWorld XMLParser's 12345 a//b\n";
        assert_eq!(
            Splitter::GPT4O.split(text),
            [
                "Hello",
                "World",
                " XMLParser's",
                " ",
                "123",
                "45",
                " a",
                "//",
                "b",
                "\n"
            ]
        );
        assert_eq!(
            Splitter::TEKKEN.split(text),
            [
                "Hello",
                "World",
                " XMLParser",
                "'s",
                " ",
                "1",
                "2",
                "3",
                "4",
                "5",
                " a",
                "//",
                "b",
                "\n"
            ]
        );
    }

    #[test]
    fn default_separates_punctuation_and_groups_digits() {
        assert_eq!(
            Splitter::Default.split("Hello, w0rld 12345!? it's"),
            [
                "Hello", ",", " w", "0", "rld", " ", "123", "45", "!?", " it", "'", "s"
            ]
        );
    }

    #[test]
    fn a_megabyte_of_whitespace_is_two_pieces() {
        let text = format!("{}x", " ".repeat(1 << 20));
        for splitter in ALL {
            assert_eq!(splitter.split(&text).len(), 2);
        }
        let text = format!("{}x", "\n \r\t".repeat(1 << 18));
        assert_eq!(Splitter::LLAMA3.split(&text).len(), 2);
    }

    fn mixed_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ \t\r\n\u{a0}\u{3000}\u{85}\u{200b}]{1,4}",
            "[a-zA-Z'\u{17f}\u{212a}]{1,5}",
            "'(?i:s|t|re|ve|m|ll|d|r|l)",
            "[0-9\u{bd}\u{2163}\u{661}]{1,5}",
            "[$+<=>^~|.,;!\u{2026}\u{2019}_-]{1,3}",
            "[A-Za-z\u{1c5}\u{c9}\u{e9}\u{2b0}\u{aa}\u{5d0}\u{301}\u{903}]{1,6}('(?i:s|ll|re))?",
            "[/.\r\n]{1,4}",
            "[\u{301}\u{4e2d}\u{e9}\u{10400}\u{1f600}\u{20000}\u{345}]{1,3}",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn scanners_cut_as_the_regular_expressions_do(text in mixed_text()) {
            static COMPILED: OnceLock<Vec<Vec<Split>>> = OnceLock::new();
            let all = COMPILED.get_or_init(|| {
                ALL.iter().map(|splitter| regexes(*splitter).iter().map(|regex| compiled(regex)).collect()).collect()
            });
            for (splitter, steps) in ALL.iter().zip(all) {
                let mut pieces = vec![text.clone()];
                for step in steps {
                    pieces = pieces.iter().flat_map(|piece| by_regex(step, piece)).collect();
                }
                prop_assert_eq!(splitter.split(&text), pieces, "{:?}", splitter);
            }
        }

        #[test]
        fn pieces_join_to_the_text(text in mixed_text()) {
            for splitter in ALL {
                let pieces = splitter.split(&text);
                prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
                prop_assert_eq!(pieces.concat(), text.clone());
            }
        }
    }
}
