//! How well a model predicts a text.

use crate::model::{LogitsFor, Model};
use crate::sampler::log_softmax_at;
use crate::session::BATCH;
use crate::tokenizer::EncodeOptions;
use crate::{Error, Result};

/// A model's score on a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// e to the mean negative log-likelihood of a token.
    pub value: f64,
    /// Standard error of `value`.
    pub error: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

/// Cuts `text` into windows of `window` tokens (the beginning-of-text token included, where the model wants one),
/// runs each on its own, and scores every token of a window but the first. `progress` gets the tokens done, their number
/// and the perplexity so far.
///
/// # Errors
/// If the window is shorter than two tokens or longer than the context, or the text has nothing to predict.
pub fn perplexity(
    model: &Model,
    text: &str,
    window: usize,
    mut progress: impl FnMut(usize, usize, f64),
) -> Result<Perplexity> {
    if window < 2 || window > model.context() {
        return Err(Error::Argument {
            what: "window",
            expected: format!("2 to {} tokens", model.context()),
            found: window.to_string(),
        });
    }
    let tokenizer = model.tokenizer();
    let options = EncodeOptions {
        add_bos: false,
        parse_special: false,
    };
    let tokens = tokenizer.encode(text, options)?;
    model.check_tokens(&tokens)?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let step = window - usize::from(bos.is_some());
    let mut session = model.session()?;
    let (mut sum, mut squares, mut count, mut done) = (0.0, 0.0, 0usize, 0);
    for piece in tokens.chunks(step) {
        let piece: Vec<u32> = bos.into_iter().chain(piece.iter().copied()).collect();
        session.reset();
        for start in (0..piece.len()).step_by(BATCH) {
            let batch = &piece[start..(start + BATCH).min(piece.len())];
            let logits = session.forward(batch, LogitsFor::All)?;
            let rows = logits.chunks_exact(model.vocabulary());
            for (logits, &next) in rows.zip(&piece[start + 1..]) {
                let loss = -log_softmax_at(logits, next);
                sum += loss;
                squares += loss * loss;
                count += 1;
            }
        }
        done += piece.len() - usize::from(bos.is_some());
        progress(done, tokens.len(), (sum / count.max(1) as f64).exp());
    }
    if count == 0 {
        return Err(Error::Argument {
            what: "text",
            expected: "at least two tokens".into(),
            found: tokens.len().to_string(),
        });
    }
    let n = count as f64;
    let mean = sum / n;
    let variance = (squares / n - mean * mean).max(0.0);
    let value = mean.exp();
    Ok(Perplexity {
        value,
        error: value * (variance / n).sqrt(),
        tokens: count,
    })
}
