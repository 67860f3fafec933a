//! The texts of all tokens, in bytes that another module can take.

use super::{TokenKind, Tokenizer};
use crate::{Error, Result};

/// In the length of a word: it is a mark.
const MARK: u32 = 1 << 31;

/// The words of a tokenizer's tokens, which are all that constraints need of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWords {
    /// The tokens that end a text.
    pub ends: Vec<u32>,
    /// The word of each token.
    pub words: Vec<TokenWord>,
}

/// The word of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenWord {
    /// These bytes of a text.
    Text(Vec<u8>),
    /// A mark of this name, which is no text.
    Mark(Vec<u8>),
}

impl TokenWords {
    /// The words of the first `vocabulary` tokens; empty ones past those that there are.
    pub fn of(tokenizer: &Tokenizer, vocabulary: usize) -> Self {
        let word = |id| match tokenizer.token_kind(id) {
            Some(TokenKind::Control) => {
                TokenWord::Mark(tokenizer.token_text(id).unwrap_or_default().into_bytes())
            }
            _ => TokenWord::Text(tokenizer.token_bytes(id).unwrap_or_default().into_owned()),
        };
        Self {
            ends: tokenizer.stops().to_vec(),
            words: (0..vocabulary as u32).map(word).collect(),
        }
    }

    /// Itself as bytes: the number of ends and of words, the ends, and for each word its length, of which the highest bit says that
    /// it is a mark, and its bytes. Numbers are u32, the lowest byte first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let counts = [self.ends.len() as u32, self.words.len() as u32];
        for number in counts.iter().chain(&self.ends) {
            bytes.extend(number.to_le_bytes());
        }
        for word in &self.words {
            let (kind, word) = match word {
                TokenWord::Text(word) => (0, word),
                TokenWord::Mark(word) => (MARK, word),
            };
            bytes.extend((word.len() as u32 | kind).to_le_bytes());
            bytes.extend(word);
        }
        bytes
    }

    /// The words of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`Error::Argument`] if bytes are missing or left over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let [ends, words] = [number(&mut rest)?, number(&mut rest)?];
        // Nothing is made room for by numbers that may be wrong.
        let ends = (0..ends)
            .map(|_| number(&mut rest))
            .collect::<Result<_>>()?;
        let words = (0..words).map(|_| word(&mut rest));
        let words = words.collect::<Result<_>>()?;
        match rest {
            [] => Ok(Self { ends, words }),
            _ => Err(malformed("their end", format!("{} bytes more", rest.len()))),
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<u32> {
    let Some((number, others)) = rest.split_first_chunk() else {
        return Err(malformed(
            "a number of 4 bytes",
            format!("{} bytes", rest.len()),
        ));
    };
    *rest = others;
    Ok(u32::from_le_bytes(*number))
}

fn word(rest: &mut &[u8]) -> Result<TokenWord> {
    let head = number(rest)?;
    let len = (head & !MARK) as usize;
    let Some((word, others)) = rest.split_at_checked(len) else {
        return Err(malformed(
            format!("a word of {len} bytes"),
            format!("{} bytes", rest.len()),
        ));
    };
    *rest = others;
    Ok(match head & MARK {
        0 => TokenWord::Text(word.to_vec()),
        _ => TokenWord::Mark(word.to_vec()),
    })
}

fn malformed(expected: impl Into<String>, found: String) -> Error {
    Error::Argument {
        what: "words of tokens",
        expected: expected.into(),
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_give_the_words_again() {
        let words = TokenWords {
            ends: vec![2, 7],
            words: vec![
                TokenWord::Text(b"ab".to_vec()),
                TokenWord::Mark(b"<s>".to_vec()),
                TokenWord::Text(Vec::new()),
            ],
        };
        let bytes = words.to_bytes();
        assert_eq!(TokenWords::from_bytes(&bytes).expect("words"), words);
        for len in 0..bytes.len() {
            assert!(TokenWords::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let more = [&bytes[..], &[0]].concat();
        let error = TokenWords::from_bytes(&more).expect_err("left over");
        assert!(error.to_string().contains("1 bytes more"), "{error}");
        let many = [u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        assert!(TokenWords::from_bytes(&many).is_err());
    }
}
