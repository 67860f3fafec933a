//! Byte-pair encoding: neighbours are merged in the order of their ranks.
//!
//! The text starts as its characters' tokens. Among all adjacent pairs that have a merge, the one of the lowest rank is joined (the
//! leftmost of equals), until there is none: the ids that the `tokenizers` crate gives.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Ids by text.
pub(super) type Vocab = HashMap<String, u32>;

/// Options of the model.
#[derive(Debug, Default)]
pub(super) struct RankOptions {
    /// A piece that is a token as a whole is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// What has no token becomes its bytes, `<0x0A>`.
    pub(super) byte_fallback: bool,
    /// What has no token (and no bytes) becomes this one.
    pub(super) unknown: Option<String>,
    /// Neighbouring unknowns become one.
    pub(super) fuse_unknown: bool,
}

/// The merges that make sense in a vocabulary.
#[derive(Debug)]
pub(super) struct Ranks {
    vocab: Vocab,
    /// Rank and id of the whole, by the ids of its halves.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// The id of the unknown token.
    unknown: Option<u32>,
    options: RankOptions,
}

/// The merges that a file lists.
#[derive(Debug)]
pub(super) struct Merges {
    /// Ids of the halves, in order of rank.
    pub(super) pairs: Vec<(u32, u32)>,
    /// How many join or make something that is no token.
    pub(super) left_out: usize,
    /// The first of those, "left right".
    pub(super) first_left_out: Option<String>,
}

/// A character or what it was merged into; removed when it is not `there`.
struct Symbol {
    id: u32,
    there: bool,
    previous: usize,
    next: usize,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// Pairs to be joined, the first first: rank, place of the left half, id of the whole.
type Queue = BinaryHeap<Reverse<(u32, usize, u32)>>;

impl Ranks {
    /// Builds the model; also returns what became of the merges. A merge whose halves or whole are no tokens is left out, with one
    /// warning for all.
    pub(super) fn new(
        file: &str,
        vocab: Vocab,
        texts: impl Iterator<Item = (String, String)>,
        options: RankOptions,
    ) -> (Self, Merges) {
        let mut pairs = Vec::new();
        let mut merges = HashMap::new();
        let mut left_out = 0usize;
        let mut first_left_out = None;
        for (mut left, right) in texts {
            let at = left.len();
            let halves = (vocab.get(&left).copied(), vocab.get(&right).copied());
            left.push_str(&right);
            match (halves, vocab.get(&left)) {
                ((Some(first), Some(second)), Some(whole)) => {
                    // Of repeated merges the last counts.
                    merges.insert((first, second), (pairs.len() as u32, *whole));
                    pairs.push((first, second));
                }
                _ => {
                    left_out += 1;
                    left.insert(at, ' ');
                    first_left_out.get_or_insert(left);
                }
            }
        }
        if let Some(first) = &first_left_out {
            tracing::warn!(
                "{file}: {left_out} merges join tokens that are not in the vocabulary and are left out, the first of them {first:?}"
            );
        }
        let unknown = options.unknown.as_ref();
        let unknown = unknown.and_then(|text| vocab.get(text).copied());
        let model = Self {
            vocab,
            merges,
            unknown,
            options,
        };
        let merges = Merges {
            pairs,
            left_out,
            first_left_out,
        };
        (model, merges)
    }

    /// The id of a token by its text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.vocab.get(text).copied()
    }

    pub(super) fn options(&self) -> &RankOptions {
        &self.options
    }

    /// Appends the ids of `piece`. The error is the first character that has no token in a vocabulary without an unknown one.
    pub(super) fn encode(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), char> {
        if self.options.ignore_merges
            && let Some(id) = self.id(piece)
        {
            ids.push(id);
            return Ok(());
        }
        self.merge(piece, ids)
    }

    /// Whether merges alone make the token `id` of its text.
    pub(super) fn reaches(&self, text: &str, id: u32) -> bool {
        let mut ids = Vec::new();
        self.merge(text, &mut ids).is_ok() && ids == [id]
    }

    /// As [`Ranks::encode`], whatever tokens there are for the whole piece.
    fn merge(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), char> {
        let mut symbols = self.symbols(piece)?;
        let mut queue = Queue::new();
        for left in 0..symbols.len() {
            self.consider(&symbols, left, &mut queue);
        }
        while let Some(Reverse((_, left, whole))) = queue.pop() {
            let right = symbols[left].next;
            // One of the halves may have become part of something else.
            if !symbols[left].there
                || right == NONE
                || self
                    .merge_at(&symbols, left)
                    .is_none_or(|(_, id)| id != whole)
            {
                continue;
            }
            let after = symbols[right].next;
            symbols[left].id = whole;
            symbols[left].next = after;
            symbols[right].there = false;
            if after != NONE {
                symbols[after].previous = left;
            }
            let before = symbols[left].previous;
            if before != NONE {
                self.consider(&symbols, before, &mut queue);
            }
            self.consider(&symbols, left, &mut queue);
        }
        let there = symbols.iter().filter(|symbol| symbol.there);
        ids.extend(there.map(|symbol| symbol.id));
        Ok(())
    }

    /// The tokens of the characters.
    fn symbols(&self, piece: &str) -> Result<Vec<Symbol>, char> {
        let mut ids = Vec::with_capacity(piece.len());
        let mut spelled = [0; 4];
        // An unknown that may yet be fused with the next; bytes that come between stand before it, as in the reference.
        let mut pending = None;
        for c in piece.chars() {
            let text = &*c.encode_utf8(&mut spelled);
            if let Some(id) = self.id(text) {
                ids.extend(pending.take());
                ids.push(id);
            } else if let Some(bytes) = self.bytes(text) {
                ids.extend(bytes);
            } else {
                let unknown = self.unknown.ok_or(c)?;
                if !self.options.fuse_unknown {
                    ids.extend(pending.take());
                }
                pending = Some(unknown);
            }
        }
        ids.extend(pending);
        let last = ids.len().saturating_sub(1);
        let symbols = ids.into_iter().enumerate().map(|(index, id)| Symbol {
            id,
            there: true,
            previous: index.wrapping_sub(1),
            next: if index == last { NONE } else { index + 1 },
        });
        Ok(symbols.collect())
    }

    /// The tokens of the bytes of `text`, if all have one and they may stand for it.
    fn bytes(&self, text: &str) -> Option<Vec<u32>> {
        if !self.options.byte_fallback {
            return None;
        }
        text.bytes()
            .map(|byte| self.id(&format!("<0x{byte:02X}>")))
            .collect()
    }

    /// Rank and whole of the pair that begins at `left`.
    fn merge_at(&self, symbols: &[Symbol], left: usize) -> Option<(u32, u32)> {
        let first = &symbols[left];
        let second = symbols.get(first.next)?;
        self.merges.get(&(first.id, second.id)).copied()
    }

    fn consider(&self, symbols: &[Symbol], left: usize, queue: &mut Queue) {
        if let Some((rank, whole)) = self.merge_at(symbols, left) {
            queue.push(Reverse((rank, left, whole)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::Model;
    use tokenizers::models::bpe::BPE;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn the_ids_are_those_of_the_tokenizers_crate(
            wholes in proptest::collection::vec(("[abc\u{e9}]{1,3}", "[abc\u{e9}]{1,3}"), 0..24),
            text in "[abcx\u{e9}\u{4e2d}]{0,24}",
            (ignore_merges, byte_fallback, fuse_unknown, unknown) in any::<(bool, bool, bool, bool)>(),
        ) {
            let mut vocab = Vocab::new();
            let mut add = |text: String| {
                let id = vocab.len() as u32;
                vocab.entry(text).or_insert(id);
            };
            for text in ["<unk>", "a", "b", "c"] {
                add(text.to_owned());
            }
            // Bytes of one of the characters that have no token.
            for byte in "\u{4e2d}".bytes() {
                add(format!("<0x{byte:02X}>"));
            }
            for (left, right) in &wholes {
                add(left.clone());
                add(right.clone());
                add(format!("{left}{right}"));
            }
            let options = RankOptions {
                ignore_merges,
                byte_fallback,
                fuse_unknown,
                unknown: unknown.then(|| "<unk>".to_owned()),
            };
            let mut builder = BPE::builder()
                .vocab_and_merges(vocab.clone().into_iter().collect::<tokenizers::models::bpe::Vocab>(), wholes.clone())
                .ignore_merges(ignore_merges)
                .byte_fallback(byte_fallback)
                .fuse_unk(fuse_unknown);
            if unknown {
                builder = builder.unk_token("<unk>".to_owned());
            }
            let reference = builder.build().unwrap().tokenize(&text).unwrap();
            let complete = reference.last().map_or(0, |token| token.offsets.1) == text.len();
            let (model, _) = Ranks::new("test", vocab, wholes.into_iter(), options);
            let mut ids = Vec::new();
            match model.encode(&text, &mut ids) {
                Ok(()) => prop_assert_eq!(ids, reference.iter().map(|token| token.id).collect::<Vec<_>>()),
                Err(_) => prop_assert!(!complete),
            }
        }
    }
}
