//! The answer: an object, or events with names.

use super::request::Settings;
use crate::answers::Answers;
use crate::answers::new_id;
use crate::blocks::{Block, Blocks, Step};
use crate::dialect::Dialect;
use crate::error::{ApiError, ApiResult};
use crate::events::{Ended, Events};
use crate::generation::{News, Usage};
use crate::state::now;
use axum::response::{IntoResponse, Response};
use bitnet::StopReason;
use serde_json::{Map, Value, json};

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// An answer as it comes.
pub(super) struct Output {
    id: String,
    created: u64,
    answers: Answers,
    told: Map<String, Value>,
    status: Status,
    blocks: Blocks,
    /// The items that have ended.
    items: Vec<Value>,
    /// The item that has begun: its id, and that of the call if it is one.
    item: (String, String),
    /// The number of the next event.
    number: u64,
}

impl Output {
    /// An answer of which nothing has come.
    pub(super) fn new(answers: Answers, settings: Settings) -> Self {
        Self {
            id: new_id("resp_"),
            created: now(),
            answers,
            told: settings.told,
            status: Status::InProgress,
            blocks: Blocks::default(),
            items: Vec::new(),
            item: Default::default(),
            number: 0,
        }
    }

    /// The whole answer at once.
    ///
    /// # Errors
    /// The one by which it ended.
    pub(super) async fn whole(mut self) -> ApiResult<Response> {
        while let Some(events) = self.next().await {
            events?;
        }
        Ok(axum::Json(self.object(None)).into_response())
    }

    /// The answer piece by piece.
    pub(super) fn stream(mut self) -> Response {
        Events::respond(Dialect::Responses, move |events| async move {
            for kind in ["response.created", "response.in_progress"] {
                let object = self.object(None);
                let event = self.event(kind, json!({"response": object}));
                events.send(&event).await?;
            }
            let failure = loop {
                match self.next().await {
                    None => break None,
                    Some(Ok(next)) => {
                        for event in next {
                            events.send(&event).await?;
                        }
                    }
                    Some(Err(error)) => {
                        self.status = Status::Failed;
                        break Some(error);
                    }
                }
            };
            let object = self.object(failure.as_ref());
            let kind = format!("response.{}", self.status.name());
            let event = self.event(&kind, json!({"response": object}));
            events.send(&event).await?;
            Ok::<(), Ended>(())
        })
    }

    /// The answer, with what is there of it.
    fn object(&self, failure: Option<&ApiError>) -> Value {
        let is_over = self.status != Status::InProgress;
        let incomplete = self.status == Status::Incomplete;
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": (self.status == Status::Completed).then(now),
            "status": self.status.name(),
            "background": false,
            "error": failure.map(|error| json!({
                "code": error.code.unwrap_or("server_error"), "message": error.message(),
            })),
            "incomplete_details": incomplete.then(|| json!({"reason": "max_output_tokens"})),
            "model": self.answers.served.name,
            "output": self.items,
            "previous_response_id": null,
            "store": false,
            "truncation": "disabled",
            "usage": is_over.then(|| usage(self.answers.usage)),
            "seed": self.answers.seed,
        });
        if let Value::Object(fields) = &mut object {
            fields.extend(self.told.clone());
        }
        object
    }

    /// An event with the next number.
    fn event(&mut self, kind: &str, mut fields: Value) -> Value {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.number.into();
        self.number += 1;
        fields
    }

    /// The next events; `None` when nothing more comes.
    async fn next(&mut self) -> Option<ApiResult<Vec<Value>>> {
        let update = match self.answers.next().await? {
            Ok(update) => update,
            Err(error) => return Some(Err(error)),
        };
        let parts = update.parts.into_iter();
        let mut steps: Vec<_> = parts.flat_map(|part| self.blocks.push(part)).collect();
        let mut events = Vec::new();
        if let News::End(finish) = update.news {
            steps.extend(self.blocks.finish());
            self.status = match finish.reason {
                StopReason::MaxTokens | StopReason::ContextFull => Status::Incomplete,
                _ => Status::Completed,
            };
        }
        for step in steps {
            self.step(step, &mut events);
        }
        Some(Ok(events))
    }

    /// Adds the events of a step. What has ended is part of the output.
    fn step(&mut self, step: Step, events: &mut Vec<Value>) {
        let index = self.items.len();
        let place = |item: &str| json!({"item_id": item, "output_index": index});
        let part = |item: &str| {
            let mut place = place(item);
            place["content_index"] = 0.into();
            place
        };
        let id = self.item.0.clone();
        let mut add = |this: &mut Self, kind: &str, mut fields: Value, more: Value| {
            if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
                fields.extend(more);
            }
            events.push(this.event(kind, fields));
        };
        match step {
            Step::Begin(block) => {
                let prefix = match block {
                    Block::Thinking(_) => "rs_",
                    Block::Text(_) => "msg_",
                    Block::Call(_) => "fc_",
                };
                self.item = (new_id(prefix), new_id("call_"));
                let id = self.item.0.clone();
                let mut item = self.item(&block, Status::InProgress);
                match block {
                    Block::Call(_) => item["arguments"] = "".into(),
                    _ => item["content"] = json!([]),
                }
                let fields = json!({"output_index": index, "item": item});
                add(self, "response.output_item.added", fields, Value::Null);
                if let Some(content) = content(&block) {
                    let more = json!({"part": content});
                    add(self, "response.content_part.added", part(&id), more);
                }
            }
            Step::Thinking(delta) => {
                let more = json!({"delta": delta});
                add(self, "response.reasoning_text.delta", part(&id), more);
            }
            Step::Text(delta) => {
                let more = json!({"delta": delta, "logprobs": []});
                add(self, "response.output_text.delta", part(&id), more);
            }
            Step::Arguments(delta) => {
                let more = json!({"delta": delta});
                let kind = "response.function_call_arguments.delta";
                add(self, kind, place(&id), more);
            }
            Step::End(block) => {
                let item = self.item(&block, self.ended());
                match &block {
                    Block::Thinking(text) => {
                        let more = json!({"text": text});
                        add(self, "response.reasoning_text.done", part(&id), more);
                    }
                    Block::Text(text) => {
                        let more = json!({"text": text, "logprobs": []});
                        add(self, "response.output_text.done", part(&id), more);
                    }
                    Block::Call(call) => {
                        let more = json!({"name": call.name, "arguments": item["arguments"]});
                        let kind = "response.function_call_arguments.done";
                        add(self, kind, place(&id), more);
                    }
                }
                if let Some(content) = content(&block) {
                    let more = json!({"part": content});
                    add(self, "response.content_part.done", part(&id), more);
                }
                let fields = json!({"output_index": index, "item": item});
                add(self, "response.output_item.done", fields, Value::Null);
                self.items.push(item);
            }
        }
    }

    /// The status of an item that ends now.
    fn ended(&self) -> Status {
        match self.status {
            Status::InProgress => Status::Completed,
            status => status,
        }
    }

    fn item(&self, block: &Block, status: Status) -> Value {
        let (id, call_id) = &self.item;
        let status = status.name();
        let content: Vec<_> = content(block).into_iter().collect();
        match block {
            Block::Thinking(_) => json!({
                "type": "reasoning", "id": id, "summary": [], "content": content, "status": status,
            }),
            Block::Text(_) => json!({
                "type": "message", "id": id, "role": "assistant", "content": content, "status": status,
            }),
            Block::Call(call) => json!({
                "type": "function_call", "id": id, "call_id": call_id, "name": call.name,
                "arguments": Value::Object(call.arguments.clone()).to_string(), "status": status,
            }),
        }
    }
}

/// The part that the text of a block is.
fn content(block: &Block) -> Option<Value> {
    match block {
        Block::Thinking(text) => Some(json!({"type": "reasoning_text", "text": text})),
        Block::Text(text) => Some(json!({
            "type": "output_text", "text": text, "annotations": [], "logprobs": [],
        })),
        Block::Call(_) => None,
    }
}

/// Tokens as this interface names them.
fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.generated,
        "output_tokens_details": {"reasoning_tokens": usage.thinking},
        "total_tokens": usage.prompt + usage.generated,
    })
}
