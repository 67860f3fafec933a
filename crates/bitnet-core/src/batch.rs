//! A batch: new tokens of one or several sequences, which run through a model together.
//!
//! Rows of a batch are its tokens, span after span. No result of a span depends on how its tokens are divided into
//! batches, nor on the other spans.

use crate::head::{Candidate, Top};
use crate::{Error, Result};
use std::ops::Range;

/// State of one sequence on a backend: for every layer, the keys and values of its positions.
pub trait SequenceState: Send {
    /// Positions that have run.
    fn len(&self) -> usize;
    /// Whether no position has run.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Positions that it can hold.
    fn capacity(&self) -> usize;
    /// Rolls back to the first `len` positions, if there are more; or to fewer, where a recurrent layer keeps no state of as many, or a
    /// layer with a window nothing of what the next position sees.
    /// [`len`](Self::len) then says to how many.
    fn truncate(&mut self, len: usize);
    /// Bytes that it occupies now.
    fn bytes(&self) -> usize;
    /// Bytes that it would occupy at most with `positions.end` positions, of which it shares the blocks of the first
    /// `positions.start` with forks. What is not kept by positions counts whole.
    fn bytes_for(&self, positions: Range<usize>) -> usize;
    /// Bytes that it occupies now beyond those of its first `positions`.
    fn bytes_beyond(&self, positions: usize) -> usize;
}

/// New tokens of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// These tokens.
    Tokens(&'a [u32]),
    /// The one token that the last [`OutputRequest::Top`] of this sequence found likeliest; it need not have left the
    /// device.
    LastArgmax,
}

impl Input<'_> {
    /// Number of tokens.
    pub const fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::LastArgmax => 1,
        }
    }

    /// Whether there are no tokens.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Outputs of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRequest<'a> {
    /// None: the span only extends the state of its sequence.
    Nothing,
    /// Logits of the last `rows` rows.
    Logits {
        /// At most as many as the span has.
        rows: usize,
    },
    /// The last `rows` rows as the head multiplies them: after the last layer and the norm behind it.
    Hidden {
        /// At most as many as the span has.
        rows: usize,
    },
    /// The likeliest tokens after each of the last `rows` rows. The likeliest after the last row is the sequence's
    /// [`Input::LastArgmax`] from then on.
    Top {
        /// At most as many as the span has.
        rows: usize,
        /// Number and kind of the candidates.
        top: Top<'a>,
    },
}

impl OutputRequest<'_> {
    /// Rows of the span whose outputs are computed.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Logits { rows } | Self::Hidden { rows } | Self::Top { rows, .. } => *rows,
        }
    }
}

/// Computed outputs of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// For [`OutputRequest::Nothing`].
    Nothing,
    /// `[rows, vocabulary]`.
    Logits(Vec<f32>),
    /// `[rows, hidden]`.
    Hidden(Vec<f32>),
    /// The candidates of each row.
    Top(Vec<Vec<Candidate>>),
}

impl Output {
    /// The logits; empty for other outputs.
    pub fn into_logits(self) -> Vec<f32> {
        match self {
            Self::Logits(logits) => logits,
            Self::Nothing | Self::Hidden(_) | Self::Top(_) => Vec::new(),
        }
    }

    /// The candidates of each row; empty for other outputs.
    pub fn into_top(self) -> Vec<Vec<Candidate>> {
        match self {
            Self::Top(rows) => rows,
            Self::Nothing | Self::Logits(_) | Self::Hidden(_) => Vec::new(),
        }
    }

    /// The rows; empty for other outputs.
    pub fn into_hidden(self) -> Vec<f32> {
        match self {
            Self::Hidden(rows) => rows,
            Self::Nothing | Self::Logits(_) | Self::Top(_) => Vec::new(),
        }
    }
}

/// New tokens of one sequence.
#[derive(Debug)]
pub struct Span<'a, S> {
    /// The tokens.
    pub input: Input<'a>,
    /// The sequence that they extend.
    pub state: &'a mut S,
    /// The outputs to compute.
    pub outputs: OutputRequest<'a>,
}

/// Rows of a span within its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The rows.
    pub rows: Range<usize>,
    /// The position of the first row in its sequence.
    pub first: usize,
}

impl Run {
    /// The rows whose outputs are computed: the last `count`.
    pub fn last(&self, count: usize) -> Range<usize> {
        self.rows.end.saturating_sub(count).max(self.rows.start)..self.rows.end
    }

    /// The run of the last `count` rows.
    fn narrowed(&self, count: usize) -> Self {
        let rows = self.last(count);
        Self {
            first: self.first + (rows.start - self.rows.start),
            rows,
        }
    }
}

/// Spans that run together.
#[derive(Debug)]
pub struct Batch<'a, S> {
    spans: Vec<Span<'a, S>>,
}

impl<'a, S: SequenceState> Batch<'a, S> {
    /// A batch of `spans`, at least one.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no span, a span has no token, its sequence has no room for its tokens, or more rows
    /// of outputs are requested than it has.
    pub fn new(spans: Vec<Span<'a, S>>) -> Result<Self> {
        if spans.is_empty() {
            return Err(shape("spans of a batch", "at least one", "none"));
        }
        for span in &spans {
            let (tokens, len) = (span.input.len(), span.state.len());
            if tokens == 0 {
                return Err(shape("tokens of a span", "at least one", "none"));
            }
            let (capacity, positions) = (span.state.capacity(), len.saturating_add(tokens));
            if positions > capacity {
                return Err(shape(
                    "KV cache",
                    &format!("at most {capacity} positions"),
                    &format!("{positions} positions"),
                ));
            }
            if span.outputs.rows() > tokens {
                return Err(shape(
                    "rows of outputs",
                    &format!("at most {tokens}, the tokens of their span"),
                    &span.outputs.rows().to_string(),
                ));
            }
        }
        Ok(Self { spans })
    }

    /// The spans.
    pub fn spans(&self) -> &[Span<'a, S>] {
        &self.spans
    }

    /// The spans, whose states a backend extends.
    pub fn spans_mut(&mut self) -> &mut [Span<'a, S>] {
        &mut self.spans
    }

    /// Rows of all spans.
    pub fn rows(&self) -> usize {
        self.spans.iter().map(|span| span.input.len()).sum()
    }

    /// The rows of each span, in order.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.spans.iter().scan(0, |start, span| {
            let rows = *start..*start + span.input.len();
            *start = rows.end;
            Some(Run {
                rows,
                first: span.state.len(),
            })
        })
    }

    /// The rows of each span whose outputs are requested, in order; none of a span that requests nothing.
    pub fn requested_runs(&self) -> impl Iterator<Item = Run> {
        let runs = self.runs().zip(&self.spans);
        runs.map(|(run, span)| run.narrowed(span.outputs.rows()))
    }

    /// The position of each row in its sequence.
    pub fn positions(&self) -> Vec<usize> {
        let runs = self.runs();
        runs.flat_map(|run| run.first..run.first + run.rows.len())
            .collect()
    }

    /// Refuses tokens beyond the last row of an embedding of `vocabulary` rows.
    ///
    /// # Errors
    /// [`Error::Value`] that names the first such token.
    pub fn check_tokens(&self, vocabulary: usize) -> Result<()> {
        for span in &self.spans {
            if let Input::Tokens(tokens) = span.input
                && let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary)
            {
                return Err(Error::Value {
                    what: "token".into(),
                    expected: format!("below the vocabulary's {vocabulary}"),
                    found: token.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The one span, for a backend that runs one sequence at a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] that names `backend`, if there are several spans.
    pub fn single(&mut self, backend: &str) -> Result<&mut Span<'a, S>> {
        match self.spans.as_mut_slice() {
            [span] => Ok(span),
            spans => Err(Error::Unavailable {
                what: format!("a batch of {} sequences", spans.len()),
                why: format!("{backend} runs one sequence at a time: run them one after the other"),
            }),
        }
    }
}

fn shape(what: &str, expected: &str, found: &str) -> Error {
    Error::Shape {
        what: what.into(),
        expected: expected.into(),
        found: found.into(),
    }
}
