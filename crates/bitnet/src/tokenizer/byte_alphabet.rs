//! The alphabet of byte-level vocabularies: one printable character for each of the 256 bytes.
//!
//! Bytes 33–126, 161–172 and 174–255 stand for the character with the same number; the other 68, in
//! ascending order, for U+0100, U+0101 and so on (the space becomes U+0120, the line feed U+010A).

/// The character that stands for `byte`.
pub(super) const fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        33..=126 | 161..=172 | 174..=255 => byte as u32,
        0..=32 => 0x100 + byte as u32,
        127..=160 => 0x121 + (byte as u32 - 127),
        173 => 0x143,
    };
    match char::from_u32(code) {
        Some(c) => c,
        None => char::REPLACEMENT_CHARACTER,
    }
}

/// The byte that `c` stands for, if it is one of the 256.
pub(super) const fn char_to_byte(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        33..=126 | 161..=172 | 174..=255 => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// Appends the characters of every byte of `text` to `out`.
pub(super) fn push_mapped(text: &str, out: &mut String) {
    out.extend(text.bytes().map(byte_to_char));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=255u8 {
            let c = byte_to_char(byte);
            assert!(seen.insert(c));
            assert_eq!(char_to_byte(c), Some(byte));
        }
        assert_eq!(byte_to_char(b' '), '\u{120}');
        assert_eq!(byte_to_char(b'\n'), '\u{10a}');
        assert_eq!(byte_to_char(127), '\u{121}');
        assert_eq!(byte_to_char(128), '\u{122}');
        assert_eq!(byte_to_char(173), '\u{143}');
        assert_eq!(char_to_byte(' '), None);
        assert_eq!(char_to_byte('\u{144}'), None);
    }
}
