//! `POST /v1/completions`: texts continued.

use super::logprobs::Lists;
use super::options::{MOST_ALTERNATIVES, MOST_CHOICES, Options};
use super::{format, usage};
use crate::answers::new_id;
use crate::body::Body;
use crate::dialect::Dialect;
use crate::error::{ApiError, ApiResult};
use crate::events::Events;
use crate::generation::{Form, Job, News, Texts, Usage};
use crate::models::Served;
use crate::prompt;
use crate::state::{App, Incoming, finish_reason, now};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bitnet::Prompt;
use bitnet::engine::Finish;
use serde_json::{Value, json};
use std::sync::Arc;

/// Tokens of a text if nothing is said: OpenAI's number.
const TOKENS: usize = 16;
/// The most prompts of one request.
const MOST_PROMPTS: usize = 128;

/// Continues prompts.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let name: Option<String> = body.take("model")?;
    if let Some(name) = &name {
        app.models.check(name)?;
    }
    let prompts = prompts(&mut body)?;
    let alternatives = body.within("logprobs", 0..=MOST_ALTERNATIVES)?;
    let echo = body.take("echo")?.unwrap_or(false);
    let best_of = body.within("best_of", 1..=MOST_CHOICES)?;
    body.only("suffix", &[json!("")])?;
    let grammar = format::take(&mut body)?;
    if echo && alternatives.is_some() {
        let advice = "the probabilities of a prompt are not given; leave out one of the two";
        return Err(ApiError::unsupported("echo with logprobs", advice));
    }
    let served = app.models.get(name.as_deref()).await?;
    let options = Options::take(&mut body, &app, &served, TOKENS)?;
    body.finish()?;
    let mut sampling = options.sampling;
    let shown = sampling.count;
    sampling.count = best_of.unwrap_or(shown);
    if sampling.count < shown {
        let expected = format!("at least `n`, which is {shown}");
        return Err(ApiError::field("best_of", expected, sampling.count));
    }
    let chooses = sampling.count > shown;
    if chooses && options.streams {
        let expected = "as many texts as `n` where `stream` is true: the best are known at the end";
        return Err(ApiError::field("best_of", expected, sampling.count));
    }
    // The choice is by the probabilities of the tokens that were taken.
    let logprobs = alternatives.or(chooses.then_some(0));
    let form = grammar.map(Form::of_text);
    let (mut jobs, mut choices): (Vec<Job>, Vec<Choice>) = Default::default();
    for prompt in prompts {
        let tokens = prompt::of(&served, prompt.clone()).await?;
        let echoed = match (prompt, echo) {
            (_, false) => String::new(),
            (Prompt::Text(text), true) => text,
            _ => served.model().tokenizer().decode(&tokens),
        };
        choices.extend((0..sampling.count).map(|_| Choice {
            characters: echoed.chars().count(),
            echoed: echoed.clone(),
            lists: alternatives.map(|_| Lists::default()),
            logprob: 0.0,
            tokens: 0,
        }));
        jobs.push(sampling.job(tokens, logprobs, form.clone())?);
    }
    let texts = Texts::submit(&served, &app.metrics, jobs).await?;
    let reply = Reply {
        id: new_id("cmpl-"),
        created: now(),
        seed: sampling.seed(),
        choices,
        count: sampling.count,
        shown,
        usage: Usage::default(),
        served,
    };
    if options.streams {
        Ok(stream(reply, texts, options.includes_usage))
    } else {
        whole(reply, texts).await
    }
}

/// `prompt`: a text, tokens, or a list of either.
fn prompts(body: &mut Body) -> ApiResult<Vec<Prompt>> {
    let wrong = |found: &str| {
        let expected = "a text, a list of token ids, or a list of either";
        ApiError::field("prompt", expected, found)
    };
    let tokens = |list: &[Value]| {
        let ids = list
            .iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
        ids.collect::<Option<Vec<u32>>>()
    };
    let prompts = match body.value("prompt") {
        Some(Value::String(text)) => vec![Prompt::Text(text)],
        Some(Value::Array(list)) => match tokens(&list) {
            Some(ids) if !ids.is_empty() => vec![Prompt::Tokens(ids)],
            _ => {
                let each = list.into_iter().map(|prompt| match prompt {
                    Value::String(text) => Some(Prompt::Text(text)),
                    Value::Array(ids) => tokens(&ids).map(Prompt::Tokens),
                    _ => None,
                });
                let each: Option<Vec<_>> = each.collect();
                each.ok_or_else(|| wrong("something else"))?
            }
        },
        Some(_) => return Err(wrong("something else")),
        None => return Err(wrong("none")),
    };
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        let expected = format!("1 to {MOST_PROMPTS} prompts");
        return Err(ApiError::field("prompt", expected, prompts.len()));
    }
    Ok(prompts)
}

/// An answer as it comes.
struct Reply {
    id: String,
    created: u64,
    seed: u64,
    choices: Vec<Choice>,
    /// Texts of each prompt.
    count: usize,
    /// The best of them, which the answer has.
    shown: usize,
    usage: Usage,
    served: Arc<Served>,
}

struct Choice {
    /// The prompt, if it is to be part of the text.
    echoed: String,
    /// Of the text so far.
    characters: usize,
    lists: Option<Lists>,
    /// The sum over its tokens, where the best texts are chosen.
    logprob: f64,
    tokens: usize,
}

impl Choice {
    /// Takes a piece in; the probabilities of its token, if they are asked for.
    fn take(&mut self, served: &Served, piece: &bitnet::Piece) {
        if let Some(lists) = &mut self.lists {
            lists.push(served.model().tokenizer(), piece, self.characters);
        }
        self.characters += piece.text.chars().count();
        if let Some(logprobs) = &piece.logprobs {
            self.logprob += logprobs.logprob;
            self.tokens += 1;
        }
    }

    /// The mean over its tokens: longer texts are no worse for being longer.
    fn likelihood(&self) -> f64 {
        self.logprob / self.tokens.max(1) as f64
    }

    fn logprobs(&mut self) -> Value {
        self.lists.as_mut().map_or(Value::Null, Lists::take)
    }
}

impl Reply {
    /// Counts the tokens of text `index`.
    fn count(&mut self, index: usize, finish: &Finish) {
        self.usage.add(finish, index.is_multiple_of(self.count));
    }

    /// The indices of the texts that the answer has: of each prompt the likeliest, or all.
    fn shown(&self) -> Vec<usize> {
        let all: Vec<usize> = (0..self.choices.len()).collect();
        let of_prompts = all.chunks(self.count).map(|texts| {
            let mut texts = texts.to_vec();
            if self.shown < self.count {
                let likelihood = |index: &usize| self.choices[*index].likelihood();
                texts.sort_by(|a, b| likelihood(b).total_cmp(&likelihood(a)));
                texts.truncate(self.shown);
            }
            texts
        });
        of_prompts.flatten().collect()
    }

    fn object(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": concat!("bitnet-", env!("CARGO_PKG_VERSION")),
            "seed": self.seed,
            "choices": choices,
        })
    }
}

fn choice(index: usize, text: &str, logprobs: Value, reason: Value) -> Value {
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
}

async fn whole(mut reply: Reply, mut texts: Texts) -> ApiResult<Response> {
    let mut written: Vec<String> = reply.choices.iter().map(|c| c.echoed.clone()).collect();
    let mut reasons = vec![""; written.len()];
    while let Some(news) = texts.next().await {
        let (index, news) = news?;
        match news {
            News::Piece(piece) => {
                reply.choices[index].take(&reply.served, &piece);
                written[index] += &piece.text;
            }
            News::End(finish) => {
                reply.count(index, &finish);
                reasons[index] = finish_reason(finish.reason);
            }
        }
    }
    let mut choices = Vec::new();
    for (index, of) in reply.shown().into_iter().enumerate() {
        let logprobs = reply.choices[of].logprobs();
        choices.push(choice(index, &written[of], logprobs, reasons[of].into()));
    }
    let mut object = reply.object(choices);
    object["usage"] = usage(reply.usage);
    Ok(axum::Json(object).into_response())
}

fn stream(mut reply: Reply, mut texts: Texts, includes_usage: bool) -> Response {
    Events::respond(Dialect::OpenAi, move |events| async move {
        while let Some(news) = texts.next().await {
            let (index, news) = news?;
            let next = match news {
                News::Piece(piece) => {
                    let own = &mut reply.choices[index];
                    own.take(&reply.served, &piece);
                    let text = std::mem::take(&mut own.echoed) + &piece.text;
                    if text.is_empty() && own.lists.is_none() {
                        continue;
                    }
                    choice(index, &text, own.logprobs(), Value::Null)
                }
                News::End(finish) => {
                    reply.count(index, &finish);
                    let reason = finish_reason(finish.reason);
                    choice(index, "", Value::Null, reason.into())
                }
            };
            events.send(&reply.object(vec![next])).await?;
        }
        if includes_usage {
            let mut object = reply.object(Vec::new());
            object["usage"] = usage(reply.usage);
            events.send(&object).await?;
        }
        events.done().await
    })
}
