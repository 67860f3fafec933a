//! Texts that belong to one request: submitted together, and their pieces in the order in which they come.

use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use crate::models::Served;
use crate::prompt;
use bitnet::chat::{Thinking, ThinkingBudget};
use bitnet::constraint::Grammar;
use bitnet::engine::{Finish, TokenStream};
use bitnet::hook::{Hooks, Penalties};
use bitnet::{GenerateOptions, LogitBias, LogitsHook, Piece, Prompt, Request, StopReason};
use futures_util::stream::{SelectAll, Stream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Texts with one prompt and one set of options.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) tokens: Vec<u32>,
    pub(crate) options: GenerateOptions,
    /// How many texts; their seeds follow each other.
    pub(crate) count: usize,
    /// As [`Request::logprobs`].
    pub(crate) logprobs: Option<usize>,
    pub(crate) bias: Option<LogitBias>,
    /// As [`Penalties::new`] takes them.
    pub(crate) presence: f32,
    pub(crate) frequency: f32,
    /// How long the model may think.
    pub(crate) budget: Option<ThinkingBudget>,
    pub(crate) form: Option<Form>,
    pub(crate) priority: i32,
}

/// The form that a text must have.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) grammar: Grammar,
    /// The thinking behind which it begins; where there is none, it begins with the text.
    pub(crate) thinking: Option<Thinking>,
}

impl Form {
    /// The form of a text that continues another.
    pub(crate) fn of_text(grammar: Grammar) -> Self {
        Self {
            grammar,
            thinking: None,
        }
    }
}

impl Job {
    /// The hooks of each of its texts.
    ///
    /// # Errors
    /// If the grammar cannot be followed, or a penalty is not finite.
    fn hooks(&self, served: &Served) -> ApiResult<Vec<Option<Box<dyn LogitsHook>>>> {
        let mut all = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let mut hooks: Vec<Box<dyn LogitsHook>> = Vec::new();
            if let Some(bias) = &self.bias {
                hooks.push(Box::new(bias.clone()));
            }
            if self.presence != 0.0 || self.frequency != 0.0 {
                let penalties = Penalties::new(self.presence, self.frequency, self.tokens.len());
                hooks.push(Box::new(penalties?));
            }
            if let Some(budget) = &self.budget {
                hooks.push(Box::new(budget.clone()));
            }
            if let Some(Form { grammar, thinking }) = &self.form {
                let grammars = served.grammars()?;
                let constraint = match thinking {
                    Some(thinking) => grammars.constraint_after(grammar, thinking),
                    None => grammars.constraint(grammar),
                };
                hooks.push(Box::new(constraint?));
            }
            all.push(Hooks::of(hooks));
        }
        Ok(all)
    }
}

/// News of one of the texts.
#[derive(Debug)]
pub(crate) enum News {
    Piece(Piece),
    End(Finish),
}

/// The texts of a request, in the order of its jobs. To drop them ends them.
pub(crate) struct Texts {
    streams: SelectAll<Text>,
}

/// Tokens of the texts of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) generated: usize,
    /// Of those that were generated, the ones that a model thought before it answered.
    pub(crate) thinking: usize,
}

impl Usage {
    /// Counts a text that ended, and its prompt if it is the first one of it.
    pub(crate) fn add(&mut self, finish: &Finish, is_first: bool) {
        if is_first {
            self.prompt += finish.prompt_tokens;
            self.cached += finish.cached_tokens;
        }
        self.generated += finish.timings.generated_tokens;
    }
}

impl Texts {
    /// Submits the texts of some jobs.
    ///
    /// # Errors
    /// As [`Engine::submit`](bitnet::Engine::submit); if the grammar cannot be followed.
    pub(crate) async fn submit(
        served: &Arc<Served>,
        metrics: &Arc<Metrics>,
        jobs: Vec<Job>,
    ) -> ApiResult<Self> {
        let make = move |served: &Served, _| {
            let jobs = jobs.into_iter();
            jobs.map(|job| Ok((job.hooks(served)?, job))).collect()
        };
        // A grammar takes a while.
        let made: Vec<_> = prompt::blocking(served, make).await?;
        let mut streams = SelectAll::new();
        for (hooks, job) in made {
            for (number, hook) in (0..).zip(hooks) {
                let mut options = job.options.clone();
                options.sampling.seed = options.sampling.seed.wrapping_add(number);
                let request = Request {
                    logprobs: job.logprobs,
                    hook,
                    priority: job.priority,
                    ..Request::new(Prompt::Tokens(job.tokens.clone()), &options)
                };
                streams.push(Text {
                    index: streams.len(),
                    stream: served.engine.submit(request)?,
                    ended: false,
                    served: Arc::clone(served),
                    metrics: Arc::clone(metrics),
                });
            }
        }
        Ok(Self { streams })
    }

    /// The next piece or end, and which text it is of; `None` when all have ended.
    ///
    /// # Errors
    /// The one by which a text ended.
    pub(crate) async fn next(&mut self) -> Option<ApiResult<(usize, News)>> {
        futures_util::StreamExt::next(&mut self.streams).await
    }
}

/// One text.
struct Text {
    index: usize,
    stream: TokenStream,
    ended: bool,
    /// Keeps the model open.
    served: Arc<Served>,
    metrics: Arc<Metrics>,
}

impl Stream for Text {
    type Item = ApiResult<(usize, News)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let index = self.index;
        let next = ready!(Pin::new(&mut self.stream).poll_next(cx));
        Poll::Ready(Some(match next {
            Some(Ok(piece)) => Ok((index, News::Piece(piece))),
            Some(Err(error)) => {
                self.ended = true;
                self.metrics.failed(&self.served.name, "error");
                Err(error.into())
            }
            None => {
                self.ended = true;
                match self.stream.finish() {
                    Some(finish) if finish.reason == StopReason::Deadline => {
                        self.metrics.finished(&self.served.name, &finish);
                        Err(ApiError::timed_out())
                    }
                    Some(finish) => {
                        self.metrics.finished(&self.served.name, &finish);
                        Ok((index, News::End(finish)))
                    }
                    None => Err(bitnet::Error::Stopped.into()),
                }
            }
        }))
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if !self.ended {
            self.metrics.failed(&self.served.name, "aborted");
        }
    }
}
