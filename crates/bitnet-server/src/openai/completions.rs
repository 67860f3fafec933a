//! `POST /v1/completions`: texts continued.

use super::logprobs::Lists;
use super::options::Sampling;
use super::{format, new_id, usage};
use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::generation::{Form, Job, News, Texts, Usage};
use crate::models::Served;
use crate::prompt;
use crate::sse::Events;
use crate::state::{App, Incoming, finish_reason, now};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bitnet::Prompt;
use serde_json::{Value, json};
use std::sync::Arc;

/// Tokens of a text if nothing is said: OpenAI's number.
const TOKENS: usize = 16;
/// The most alternatives to a token, and the most prompts.
const MOST_ALTERNATIVES: usize = 20;
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
    body.only("best_of", &[json!(1)])?;
    body.only("suffix", &[json!("")])?;
    let grammar = format::take(&mut body)?;
    if echo && alternatives.is_some() {
        let advice = "the probabilities of a prompt are not given; leave out one of the two";
        return Err(ApiError::unsupported("echo with logprobs", advice));
    }
    let served = app.models.get(name.as_deref()).await?;
    let sampling = Sampling::take(
        &mut body,
        served.model(),
        &app.defaults(TOKENS),
        app.options.time_limit,
    )?;
    body.finish()?;
    let (streams, includes_usage) = (sampling.streams, sampling.includes_usage);
    let seed = sampling.seed();
    let form = grammar.map(|grammar| Form {
        grammar,
        after: Vec::new(),
    });
    let mut jobs: Vec<Job> = Vec::new();
    let mut echoes = Vec::new();
    let mut sampling = Some(sampling);
    for prompt in prompts {
        let tokens = prompt::of(&served, prompt.clone()).await?;
        let echoed = match (&prompt, echo) {
            (_, false) => String::new(),
            (Prompt::Text(text), true) => text.clone(),
            _ => served.model().tokenizer().decode(&tokens),
        };
        // Prompts have one set of options.
        let job = match (sampling.take(), jobs.last()) {
            (Some(sampling), _) => sampling.job(tokens, alternatives, form.clone())?,
            (None, Some(first)) => Job {
                tokens,
                ..Job::clone(first)
            },
            (None, None) => continue,
        };
        echoes.extend(std::iter::repeat_n(echoed, job.count));
        jobs.push(job);
    }
    let count = jobs.first().map_or(1, |job| job.count);
    let mut sets = Vec::with_capacity(jobs.len());
    for job in jobs {
        sets.push(Texts::submit(&served, &app.metrics, job).await?);
    }
    let reply = Reply {
        id: new_id("cmpl"),
        created: now(),
        seed,
        choices: echoes
            .into_iter()
            .map(|echoed| Choice {
                characters: echoed.chars().count(),
                echoed,
                lists: alternatives.map(|_| Lists::default()),
            })
            .collect(),
        count,
        served,
    };
    if streams {
        Ok(stream(reply, sets, includes_usage))
    } else {
        whole(reply, sets).await
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
    served: Arc<Served>,
}

struct Choice {
    /// The prompt, if it is to be part of the text.
    echoed: String,
    /// Of the text so far.
    characters: usize,
    lists: Option<Lists>,
}

impl Choice {
    /// Takes a piece in; the probabilities of its token, if they are asked for.
    fn take(&mut self, served: &Served, piece: &bitnet::Piece) {
        if let Some(lists) = &mut self.lists {
            lists.push(served.model().tokenizer(), piece, self.characters);
        }
        self.characters += piece.text.chars().count();
    }

    fn logprobs(&mut self) -> Value {
        self.lists.as_mut().map_or(Value::Null, Lists::take)
    }
}

impl Reply {
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

/// The usage of all prompts.
fn total(parts: &[Usage]) -> Usage {
    parts.iter().fold(Usage::default(), |sum, part| Usage {
        prompt: sum.prompt + part.prompt,
        cached: sum.cached + part.cached,
        generated: sum.generated + part.generated,
    })
}

async fn whole(mut reply: Reply, sets: Vec<Texts>) -> ApiResult<Response> {
    let mut texts: Vec<String> = reply.choices.iter().map(|c| c.echoed.clone()).collect();
    let mut reasons = vec![""; texts.len()];
    let mut usages = Vec::new();
    for (set, mut pieces) in sets.into_iter().enumerate() {
        let mut of_prompt = Usage::default();
        while let Some(news) = pieces.next().await {
            let (index, news) = news?;
            let index = set * reply.count + index;
            match news {
                News::Piece(piece) => {
                    reply.choices[index].take(&reply.served, &piece);
                    texts[index] += &piece.text;
                }
                News::End(finish) => {
                    of_prompt.add(&finish);
                    reasons[index] = finish_reason(finish.reason);
                }
            }
        }
        usages.push(of_prompt);
    }
    let mut choices = Vec::new();
    for (index, (text, reason)) in texts.iter().zip(reasons).enumerate() {
        let logprobs = reply.choices[index].logprobs();
        choices.push(choice(index, text, logprobs, reason.into()));
    }
    let mut object = reply.object(choices);
    object["usage"] = usage(total(&usages));
    Ok(axum::Json(object).into_response())
}

fn stream(mut reply: Reply, sets: Vec<Texts>, includes_usage: bool) -> Response {
    Events::respond(move |events| async move {
        let mut usages = Vec::new();
        for (set, mut pieces) in sets.into_iter().enumerate() {
            let mut of_prompt = Usage::default();
            while let Some(news) = pieces.next().await {
                let (index, news) = news?;
                let index = set * reply.count + index;
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
                        of_prompt.add(&finish);
                        let reason = finish_reason(finish.reason);
                        choice(index, "", Value::Null, reason.into())
                    }
                };
                events.send(&reply.object(vec![next])).await?;
            }
            usages.push(of_prompt);
        }
        if includes_usage {
            let mut object = reply.object(Vec::new());
            object["usage"] = usage(total(&usages));
            events.send(&object).await?;
        }
        events.done().await
    })
}
