//! The table of tokens: for each id its text as the file spells it, and what kind of token it is.
//!
//! All texts lie end to end in one buffer, so that a vocabulary of 128 000 entries is three allocations.

use std::borrow::Cow;

use super::byte_alphabet::char_to_byte;

/// What a token is for, in the numbering of GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// What text outside the vocabulary becomes.
    Unknown = 2,
    /// A mark that no text produces and that prints as nothing, such as the end of a turn.
    Control = 3,
    /// A piece of text that is found before anything else is split.
    UserDefined = 4,
    /// A filler that never occurs.
    Unused = 5,
    /// One byte, spelled `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number; numbers outside 1..=6 are normal tokens.
    pub(super) fn from_number(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// How the text of a normal token spells its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One character of the byte alphabet for each byte.
    ByteLevel,
    /// The text itself, with U+2581 for the space.
    Sentencepiece,
}

/// Texts and kinds by id.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    text: Vec<u8>,
    /// Where each token's text ends in `text`.
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
    spelling: Spelling,
}

impl Vocabulary {
    pub(super) fn new(spelling: Spelling) -> Self {
        Self {
            text: Vec::new(),
            ends: Vec::new(),
            kinds: Vec::new(),
            spelling,
        }
    }

    pub(super) fn push(&mut self, text: &[u8], kind: TokenKind) {
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len());
        self.kinds.push(kind);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// The text as the file spells it.
    pub(super) fn text(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { *self.ends.get(id - 1)? };
        self.text.get(start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[u8], TokenKind)> {
        self.kinds.iter().enumerate().filter_map(|(id, kind)| {
            let id = id as u32;
            Some((id, self.text(id)?, *kind))
        })
    }

    /// The bytes that the token adds to a decoded text: none for control, unknown and unused ones.
    pub(super) fn bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        let text = self.text(id)?;
        let bytes = match self.kind(id)? {
            TokenKind::Control | TokenKind::Unknown | TokenKind::Unused => Cow::Borrowed(&[][..]),
            TokenKind::Byte => match byte_of(text) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(text),
            },
            TokenKind::UserDefined => match self.spelling {
                Spelling::ByteLevel => Cow::Borrowed(text),
                Spelling::Sentencepiece => with_spaces(text),
            },
            TokenKind::Normal => match self.spelling {
                Spelling::ByteLevel => match std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.chars().map(char_to_byte).collect::<Option<Vec<u8>>>())
                {
                    Some(bytes) => Cow::Owned(bytes),
                    None => Cow::Borrowed(text),
                },
                Spelling::Sentencepiece => with_spaces(text),
            },
        };
        Some(bytes)
    }
}

/// The byte that `<0x0A>` names.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `text` with every U+2581 replaced by a space.
fn with_spaces(text: &[u8]) -> Cow<'_, [u8]> {
    const MARK: &[u8] = "\u{2581}".as_bytes();
    if !text.windows(MARK.len()).any(|window| window == MARK) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        if let Some(after) = rest.strip_prefix(MARK) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(first);
            rest = &rest[1..];
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_contributes_its_bytes() {
        let mut vocabulary = Vocabulary::new(Spelling::Sentencepiece);
        vocabulary.push("\u{2581}a\u{2581}".as_bytes(), TokenKind::Normal);
        vocabulary.push(b"<0x0A>", TokenKind::Byte);
        vocabulary.push(b"</s>", TokenKind::Control);
        vocabulary.push(b"", TokenKind::Unused);
        vocabulary.push(&[0xff, 0xfe], TokenKind::Normal);
        let bytes: Vec<_> = (0..6).map(|id| vocabulary.bytes(id)).collect();
        assert_eq!(bytes[0].as_deref(), Some(&b" a "[..]));
        assert_eq!(bytes[1].as_deref(), Some(&b"\n"[..]));
        assert_eq!(bytes[2].as_deref(), Some(&b""[..]));
        assert_eq!(bytes[3].as_deref(), Some(&b""[..]));
        assert_eq!(bytes[4].as_deref(), Some(&[0xff, 0xfe][..]));
        assert_eq!(bytes[5], None);
        assert_eq!(vocabulary.text(2), Some(&b"</s>"[..]));
    }

    #[test]
    fn byte_names_are_strict() {
        assert_eq!(byte_of(b"<0xfF>"), Some(255));
        for wrong in [&b"<0x+1>"[..], b"<0x1>", b"<0x111>", b"0x11", b"<0xg0>"] {
            assert_eq!(byte_of(wrong), None);
        }
    }
}
