//! Tables of replacements from sentencepiece (`precompiled_charsmap`), checked before they are used.
//!
//! The bytes are the length of a trie, the trie (a double array of 32-bit units, as Darts writes it), and the replacements, each ending in
//! a zero byte. Unit u at position p: bits 0 to 7 and 31 are its label, bit 8 says that a leaf follows, bits 10 to 30, times 256 if bit 9 is
//! set, are XORed to p to find its children; a child with label c stands at that position XOR c. A leaf's lower 31 bits are the place of
//! its replacement. The `tokenizers` crate follows all of them without looking, so every place that a text can lead to is visited here
//! first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenizers::normalizers::Precompiled;
use unicode_segmentation::UnicodeSegmentation;

use super::steps::{Budget, StepError, contained};

/// Larger tables are refused; that of XLM-RoBERTa has 300 kB.
const LARGEST: usize = 1 << 24;

/// The table.
#[derive(Debug)]
pub(super) struct Charsmap(Box<Precompiled>);

impl Charsmap {
    /// The table of a step of the type Precompiled.
    pub(super) fn new(step: &Value) -> Result<Self, StepError> {
        let text = step
            .get("precompiled_charsmap")
            .and_then(Value::as_str)
            .ok_or("precompiled_charsmap is no text")?;
        if text.len() / 4 * 3 > LARGEST {
            return Err(format!("precompiled_charsmap has more than {LARGEST} bytes").into());
        }
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| format!("precompiled_charsmap: {error}"))?;
        check(&bytes).map_err(|why| format!("precompiled_charsmap: {why}"))?;
        let table = contained(|| Precompiled::from(&bytes))?;
        let table = table.map_err(|error| error.to_string())?;
        Ok(Self(Box::new(table)))
    }

    /// Appends `text` with its replacements to `out`: grapheme clusters of up to five bytes as a whole if there is a replacement for
    /// the whole, all others by character, as sentencepiece does.
    pub(super) fn replace(
        &self,
        text: &str,
        out: &mut String,
        budget: &Budget,
    ) -> Result<(), StepError> {
        let mut spelled = [0; 4];
        for cluster in text.graphemes(true) {
            let whole = (cluster.len() < 6)
                .then(|| self.0.transform(cluster))
                .flatten();
            if let Some(whole) = whole {
                out.push_str(whole);
            } else {
                for c in cluster.chars() {
                    let one = &*c.encode_utf8(&mut spelled);
                    out.push_str(self.0.transform(one).unwrap_or(one));
                }
            }
            budget.check(out.len())?;
        }
        Ok(())
    }
}

/// Whether every place that a text can lead to lies within the table.
fn check(bytes: &[u8]) -> Result<(), String> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(format!("{} bytes, too few for a table", bytes.len()));
    };
    let size = u32::from_le_bytes(*head) as usize;
    if size > rest.len() || !size.is_multiple_of(4) || size == 0 {
        return Err(format!(
            "its first number promises a trie of {size} bytes, of which {} are there",
            rest.len()
        ));
    }
    let (trie, replacements) = rest.split_at(size);
    let replacements = std::str::from_utf8(replacements).map_err(|error| error.to_string())?;
    let (units, _) = trie.as_chunks::<4>();
    let units: Vec<usize> = units
        .iter()
        .map(|unit| u32::from_le_bytes(*unit) as usize)
        .collect();
    let outside = |place: usize| format!("its trie of {} units leads to unit {place}", units.len());
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let first = units.first().copied().unwrap_or(0);
    let mut seen = vec![false; units.len()];
    let mut waiting = vec![offset(first)];
    while let Some(node) = waiting.pop() {
        // Children of a node, and its leaf, stand in one block of 256.
        let block = node | 0xff;
        if block >= units.len() {
            return Err(outside(block));
        }
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for label in 1..=255 {
            let place = node ^ label;
            let unit = units[place];
            if unit & ((1 << 31) | 0xff) != label {
                continue;
            }
            let next = place ^ offset(unit);
            if unit & (1 << 8) != 0 {
                let leaf = units.get(next).ok_or_else(|| outside(next))?;
                let start = leaf & ((1 << 31) - 1);
                if !replacements.is_char_boundary(start) {
                    return Err(format!(
                        "it names a replacement at byte {start}, where none begins"
                    ));
                }
            }
            waiting.push(next);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A table with one replacement: that of `from` by `to`.
    pub(in super::super) fn table(from: u8, to: &str) -> Vec<u8> {
        let mut units = vec![0u32; 512];
        // The root's children lie in the block of 256 units at 256; so do those of the only child, whose leaf is unit 256.
        units[0] = 256 << 10;
        let child = 256 ^ usize::from(from);
        units[child] = u32::from(from) | 1 << 8 | ((child as u32 ^ 256) << 10);
        let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(to.as_bytes());
        bytes.push(0);
        bytes
    }

    fn charsmap(bytes: &[u8]) -> Result<Charsmap, StepError> {
        Charsmap::new(
            &json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)}),
        )
    }

    #[test]
    fn replacements_are_those_of_the_tokenizers_crate() {
        let bytes = table(b'a', "x\u{e9}");
        let map = charsmap(&bytes).unwrap();
        for text in ["banana", "", "a\u{301}a", "\u{1f600}a"] {
            let mut out = String::new();
            map.replace(text, &mut out, &Budget::of(text)).unwrap();
            let reference = Precompiled::from(&bytes).unwrap();
            assert_eq!(out, reference.normalize_string(text), "{text:?}");
        }
    }

    #[test]
    fn tables_that_lead_outside_are_refused() {
        let good = table(b'a', "x");
        for end in [0, 3, 4, 100, 4 + 4 * 511] {
            assert!(charsmap(&good[..end]).is_err(), "{end} bytes");
        }
        let unit = |place: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[4 + 4 * place..8 + 4 * place].copy_from_slice(&value.to_le_bytes());
            charsmap(&bytes)
        };
        let child = 256 ^ usize::from(b'a');
        assert!(unit(0, 512 << 10).is_err(), "a block behind the end");
        assert!(unit(0, u32::MAX).is_err());
        assert!(unit(child, u32::from(b'a') | 1 << 8 | 1 << 30).is_err());
        assert!(unit(256, 3).is_err(), "a replacement behind the end");
        assert!(unit(256, 2).is_ok(), "nothing");
        assert!(charsmap(&[255, 255, 255, 255]).is_err());
        assert!(charsmap(&[0, 0, 0, 0]).is_err());
    }
}
