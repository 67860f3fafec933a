//! How well a model predicts a text.

use crate::model::{LogitsFor, Model};
use crate::sampler::log_softmax_at;
use crate::session::Session;
use crate::tokenizer::EncodeOptions;
use crate::{Cancel, Error, Result};

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

/// How well a model predicted a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// The natural logarithm of its probability. The same bits on every machine.
    pub logprob: f64,
    /// Whether no other token was likelier.
    pub is_likeliest: bool,
}

/// The likelihoods of `tokens` from place `first` on, each by those before it, at the start of a context. Stops by
/// [`Error::Cancelled`] when `cancel` says so.
///
/// # Errors
/// If `first` is 0 (nothing comes before it), a token is not in the vocabulary, or they do not fit the context.
pub fn likelihoods(
    model: &Model,
    tokens: &[u32],
    first: usize,
    cancel: &Cancel,
) -> Result<Vec<Likelihood>> {
    if first == 0 {
        return Err(Error::Argument {
            what: "first",
            expected: "1 or more: the first token of a context is predicted by nothing".into(),
            found: "0".into(),
        });
    }
    model.check_tokens(tokens)?;
    let mut session = model.session()?;
    likelihoods_in(&mut session, tokens, first, cancel)
}

/// Tokens that run together: the logits of all of them are in memory at once.
const BATCH: usize = 256;

/// [`likelihoods`] in an empty session.
fn likelihoods_in(
    session: &mut Session,
    tokens: &[u32],
    first: usize,
    cancel: &Cancel,
) -> Result<Vec<Likelihood>> {
    let vocabulary = session.model().vocabulary();
    let mut found = Vec::with_capacity(tokens.len().saturating_sub(first));
    // The last token predicts nothing that is known.
    for start in (0..tokens.len().saturating_sub(1)).step_by(BATCH) {
        cancel.check()?;
        let end = (start + BATCH).min(tokens.len() - 1);
        // Of tokens before the first one the logits are not needed.
        let logits = if end < first {
            session.forward(&tokens[start..end], LogitsFor::Nothing)?
        } else {
            session.forward(&tokens[start..end], LogitsFor::All)?
        };
        let rows = logits.chunks_exact(vocabulary).zip(&tokens[start + 1..]);
        for (logits, &next) in rows.skip(first.saturating_sub(start + 1)) {
            let own = logits.get(next as usize);
            found.push(Likelihood {
                logprob: log_softmax_at(logits, next),
                is_likeliest: own.is_some_and(|own| logits.iter().all(|other| other <= own)),
            });
        }
    }
    Ok(found)
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
        for likelihood in likelihoods_in(&mut session, &piece, 1, &Cancel::default())? {
            let loss = -likelihood.logprob;
            sum += loss;
            squares += loss * loss;
            count += 1;
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
