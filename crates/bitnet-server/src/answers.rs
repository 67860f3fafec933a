//! Questions and their answers, the same for every interface: each translates its requests into a [`Question`], and the parts of
//! the [`Answers`] into its own objects.

use crate::error::ApiResult;
use crate::generation::{Form, Job, News, Texts, Usage};
use crate::models::Served;
use crate::prompt::{self, Conversation};
use crate::sampling::Sampling;
use crate::state::App;
use crate::tools::Tools;
use bitnet::Prompt;
use bitnet::chat::{ReplyOptions, ReplyParser, ReplyPart};
use bitnet::constraint::Grammar;
use std::sync::Arc;

/// A new id behind a prefix that says what it is of.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// The beginning that an answer follows.
pub(crate) enum Before {
    Conversation(Conversation),
    /// A text, which is continued.
    Text(Prompt),
}

/// A question: everything that an answer depends on.
pub(crate) struct Question {
    pub(crate) before: Before,
    pub(crate) tools: Tools,
    pub(crate) sampling: Sampling,
    /// The form of the answer.
    pub(crate) grammar: Option<Grammar>,
    /// As [`Job::logprobs`](crate::generation::Job::logprobs).
    pub(crate) logprobs: Option<usize>,
    /// The most tokens that the model thinks before it answers.
    pub(crate) thinking_budget: Option<usize>,
}

impl Question {
    /// Begins the answers.
    ///
    /// # Errors
    /// If the prompt cannot be written, the form not be followed, or the queue is full.
    pub(crate) async fn ask(self, app: &App, served: &Arc<Served>) -> ApiResult<Answers> {
        let (tokens, form, budget, reply) = match self.before {
            Before::Conversation(conversation) => {
                let prompt = prompt::of_conversation(served, conversation).await?;
                let grammar = self.tools.grammar(prompt.calls(), self.grammar)?;
                let form = grammar.map(|grammar| prompt.form(grammar));
                let budget = self.thinking_budget;
                let budget = budget.and_then(|tokens| prompt.budget(tokens));
                let reply = prompt.reply_options(self.tools.read);
                (prompt.tokens, form, budget, reply)
            }
            Before::Text(prompt) => {
                let form = self.grammar.map(Form::of_text);
                let tokens = prompt::of(served, prompt).await?;
                (tokens, form, None, ReplyOptions::default())
            }
        };
        let parser = ReplyParser::new(reply);
        let sampling = self.sampling;
        let prompt_tokens = tokens.len();
        let job = Job {
            budget,
            ..sampling.job(tokens, self.logprobs, form)?
        };
        let choice = Choice {
            parser,
            parallel: self.tools.parallel,
            calls: 0,
        };
        Ok(Answers {
            texts: Texts::submit(served, &app.metrics, vec![job]).await?,
            choices: vec![choice; sampling.count],
            served: Arc::clone(served),
            seed: sampling.seed(),
            prompt_tokens,
            usage: Usage::default(),
        })
    }
}

/// Answers as they come.
pub(crate) struct Answers {
    texts: Texts,
    choices: Vec<Choice>,
    pub(crate) served: Arc<Served>,
    /// The seed of the first of them.
    pub(crate) seed: u64,
    /// Tokens of the prompt, cached or not.
    pub(crate) prompt_tokens: usize,
    /// Tokens so far: complete when all have ended.
    pub(crate) usage: Usage,
}

/// News of one of the answers.
pub(crate) struct Update {
    /// Which one.
    pub(crate) index: usize,
    /// The parts that the news completes.
    pub(crate) parts: Vec<ReplyPart>,
    pub(crate) news: News,
}

impl Answers {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.choices.len()
    }

    /// How many calls answer `index` has so far.
    pub(crate) fn calls(&self, index: usize) -> usize {
        self.choices[index].calls
    }

    /// The next news; `None` when all have ended.
    ///
    /// # Errors
    /// The one by which an answer ended.
    pub(crate) async fn next(&mut self) -> Option<ApiResult<Update>> {
        let (index, news) = match self.texts.next().await? {
            Ok(news) => news,
            Err(error) => return Some(Err(error)),
        };
        let choice = &mut self.choices[index];
        match &news {
            News::Piece(piece) => {
                let thinks = choice.parser.is_thinking() && piece.token.is_some();
                self.usage.thinking += usize::from(thinks);
            }
            News::End(finish) => self.usage.add(finish, index == 0),
        }
        let parts = choice.parts(&news);
        Some(Ok(Update { index, parts, news }))
    }
}

/// One of the answers.
#[derive(Clone)]
struct Choice {
    parser: ReplyParser,
    /// Whether more than one call may come.
    parallel: bool,
    calls: usize,
}

impl Choice {
    /// The parts that a piece of the text completes, or its end, without calls that must not come. Counts those that may.
    fn parts(&mut self, news: &News) -> Vec<ReplyPart> {
        let mut parts = match news {
            News::Piece(piece) => self.parser.push(&piece.text),
            News::End(_) => self.parser.finish(),
        };
        parts.retain(|part| {
            let is_call = matches!(part, ReplyPart::Call(_));
            let stays = !is_call || self.parallel || self.calls == 0;
            self.calls += usize::from(is_call && stays);
            stays
        });
        parts
    }
}
