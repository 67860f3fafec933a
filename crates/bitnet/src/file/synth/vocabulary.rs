//! A byte-level vocabulary of any size, made by rule: it can spell every text, and its merges really join.
//!
//! First the 256 bytes in the order of the byte-level alphabet, then letter strings, each an earlier token plus one
//! letter, then special tokens with the names of Llama 3.

use crate::{Error, Result};

/// Letters by how common they are in English.
const LETTERS: &[u8; 26] = b"etaoinshrdlcumwfgypbvkjxqz";

/// The stand-in for a space in the byte-level alphabet.
const SPACE: char = '\u{120}';

/// A vocabulary as a GGUF file states it.
pub(super) struct Vocabulary {
    /// The text of every token, in the byte-level alphabet.
    pub(super) tokens: Vec<String>,
    /// Pairs of tokens, "left right", the first to be joined first.
    pub(super) merges: Vec<String>,
    /// The first special token; all after it are special too.
    pub(super) first_special: usize,
    /// Begin of text.
    pub(super) bos: u32,
    /// End of text.
    pub(super) eos: u32,
}

impl Vocabulary {
    /// A vocabulary of `size` tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] below 272 tokens, or above half a million.
    pub(super) fn new(size: usize) -> Result<Self> {
        let specials = if size >= 65_536 { 256 } else { 16 };
        let joined = size.checked_sub(256 + specials).unwrap_or(usize::MAX);
        let mut tokens: Vec<String> = byte_alphabet().into_iter().map(String::from).collect();
        let mut merges = Vec::new();
        for (left, letter) in pairs().take(joined) {
            merges.push(format!("{left} {letter}"));
            tokens.push(format!("{left}{letter}"));
        }
        if merges.len() != joined {
            return Err(Error::Argument {
                what: "vocabulary size",
                expected: "272 to 500000 tokens".to_owned(),
                found: size.to_string(),
            });
        }
        let first_special = tokens.len();
        tokens.extend((0..specials).map(special_name));
        Ok(Self {
            tokens,
            merges,
            first_special,
            bos: first_special as u32,
            eos: first_special as u32 + 1,
        })
    }
}

/// The characters that stand for bytes: 188 printable ones for themselves, then the other bytes from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let itself = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=u8::MAX).filter(|byte| !itself(byte)).count() as u32;
    (0..=u8::MAX)
        .filter(itself)
        .map(char::from)
        .chain((0..others).filter_map(|n| char::from_u32(0x100 + n)))
        .collect()
}

/// Joins in the order of their merges: every string of two, three, four characters, its beginning being an earlier
/// token or a single character. The first character may be a space.
fn pairs() -> impl Iterator<Item = (String, char)> {
    let letters = || LETTERS.iter().map(|letter| char::from(*letter));
    let one = || std::iter::once(SPACE).chain(letters());
    // Pairs by the sum of the ranks, so that common letters join first.
    let mut two: Vec<(usize, String, char)> = one()
        .enumerate()
        .flat_map(|(i, a)| {
            letters()
                .enumerate()
                .map(move |(j, b)| (i + j, a.to_string(), b))
        })
        .collect();
    two.sort_by_key(|(sum, _, _)| *sum);
    let two: Vec<(String, char)> = two.into_iter().map(|(_, a, b)| (a, b)).collect();
    let ends: Vec<String> = two.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let longer = ends.clone();
    let three = longer
        .into_iter()
        .flat_map(move |a| letters().map(move |b| (a.clone(), b)));
    let four = ends.into_iter().flat_map(move |a| {
        letters().flat_map(move |b| {
            let a = format!("{a}{b}");
            letters().map(move |c| (a.clone(), c))
        })
    });
    two.into_iter().chain(three).chain(four)
}

/// The name of special token `index`, as in Llama 3.
fn special_name(index: usize) -> String {
    match index {
        0 => "<|begin_of_text|>".to_owned(),
        1 => "<|end_of_text|>".to_owned(),
        6 => "<|start_header_id|>".to_owned(),
        7 => "<|end_header_id|>".to_owned(),
        9 => "<|eot_id|>".to_owned(),
        2..=5 => format!("<|reserved_special_token_{}|>", index - 2),
        8 => "<|reserved_special_token_4|>".to_owned(),
        _ => format!("<|reserved_special_token_{}|>", index - 5),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_unique_and_merges_make_tokens() {
        for size in [272, 512, 32_000, 128_256] {
            let vocabulary = Vocabulary::new(size).unwrap();
            assert_eq!(vocabulary.tokens.len(), size);
            let known: HashSet<&str> = vocabulary.tokens.iter().map(String::as_str).collect();
            assert_eq!(known.len(), size);
            for (index, merge) in vocabulary.merges.iter().enumerate() {
                let (left, right) = merge.split_once(' ').unwrap();
                assert!(known.contains(left) && known.contains(right), "{merge}");
                assert_eq!(vocabulary.tokens[256 + index], format!("{left}{right}"));
            }
        }
    }

    #[test]
    fn specials_of_the_real_size_have_their_real_places() {
        let vocabulary = Vocabulary::new(128_256).unwrap();
        assert_eq!((vocabulary.bos, vocabulary.eos), (128_000, 128_001));
        assert_eq!(vocabulary.tokens[128_009], "<|eot_id|>");
        assert_eq!(vocabulary.tokens[128_010], "<|reserved_special_token_5|>");
        assert_eq!(vocabulary.tokens[128_255], "<|reserved_special_token_250|>");
        assert_eq!(vocabulary.tokens[220], "\u{120}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Vocabulary::new(271).is_err());
        assert!(Vocabulary::new(10_000_000).is_err());
    }
}
