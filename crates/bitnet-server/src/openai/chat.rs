//! `POST /v1/chat/completions`.

use super::messages;
use super::options::{MOST_ALTERNATIVES, Options};
use super::{format, logprobs, usage};
use crate::answers::new_id;
use crate::answers::{Answers, Before, Question, Update};
use crate::body::Body;
use crate::dialect::Dialect;
use crate::error::{ApiError, ApiResult};
use crate::events::Events;
use crate::generation::News;
use crate::prompt::{self, Conversation};
use crate::state::{App, Incoming};
use crate::tools::Tools;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bitnet::chat::{ReplyPart, ToolCall};
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
        prompt::set_effort(&mut kwargs, effort);
    }
    let alternatives = alternatives(&mut body)?;
    let grammar = format::take(&mut body)?;
    let thinking_budget = body.take("thinking_budget")?;
    body.only("modalities", &[json!(["text"])])?;
    let served = app.models.get(name.as_deref()).await?;
    let options = Options::take(&mut body, &app, &served, usize::MAX)?;
    body.finish()?;

    let question = Question {
        before: Before::Conversation(Conversation {
            messages,
            tools: tools.written.clone(),
            kwargs,
        }),
        tools,
        sampling: options.sampling,
        grammar,
        logprobs: alternatives,
        thinking_budget,
    };
    let answers = question.ask(&app, &served).await?;
    let head = Head {
        id: new_id("chatcmpl-"),
        created: crate::state::now(),
        model: served.name.clone(),
        seed: answers.seed,
    };
    if options.streams {
        Ok(stream(head, answers, options.includes_usage))
    } else {
        whole(head, answers).await
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

/// The changes that an update makes to a message. Calls are numbered.
fn deltas(answers: &Answers, index: usize, parts: Vec<ReplyPart>) -> Vec<Value> {
    let calls = parts
        .iter()
        .filter(|part| matches!(part, ReplyPart::Call(_)));
    let mut indices = answers.calls(index) - calls.count()..;
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

/// Why answer `index` ended.
fn reason(answers: &Answers, index: usize, finish: &Finish) -> &'static str {
    match finish.reason {
        _ if answers.calls(index) > 0 => "tool_calls",
        reason => crate::state::finish_reason(reason),
    }
}

/// A call as clients read it.
fn written(call: &ToolCall) -> Value {
    json!({
        "id": new_id("call_"),
        "type": "function",
        "function": {
            "name": call.name,
            "arguments": Value::Object(call.arguments.clone()).to_string(),
        },
    })
}

/// The whole answer at once.
async fn whole(head: Head, mut answers: Answers) -> ApiResult<Response> {
    #[derive(Default)]
    struct Message {
        content: String,
        reasoning: String,
        calls: Vec<Value>,
        logprobs: Vec<Value>,
        reason: &'static str,
    }
    let mut messages: Vec<Message> = Vec::new();
    messages.resize_with(answers.count(), Message::default);
    let mut has_logprobs = false;
    while let Some(update) = answers.next().await {
        let Update { index, parts, news } = update?;
        let message = &mut messages[index];
        for part in parts {
            match part {
                ReplyPart::Thinking(text) => message.reasoning += &text,
                ReplyPart::Text(text) => message.content += &text,
                ReplyPart::Call(call) => message.calls.push(written(&call)),
            }
        }
        match news {
            News::Piece(piece) => {
                let entry = logprobs::entry(answers.served.model().tokenizer(), &piece);
                has_logprobs |= entry.is_some();
                message.logprobs.extend(entry);
            }
            News::End(finish) => message.reason = reason(&answers, index, &finish),
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
    let mut object = head.object("chat.completion", choices);
    object["usage"] = usage(answers.usage);
    Ok(axum::Json(object).into_response())
}

/// The answer piece by piece.
fn stream(head: Head, mut answers: Answers, includes_usage: bool) -> Response {
    Events::respond(Dialect::OpenAi, move |events| async move {
        let chunk = |index: usize, delta: Value, logprobs: Value, reason: Value| {
            let choice = json!({
                "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason,
            });
            let mut object = head.object("chat.completion.chunk", vec![choice]);
            if includes_usage {
                object["usage"] = Value::Null;
            }
            object
        };
        for index in 0..answers.count() {
            let role = json!({"role": "assistant", "content": ""});
            let first = chunk(index, role, Value::Null, Value::Null);
            events.send(&first).await?;
        }
        while let Some(update) = answers.next().await {
            let Update { index, parts, news } = update?;
            let mut deltas = deltas(&answers, index, parts);
            let entry = match &news {
                News::Piece(piece) => logprobs::entry(answers.served.model().tokenizer(), piece),
                News::End(_) => None,
            };
            if deltas.is_empty() && entry.is_some() {
                deltas.push(json!({}));
            }
            // The first change of a token brings its probability along.
            let mut logprobs = entry.map(|entry| json!({"content": [entry], "refusal": null}));
            for delta in deltas {
                let logprobs = logprobs.take().unwrap_or(Value::Null);
                let next = chunk(index, delta, logprobs, Value::Null);
                events.send(&next).await?;
            }
            if let News::End(finish) = news {
                let reason = reason(&answers, index, &finish).into();
                let last = chunk(index, json!({}), Value::Null, reason);
                events.send(&last).await?;
            }
        }
        if includes_usage {
            let mut object = head.object("chat.completion.chunk", Vec::new());
            object["usage"] = usage(answers.usage);
            events.send(&object).await?;
        }
        events.done().await
    })
}
