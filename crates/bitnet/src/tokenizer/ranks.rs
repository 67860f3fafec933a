//! Byte-pair encoding: the merges that make sense in a vocabulary, as a model of the `tokenizers` crate.

use tokenizers::models::bpe::{BPE, Vocab};

use crate::{Error, Result};

/// A model and its merges as pairs of ids in order of rank.
type Ranked = (BPE, Vec<(u32, u32)>);

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

/// Builds the model. A merge whose halves or whole are no tokens is left out, with one warning for all.
pub(super) fn build(
    file: &str,
    vocab: Vocab,
    merges: impl Iterator<Item = (String, String)>,
    options: RankOptions,
) -> Result<Ranked> {
    let mut ids = Vec::new();
    let mut texts = Vec::new();
    let mut joined = String::new();
    let mut left_out = 0usize;
    for (left, right) in merges {
        joined.clear();
        joined.push_str(&left);
        joined.push_str(&right);
        match (vocab.get(&left), vocab.get(&right)) {
            (Some(first), Some(second)) if vocab.contains_key(&joined) => {
                ids.push((*first, *second));
                texts.push((left, right));
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        tracing::warn!(
            "{file}: {left_out} merges join tokens that are not in the vocabulary and are left out"
        );
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, texts)
        .ignore_merges(options.ignore_merges)
        .byte_fallback(options.byte_fallback)
        .fuse_unk(options.fuse_unknown);
    if let Some(unknown) = options.unknown {
        builder = builder.unk_token(unknown);
    }
    let model = builder
        .build()
        .map_err(|error| Error::tokenizer(file, error))?;
    Ok((model, ids))
}
