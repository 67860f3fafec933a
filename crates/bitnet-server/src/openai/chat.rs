//! `POST /v1/chat/completions`.

use super::messages::{self, Tools};
use super::options::{MOST_ALTERNATIVES, Sampling};
use super::{format, logprobs, new_id, usage};
use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::generation::{Job, News, Texts, Usage};
use crate::models::Served;
use crate::prompt::{self, Conversation};
use crate::sse::Events;
use crate::state::{App, Incoming};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bitnet::chat::{ReplyParser, ReplyPart, ToolCall};
use bitnet::engine::Finish;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Answers a conversation.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let name: Option<String> = body.take("model")?;
    if let Some(name) = &name {
        app.models.check(name)?;
    }
    let messages = messages::take(&mut body)?;
    let tools = Tools::take(&mut body)?;
    let mut kwargs: Map<String, Value> = body.take("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = body.take::<String>("reasoning_effort")? {
        kwargs.insert("enable_thinking".into(), (effort != "none").into());
        kwargs.insert("reasoning_effort".into(), effort.into());
    }
    let alternatives = alternatives(&mut body)?;
    let grammar = format::take(&mut body)?;
    let budget: Option<usize> = body.take("thinking_budget")?;
    body.only("modalities", &[json!(["text"])])?;
    let served = app.models.get(name.as_deref()).await?;
    let defaults = app.defaults(usize::MAX);
    let sampling = Sampling::take(
        &mut body,
        served.model(),
        &defaults,
        app.options.seed,
        app.options.time_limit,
    )?;
    body.finish()?;

    let conversation = Conversation {
        messages,
        tools: tools.written.clone(),
        kwargs,
    };
    let prompt = prompt::of_conversation(&served, conversation).await?;
    let parser = ReplyParser::new(prompt.reply_options(tools.read.clone()));
    let grammar = tools.grammar(prompt.calls(), grammar)?;
    let form = grammar.map(|grammar| prompt.form(grammar));
    let budget = budget.and_then(|tokens| prompt.budget(tokens));
    let job = Job {
        budget,
        ..sampling.job(prompt.tokens, alternatives, form)
    };
    let texts = Texts::submit(&served, &app.metrics, vec![job]).await?;
    let reply = Reply {
        head: Head {
            id: new_id("chatcmpl"),
            created: crate::state::now(),
            model: served.name.clone(),
            seed: sampling.seed(),
        },
        served,
        choices: (0..sampling.count())
            .map(|_| Choice::new(parser.clone(), tools.parallel))
            .collect(),
        usage: Usage::default(),
    };
    if sampling.streams {
        Ok(stream(reply, texts, sampling.includes_usage))
    } else {
        whole(reply, texts).await
    }
}

/// `logprobs` and `top_logprobs`.
fn alternatives(body: &mut Body) -> ApiResult<Option<usize>> {
    let top = body.within("top_logprobs", 0..=MOST_ALTERNATIVES)?;
    match (body.take("logprobs")?.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(top)) => Err(ApiError::field(
            "top_logprobs",
            "none where `logprobs` is false",
            top,
        )),
    }
}

/// The fields that all chunks of an answer share.
struct Head {
    id: String,
    created: u64,
    model: String,
    seed: u64,
}

impl Head {
    fn object(&self, kind: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("bitnet-", env!("CARGO_PKG_VERSION")),
            "seed": self.seed,
            "choices": choices,
        })
    }
}

/// An answer as it comes.
struct Reply {
    head: Head,
    served: Arc<Served>,
    choices: Vec<Choice>,
    usage: Usage,
}

/// One of the texts.
struct Choice {
    parser: ReplyParser,
    /// Whether more than one call may come.
    parallel: bool,
    calls: usize,
}

impl Choice {
    fn new(parser: ReplyParser, parallel: bool) -> Self {
        Self {
            parser,
            parallel,
            calls: 0,
        }
    }

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

    /// The changes that news of the text make.
    fn deltas(&mut self, news: &News) -> Vec<Value> {
        let first = self.calls;
        let parts = self.parts(news);
        let mut indices = first..;
        let deltas = parts.into_iter().map(|part| match part {
            ReplyPart::Thinking(text) => json!({"reasoning_content": text}),
            ReplyPart::Text(text) => json!({"content": text}),
            ReplyPart::Call(call) => {
                let mut written = written(&call);
                written["index"] = indices.next().into();
                json!({"tool_calls": [written]})
            }
        });
        deltas.collect()
    }

    fn reason(&self, finish: &Finish) -> &'static str {
        match finish.reason {
            _ if self.calls > 0 => "tool_calls",
            reason => crate::state::finish_reason(reason),
        }
    }
}

/// A call as clients read it.
fn written(call: &ToolCall) -> Value {
    json!({
        "id": new_id("call"),
        "type": "function",
        "function": {
            "name": call.name,
            "arguments": Value::Object(call.arguments.clone()).to_string(),
        },
    })
}

/// The whole answer at once.
async fn whole(mut reply: Reply, mut texts: Texts) -> ApiResult<Response> {
    #[derive(Default)]
    struct Message {
        content: String,
        reasoning: String,
        calls: Vec<Value>,
        logprobs: Vec<Value>,
        reason: &'static str,
    }
    let mut messages: Vec<Message> = Vec::new();
    messages.resize_with(reply.choices.len(), Message::default);
    let mut has_logprobs = false;
    while let Some(news) = texts.next().await {
        let (index, news) = news?;
        let (choice, message) = (&mut reply.choices[index], &mut messages[index]);
        for part in choice.parts(&news) {
            match part {
                ReplyPart::Thinking(text) => message.reasoning += &text,
                ReplyPart::Text(text) => message.content += &text,
                ReplyPart::Call(call) => message.calls.push(written(&call)),
            }
        }
        match news {
            News::Piece(piece) => {
                let entry = logprobs::entry(reply.served.model().tokenizer(), &piece);
                has_logprobs |= entry.is_some();
                message.logprobs.extend(entry);
            }
            News::End(finish) => {
                reply.usage.add(&finish, index == 0);
                message.reason = choice.reason(&finish);
            }
        }
    }
    let choices = messages.into_iter().enumerate().map(|(index, message)| {
        let has_calls = !message.calls.is_empty();
        let content = match message.content.trim() {
            "" if has_calls => Value::Null,
            _ => message.content.into(),
        };
        let mut written = json!({"role": "assistant", "content": content, "refusal": null});
        if !message.reasoning.is_empty() {
            written["reasoning_content"] = message.reasoning.into();
        }
        if has_calls {
            written["tool_calls"] = message.calls.into();
        }
        json!({
            "index": index,
            "message": written,
            "logprobs": has_logprobs.then(|| json!({"content": message.logprobs, "refusal": null})),
            "finish_reason": message.reason,
        })
    });
    let choices = choices.collect();
    let mut object = reply.head.object("chat.completion", choices);
    object["usage"] = usage(reply.usage);
    Ok(axum::Json(object).into_response())
}

/// The answer piece by piece.
fn stream(mut reply: Reply, mut texts: Texts, includes_usage: bool) -> Response {
    Events::respond(move |events| async move {
        let chunk = |head: &Head, index: usize, delta: Value, logprobs: Value, reason: Value| {
            let choice = json!({
                "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason,
            });
            let mut object = head.object("chat.completion.chunk", vec![choice]);
            if includes_usage {
                object["usage"] = Value::Null;
            }
            object
        };
        for index in 0..reply.choices.len() {
            let role = json!({"role": "assistant", "content": ""});
            let first = chunk(&reply.head, index, role, Value::Null, Value::Null);
            events.send(&first).await?;
        }
        while let Some(news) = texts.next().await {
            let (index, news) = news?;
            let choice = &mut reply.choices[index];
            let mut deltas = choice.deltas(&news);
            let entry = match &news {
                News::Piece(piece) => logprobs::entry(reply.served.model().tokenizer(), piece),
                News::End(_) => None,
            };
            if deltas.is_empty() && entry.is_some() {
                deltas.push(json!({}));
            }
            // The first change of a token brings its probability along.
            let mut logprobs = entry.map(|entry| json!({"content": [entry], "refusal": null}));
            for delta in deltas {
                let logprobs = logprobs.take().unwrap_or(Value::Null);
                let next = chunk(&reply.head, index, delta, logprobs, Value::Null);
                events.send(&next).await?;
            }
            if let News::End(finish) = news {
                let reason = reply.choices[index].reason(&finish).into();
                let last = chunk(&reply.head, index, json!({}), Value::Null, reason);
                reply.usage.add(&finish, index == 0);
                events.send(&last).await?;
            }
        }
        if includes_usage {
            let mut object = reply.head.object("chat.completion.chunk", Vec::new());
            object["usage"] = usage(reply.usage);
            events.send(&object).await?;
        }
        events.done().await
    })
}
