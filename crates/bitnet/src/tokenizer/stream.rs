//! Text from ids that come one by one.

use super::Tokenizer;

/// Turns ids into text as they come. What it returns is always whole characters; a character whose bytes are
/// spread over tokens comes out with its last byte. All pieces together, [`Detokenizer::finish`] included,
/// are what [`Tokenizer::decode`] gives for all ids together.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    /// Whether a space in front of the next byte is to be dropped.
    strip_space: bool,
}

impl Detokenizer {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        let strip_space = tokenizer.0.strip_space;
        Self {
            tokenizer,
            pending: Vec::new(),
            strip_space,
        }
    }

    /// The same for ids that continue a text: the space in front of the first word, which sentencepiece
    /// vocabularies put before every text, is then kept.
    #[must_use]
    pub fn continuing(mut self) -> Self {
        self.strip_space = false;
        self
    }

    /// The text that `id` completes, often one word, sometimes nothing. Ids outside the vocabulary give
    /// nothing.
    pub fn push(&mut self, id: u32) -> String {
        let Some(bytes) = self.tokenizer.0.vocabulary.bytes(id) else {
            return String::new();
        };
        let mut bytes = &*bytes;
        if self.strip_space && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.strip_space = false;
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut start = 0;
        loop {
            match std::str::from_utf8(&self.pending[start..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    start = self.pending.len();
                    break;
                }
                Err(error) => {
                    let end = start + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[start..end]));
                    start = end;
                    let Some(length) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    start += length;
                }
            }
        }
        self.pending.drain(..start);
        text
    }

    /// What is left when no more ids come: U+FFFD if the last character is not complete, or nothing.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}
