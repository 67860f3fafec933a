//! Probabilities of tokens as OpenAI writes them.

use bitnet::tokenizer::Tokenizer;
use bitnet::{Piece, TokenLogprobs};
use serde_json::{Value, json};

/// The least number that stands for a probability of nothing: JSON has no −∞.
const NEVER: f64 = -9999.0;

/// An entry of `logprobs.content` for each token of a piece.
pub(super) fn entry(tokenizer: &Tokenizer, piece: &Piece) -> Option<Value> {
    let (id, logprobs) = (piece.token?, piece.logprobs.as_ref()?);
    let mut entry = token(tokenizer, id, logprobs.logprob);
    let top = logprobs.top.iter();
    let top: Vec<_> = top
        .map(|(id, logprob)| token(tokenizer, *id, *logprob))
        .collect();
    entry["top_logprobs"] = Value::Array(top);
    Some(entry)
}

fn token(tokenizer: &Tokenizer, id: u32, logprob: f64) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    json!({
        "token": text(tokenizer, id),
        "logprob": logprob.max(NEVER),
        "bytes": bytes.as_ref(),
    })
}

/// The text that a token adds; of one that adds none its name in the vocabulary.
fn text(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token_bytes(id) {
        Some(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).into_owned(),
        _ => tokenizer.token_text(id).unwrap_or_default(),
    }
}

/// The four lists of the older interface.
#[derive(Debug, Default)]
pub(super) struct Lists {
    tokens: Vec<String>,
    logprobs: Vec<f64>,
    top: Vec<Value>,
    offsets: Vec<usize>,
}

impl Lists {
    /// Adds a token that stands behind `offset` characters of the text.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, piece: &Piece, offset: usize) {
        let (Some(id), Some(TokenLogprobs { logprob, top })) = (piece.token, &piece.logprobs)
        else {
            return;
        };
        self.tokens.push(text(tokenizer, id));
        self.logprobs.push(logprob.max(NEVER));
        let top = top.iter();
        let top = top.map(|(id, logprob)| (text(tokenizer, *id), json!(logprob.max(NEVER))));
        self.top.push(Value::Object(top.collect()));
        self.offsets.push(offset);
    }

    /// All of them, which are then empty.
    pub(super) fn take(&mut self) -> Value {
        let Self {
            tokens,
            logprobs,
            top,
            offsets,
        } = std::mem::take(self);
        json!({
            "tokens": tokens,
            "token_logprobs": logprobs,
            "top_logprobs": top,
            "text_offset": offsets,
        })
    }
}
