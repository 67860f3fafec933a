//! Probabilities of tokens as OpenAI writes them.

use bitnet::tokenizer::Tokenizer;
use bitnet::{Piece, TokenLogprobs};
use serde_json::{Value, json};

/// An entry of `logprobs.content` for each token of a piece.
pub(super) fn entry(tokenizer: &Tokenizer, piece: &Piece) -> Option<Value> {
    let (id, logprobs) = (piece.token?, piece.logprobs.as_ref()?);
    Some(json!(logprobs.entry(tokenizer, id)))
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
        self.tokens.push(TokenLogprobs::token_text(tokenizer, id));
        self.logprobs.push(logprob.max(TokenLogprobs::NEVER));
        let top = top.iter();
        let top = top.map(|(id, logprob)| {
            let text = TokenLogprobs::token_text(tokenizer, *id);
            (text, json!(logprob.max(TokenLogprobs::NEVER)))
        });
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
