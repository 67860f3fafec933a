//! Texts as vectors: [`Model::embed`].
//!
//! The rows behind the last layer of a text become one, which is cut to its first numbers and normed to length 1 if asked. No
//! head is computed. Texts run together, those of a length side by side; none depends on the others.

use crate::Cancel;
use crate::model::{DynSequence, Model, Part};
use crate::{Error, Result};
use bitnet_core::{Input, OutputRequest, Pending};
use std::cmp::Reverse;

/// Tokens of texts that run together. Longer texts run in parts of as many. Rows of more leave the caches between one product and the
/// next: with 512, texts together were slower than one by one.
const BATCH: usize = 192;
/// The shortest length that is divided by.
const LEAST_LENGTH: f64 = 1e-12;

/// How the rows of a text become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
    /// The last one, which has seen the whole text.
    Last,
}

impl Pooling {
    /// The name that people and programs read: `mean`, `first` or `last`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// How to embed.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// How the rows of a text become one; if `None`, [`Model::pooling`].
    pub pooling: Option<Pooling>,
    /// Whether vectors are divided by their length, so that a dot product is the cosine.
    pub normalize: bool,
    /// How many numbers of a vector are kept, the first ones: of use for models trained so (Matryoshka). All if `None`.
    pub dimensions: Option<usize>,
    /// What the text is a query for: `Instruct: …` and `Query: ` are put before it, as models of this kind are trained. For
    /// queries only; the texts that are searched have none.
    pub instruction: Option<String>,
    /// Stops the work from outside, with [`Error::Cancelled`].
    pub cancel: Cancel,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            pooling: None,
            normalize: true,
            dimensions: None,
            instruction: None,
            cancel: Cancel::default(),
        }
    }
}

/// The vectors of some texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, in their order, `dimensions` numbers each.
    pub rows: Vec<Vec<f32>>,
    /// Tokens of each text, those that begin and end it included.
    pub tokens: Vec<usize>,
    /// How many texts were longer than the context, and were cut to it.
    pub truncated: usize,
    /// How the rows of a text became one.
    pub pooling: Pooling,
}

/// One text on its way.
struct Text<'a> {
    index: usize,
    tokens: &'a [u32],
    sequence: Box<dyn DynSequence>,
    pooled: Pooled,
}

/// The rows of a text so far.
struct Pooled {
    pooling: Pooling,
    /// Sums of rows, or a row. In f64, so that the mean of a long text is exact.
    sum: Vec<f64>,
    rows: usize,
}

impl Pooled {
    fn new(pooling: Pooling) -> Self {
        Self {
            pooling,
            sum: Vec::new(),
            rows: 0,
        }
    }

    /// The outputs to compute for a part of `tokens`, which is the last one or not.
    fn request(&self, tokens: usize, is_last: bool) -> OutputRequest<'static> {
        match self.pooling {
            Pooling::Mean => OutputRequest::Hidden { rows: tokens },
            Pooling::First if self.rows == 0 => OutputRequest::Hidden { rows: tokens },
            Pooling::Last if is_last => OutputRequest::Hidden { rows: 1 },
            Pooling::First | Pooling::Last => OutputRequest::Nothing,
        }
    }

    /// Takes the rows that were requested, each of `width` numbers.
    fn take(&mut self, rows: &[f32], width: usize) {
        for row in rows.chunks_exact(width) {
            if self.rows == 0 || self.pooling == Pooling::Last {
                self.sum = row.iter().copied().map(f64::from).collect();
            } else if self.pooling == Pooling::Mean {
                let sums = self.sum.iter_mut().zip(row);
                sums.for_each(|(sum, value)| *sum += f64::from(*value));
            }
            self.rows += 1;
        }
    }

    /// The vector.
    fn finish(self, options: &EmbedOptions) -> Vec<f32> {
        let mut values = self.sum;
        if self.pooling == Pooling::Mean {
            let count = self.rows.max(1) as f64;
            values.iter_mut().for_each(|value| *value /= count);
        }
        values.truncate(options.dimensions.unwrap_or(usize::MAX));
        let mut length = 1.0;
        if options.normalize {
            let squares: f64 = values.iter().map(|value| value * value).sum();
            length = squares.sqrt().max(LEAST_LENGTH);
        }
        values.iter().map(|value| (value / length) as f32).collect()
    }
}

impl Model {
    /// How [`embed`](Self::embed) makes one row of a text's rows unless it is told: the last one for models that
    /// [embed only](Self::embeds_only), whose files say otherwise than those who trained them; else as the file says; else the last
    /// one.
    pub fn pooling(&self) -> Pooling {
        match self.architecture().pooling {
            Some(pooling) if !self.embeds_only() => pooling,
            _ => Pooling::Last,
        }
    }

    /// The vectors of some texts.
    ///
    /// # Errors
    /// If the tokenizer refuses a text, a text has no token, an option is out of range, memory is short, or the backend has no
    /// rows to hand out (GPUs).
    pub fn embed(&self, texts: &[impl AsRef<str>], options: &EmbedOptions) -> Result<Embeddings> {
        self.embed_with(texts, options, |_, _| ())
    }

    /// As [`embed`](Self::embed); `progress` is told the tokens done, and their number.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn embed_with(
        &self,
        texts: &[impl AsRef<str>],
        options: &EmbedOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Embeddings> {
        let mut tokens = Vec::with_capacity(texts.len());
        let mut truncated = 0;
        for text in texts {
            options.cancel.check()?;
            let (ids, is_cut) = self.tokens_to_embed(text.as_ref(), options)?;
            truncated += usize::from(is_cut);
            tokens.push(ids);
        }
        let embeddings = self.embed_tokens(&tokens, options, progress)?;
        Ok(Embeddings {
            truncated,
            ..embeddings
        })
    }

    /// The vectors of some texts that are tokens already, those that begin and end a text among them. `progress` is told the
    /// tokens done, and their number.
    ///
    /// # Errors
    /// As [`embed`](Self::embed); if a text is longer than the context.
    pub fn embed_tokens(
        &self,
        texts: &[Vec<u32>],
        options: &EmbedOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Embeddings> {
        let width = self.architecture().hidden;
        if let Some(dimensions) = options.dimensions
            && !(1..=width).contains(&dimensions)
        {
            return Err(Error::Argument {
                what: "dimensions",
                expected: format!("1 to {width}"),
                found: dimensions.to_string(),
            });
        }
        let pooling = options.pooling.unwrap_or_else(|| self.pooling());
        let capacity = self.embed_capacity();
        for tokens in texts {
            self.check_tokens(tokens)?;
            crate::prompt::check_not_empty(tokens.len())?;
            if tokens.len() > capacity {
                return Err(Error::ContextFull {
                    capacity,
                    used: 0,
                    wanted: tokens.len(),
                });
            }
        }
        let all = texts.iter().map(Vec::len).sum();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        // Those of a length together, the longest first.
        order.sort_unstable_by_key(|index| Reverse(texts[*index].len()));
        let mut rows = vec![Vec::new(); texts.len()];
        let (mut next, mut done) = (0, 0);
        while next < order.len() {
            let (mut together, mut sum) = (Vec::new(), 0);
            while let Some(&index) = order.get(next) {
                let tokens = &texts[index];
                let most = self.run().max_spans().max(1);
                if !together.is_empty() && (sum + tokens.len() > BATCH || together.len() >= most) {
                    break;
                }
                together.push(Text {
                    index,
                    tokens,
                    sequence: self.start(tokens.len())?,
                    pooled: Pooled::new(pooling),
                });
                sum += tokens.len();
                next += 1;
            }
            self.embed_together(&mut together, options, |tokens| {
                done += tokens;
                progress(done, all);
            })?;
            for text in together {
                rows[text.index] = text.pooled.finish(options);
            }
        }
        Ok(Embeddings {
            rows,
            tokens: texts.iter().map(Vec::len).collect(),
            truncated: 0,
            pooling,
        })
    }

    /// The tokens of a text to embed, and whether it was cut to the context.
    fn tokens_to_embed(&self, text: &str, options: &EmbedOptions) -> Result<(Vec<u32>, bool)> {
        let tokenizer = self.tokenizer();
        let mut tokens = match &options.instruction {
            None => self.text_tokens(text, true)?,
            Some(task) => self.text_tokens(&format!("Instruct: {task}\nQuery: {text}"), true)?,
        };
        let end = tokenizer.eos().filter(|_| tokenizer.add_eos());
        let most = self
            .embed_capacity()
            .saturating_sub(usize::from(end.is_some()));
        let is_cut = tokens.len() > most;
        tokens.truncate(most);
        tokens.extend(end);
        Ok((tokens, is_cut))
    }

    /// Runs some texts, which are at most [`BATCH`] tokens together, or a longer one. `progress` is told the tokens that ran.
    fn embed_together(
        &self,
        texts: &mut [Text<'_>],
        options: &EmbedOptions,
        mut progress: impl FnMut(usize),
    ) -> Result<()> {
        let longest = texts
            .iter()
            .map(|text| text.tokens.len())
            .max()
            .unwrap_or(0);
        for first in (0..longest).step_by(BATCH) {
            if options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let parts: Vec<_> = texts
                .iter_mut()
                .map(|text| {
                    let last = text.tokens.len().min(first + BATCH);
                    let tokens = &text.tokens[first..last];
                    Part {
                        outputs: text.pooled.request(tokens.len(), last == text.tokens.len()),
                        sequence: &mut *text.sequence,
                        input: Input::Tokens(tokens),
                    }
                })
                .collect();
            let ran = parts.iter().map(|part| part.input.len()).sum();
            let outputs = self
                .run()
                .forward(parts)
                .and_then(|outputs| Pending::now(outputs).map_err(Error::from))?;
            for (text, output) in texts.iter_mut().zip(outputs) {
                text.pooled
                    .take(&output.into_hidden(), self.architecture().hidden);
            }
            progress(ran);
        }
        Ok(())
    }
}
