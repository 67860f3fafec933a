//! Merging by scores, as sentencepiece models do it.
//!
//! The text starts as its characters. Among all adjacent pairs whose joined text is a token, the one with the
//! highest score is joined (the leftmost of equals), until there is none. What is then no token becomes its
//! bytes, and a byte without a token becomes the unknown token.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::vocabulary::{TokenKind, Vocabulary, byte_of};

/// The tokens that merging may produce, and what stands in for the rest.
#[derive(Debug)]
pub(super) struct Sentencepiece {
    /// Id and score by text.
    pieces: HashMap<Box<str>, (u32, f32)>,
    /// Length in bytes of the longest piece.
    longest: usize,
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
}

/// A stretch of the text; removed when its length is 0.
struct Symbol {
    start: usize,
    length: usize,
    previous: usize,
    next: usize,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// A pair that could be joined: `left` and its neighbour, `length` bytes together.
struct Candidate {
    score: f32,
    left: usize,
    length: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then_with(|| other.left.cmp(&self.left))
            .then_with(|| other.length.cmp(&self.length))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Sentencepiece {
    /// `scores[id]` belongs to token `id`. Control, user-defined, unknown and unused tokens take no part in
    /// merging, so that no text can spell a control token.
    pub(super) fn new(vocabulary: &Vocabulary, scores: &[f32], unknown: Option<u32>) -> Self {
        let mut pieces = HashMap::new();
        let mut bytes = [None; 256];
        let mut longest = 0;
        for ((id, text, kind), score) in vocabulary.iter().zip(scores) {
            match kind {
                TokenKind::Normal => {
                    if let Ok(text) = std::str::from_utf8(text)
                        && !text.is_empty()
                    {
                        longest = longest.max(text.len());
                        // Adding zero makes of the two zeros one.
                        pieces.entry(text.into()).or_insert((id, *score + 0.0));
                    }
                }
                TokenKind::Byte => {
                    if let Some(byte) = byte_of(text) {
                        bytes[usize::from(byte)].get_or_insert(id);
                    }
                }
                _ => {}
            }
        }
        Self {
            pieces,
            longest,
            bytes,
            unknown,
        }
    }

    /// The id of a piece by its text.
    pub(super) fn piece(&self, text: &str) -> Option<(u32, f32)> {
        self.pieces.get(text).copied()
    }

    /// Appends the ids of `text`, in which U+2581 already stands for spaces. The error is a byte that has
    /// no token in a vocabulary without an unknown token.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), u8> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, c))| Symbol {
                start,
                length: c.len_utf8(),
                previous: index.wrapping_sub(1),
                next: index + 1,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut queue = BinaryHeap::new();
        for left in 0..symbols.len() {
            self.consider(text, &symbols, left, &mut queue);
        }
        while let Some(candidate) = queue.pop() {
            let left = candidate.left;
            let right = symbols[left].next;
            if symbols[left].length == 0
                || right == NONE
                || symbols[left].length + symbols[right].length != candidate.length
            {
                continue;
            }
            let after = symbols[right].next;
            symbols[left].length = candidate.length;
            symbols[left].next = after;
            symbols[right].length = 0;
            if after != NONE {
                symbols[after].previous = left;
            }
            let before = symbols[left].previous;
            if before != NONE {
                self.consider(text, &symbols, before, &mut queue);
            }
            self.consider(text, &symbols, left, &mut queue);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.length];
            if let Some((id, _)) = self.piece(piece) {
                ids.push(id);
                continue;
            }
            for byte in piece.bytes() {
                ids.push(self.bytes[usize::from(byte)].or(self.unknown).ok_or(byte)?);
            }
        }
        Ok(())
    }

    /// Puts the pair of `left` and its neighbour into the queue if joined they are a token.
    fn consider(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        queue: &mut BinaryHeap<Candidate>,
    ) {
        let first = &symbols[left];
        if first.next == NONE {
            return;
        }
        let length = first.length + symbols[first.next].length;
        if length > self.longest {
            return;
        }
        if let Some((_, score)) = self.piece(&text[first.start..first.start + length]) {
            queue.push(Candidate {
                score,
                left,
                length,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Spelling;
    use super::*;
    use proptest::prelude::*;

    fn model(pieces: &[(&str, f32)]) -> (Vocabulary, Sentencepiece) {
        let mut vocabulary = Vocabulary::new(Spelling::Sentencepiece);
        let mut scores = Vec::new();
        vocabulary.push(b"<unk>", TokenKind::Unknown);
        scores.push(0.0);
        for byte in 0..=255u8 {
            vocabulary.push(format!("<0x{byte:02X}>").as_bytes(), TokenKind::Byte);
            scores.push(0.0);
        }
        for (text, score) in pieces {
            vocabulary.push(text.as_bytes(), TokenKind::Normal);
            scores.push(*score);
        }
        let model = Sentencepiece::new(&vocabulary, &scores, Some(0));
        (vocabulary, model)
    }

    fn texts(pieces: &[(&str, f32)], text: &str) -> Vec<String> {
        let (vocabulary, model) = model(pieces);
        let mut ids = Vec::new();
        model.encode(text, &mut ids).unwrap();
        ids.into_iter()
            .map(|id| String::from_utf8_lossy(vocabulary.text(id).unwrap()).into_owned())
            .collect()
    }

    #[test]
    fn the_highest_score_merges_first() {
        let pieces = [
            ("a", -9.0),
            ("b", -9.0),
            ("c", -9.0),
            ("ab", -2.0),
            ("bc", -1.0),
            ("abc", -5.0),
        ];
        // "bc" first, then "a"+"bc".
        assert_eq!(texts(&pieces, "abc"), ["abc"]);
        assert_eq!(texts(&pieces[..5], "abc"), ["a", "bc"]);
    }

    #[test]
    fn the_leftmost_of_equal_scores_merges_first() {
        let pieces = [("a", 0.0), ("aa", -1.0)];
        assert_eq!(texts(&pieces, "aaa"), ["aa", "a"]);
        let pieces = [("a", 0.0), ("b", 0.0), ("ab", -1.0), ("ba", -1.0)];
        assert_eq!(texts(&pieces, "aba"), ["ab", "a"]);
    }

    #[test]
    fn what_is_no_token_becomes_bytes() {
        assert_eq!(texts(&[("a", 0.0)], "a\u{e9}"), ["a", "<0xC3>", "<0xA9>"]);
        // A pair may be a token although its halves are not.
        assert_eq!(texts(&[("xy", 0.0)], "xyx"), ["xy", "<0x78>"]);
    }

    /// The definition, without a queue.
    fn naive(model: &Sentencepiece, text: &str) -> Vec<u32> {
        let mut parts: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for at in 1..parts.len() {
                if let Some((_, score)) = model.piece(&format!("{}{}", parts[at - 1], parts[at]))
                    && best.is_none_or(|(other, _)| score > other)
                {
                    best = Some((score, at));
                }
            }
            let Some((_, at)) = best else { break };
            let right = parts.remove(at);
            parts[at - 1].push_str(&right);
        }
        let mut ids = Vec::new();
        for part in parts {
            match model.piece(&part) {
                Some((id, _)) => ids.push(id),
                None => ids.extend(part.bytes().map(|byte| u32::from(byte) + 1)),
            }
        }
        ids
    }

    proptest! {
        #[test]
        fn the_queue_finds_what_the_definition_finds(
            pieces in proptest::collection::vec(("[abc]{1,4}", -4i8..0), 0..20),
            text in "[abcd]{0,24}",
        ) {
            let pieces: Vec<(&str, f32)> = pieces.iter().map(|(text, score)| (text.as_str(), f32::from(*score))).collect();
            let (_, model) = model(&pieces);
            let mut ids = Vec::new();
            model.encode(&text, &mut ids).unwrap();
            prop_assert_eq!(ids, naive(&model, &text));
        }
    }
}
