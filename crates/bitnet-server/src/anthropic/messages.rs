//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use super::request::Asked;
use crate::answers::new_id;
use crate::answers::{Answers, Before, Question};
use crate::blocks::{Block, Blocks, Step};
use crate::dialect::Dialect;
use crate::error::ApiResult;
use crate::events::Events;
use crate::generation::{News, Usage};
use crate::prompt;
use crate::sampling::{Names, Sampling};
use crate::state::{App, Incoming};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bitnet::StopReason;
use bitnet::engine::Finish;
use serde_json::{Value, json};
use std::sync::Arc;

/// What fields are called here.
const NAMES: Names = Names {
    stop: "stop_sequences",
    repetition_penalty: "repetition_penalty",
};

/// Answers a conversation.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let asked = Asked::take(&mut body)?;
    let most = body.require("max_tokens")?;
    let streams = body.take("stream")?.unwrap_or(false);
    // It says who asks, on which nothing depends here.
    body.skip(&["metadata"]);
    body.only("service_tier", &[json!("auto"), json!("standard_only")])?;
    let served = app.models.get(asked.model.as_deref()).await?;
    let sampling = Sampling::take(&mut body, &app, &served, most, &NAMES)?;
    body.finish()?;
    let stops = sampling.options.stop.clone();
    let question = Question {
        before: Before::Conversation(asked.conversation),
        tools: asked.tools,
        sampling,
        grammar: asked.grammar,
        logprobs: None,
        thinking_budget: asked.thinking_budget,
    };
    let answers = question.ask(&app, &served).await?;
    let message = Message {
        id: new_id("msg_"),
        answers,
        stops,
        blocks: Blocks::default(),
        content: Vec::new(),
        call: String::new(),
    };
    if streams {
        Ok(stream(message))
    } else {
        whole(message).await
    }
}

/// Counts the tokens of a conversation.
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let asked = Asked::take(&mut body)?;
    body.finish()?;
    let served = app.models.get(asked.model.as_deref()).await?;
    let written = prompt::of_conversation(&served, asked.conversation).await?;
    Ok(Json(json!({"input_tokens": written.tokens.len()})))
}

/// An answer as it comes.
struct Message {
    id: String,
    answers: Answers,
    stops: Vec<String>,
    blocks: Blocks,
    /// The blocks that have ended.
    content: Vec<Value>,
    /// The id of the call that has begun.
    call: String,
}

impl Message {
    /// The message, with what is there of it.
    fn object(&self, content: &[Value], usage: Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.answers.served.name,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        })
    }

    /// The event of a step. What has ended is part of the content.
    fn event(&mut self, step: Step) -> Value {
        let index = self.content.len();
        let delta =
            |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        match step {
            Step::Begin(block) => {
                if matches!(block, Block::Call(_)) {
                    self.call = new_id("toolu_");
                }
                let mut begun = self.block(block);
                if begun["type"] == "tool_use" {
                    // The arguments follow.
                    begun["input"] = json!({});
                }
                json!({"type": "content_block_start", "index": index, "content_block": begun})
            }
            Step::Thinking(text) => delta(json!({"type": "thinking_delta", "thinking": text})),
            Step::Text(text) => delta(json!({"type": "text_delta", "text": text})),
            Step::Arguments(json) => {
                delta(json!({"type": "input_json_delta", "partial_json": json}))
            }
            Step::End(block) => {
                let ended = self.block(block);
                self.content.push(ended);
                json!({"type": "content_block_stop", "index": index})
            }
        }
    }

    fn block(&self, block: Block) -> Value {
        match block {
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Call(call) => json!({
                "type": "tool_use", "id": self.call, "name": call.name, "input": call.arguments,
            }),
        }
    }

    /// The next events, and how the answer ended, if it did; `None` when nothing more comes.
    async fn next(&mut self) -> Option<ApiResult<(Vec<Value>, Option<Finish>)>> {
        let update = match self.answers.next().await? {
            Ok(update) => update,
            Err(error) => return Some(Err(error)),
        };
        let parts = update.parts.into_iter();
        let mut steps: Vec<_> = parts.flat_map(|part| self.blocks.push(part)).collect();
        let finish = match update.news {
            News::Piece(_) => None,
            News::End(finish) => {
                steps.extend(self.blocks.finish());
                Some(finish)
            }
        };
        let events = steps.into_iter().map(|step| self.event(step)).collect();
        Some(Ok((events, finish)))
    }

    /// Why it ended, and by which text.
    fn stop(&self, finish: &Finish) -> (&'static str, Option<&str>) {
        match finish.reason {
            _ if self.answers.calls(0) > 0 => ("tool_use", None),
            StopReason::StopString(index) => {
                ("stop_sequence", self.stops.get(index).map(String::as_str))
            }
            StopReason::MaxTokens | StopReason::ContextFull => ("max_tokens", None),
            _ => ("end_turn", None),
        }
    }
}

/// Tokens as Anthropic counts them: those that were cached apart.
fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.generated,
        "output_tokens_details": {"thinking_tokens": usage.thinking},
    })
}

/// The whole answer at once.
async fn whole(mut message: Message) -> ApiResult<Response> {
    let mut stop = (Value::Null, Value::Null);
    while let Some(next) = message.next().await {
        if let (_, Some(finish)) = next? {
            let (reason, sequence) = message.stop(&finish);
            stop = (reason.into(), sequence.into());
        }
    }
    let mut object = message.object(&message.content, usage(message.answers.usage));
    (object["stop_reason"], object["stop_sequence"]) = stop;
    Ok(Json(object).into_response())
}

/// The answer piece by piece.
fn stream(mut message: Message) -> Response {
    Events::respond(Dialect::Anthropic, move |events| async move {
        // How much of the prompt was cached is known at the end.
        let begun = Usage {
            prompt: message.answers.prompt_tokens,
            ..Usage::default()
        };
        let start = message.object(&[], usage(begun));
        events
            .send(&json!({"type": "message_start", "message": start}))
            .await?;
        events.send(&json!({"type": "ping"})).await?;
        while let Some(next) = message.next().await {
            let (steps, finish) = next?;
            for step in steps {
                events.send(&step).await?;
            }
            if let Some(finish) = finish {
                let (reason, sequence) = message.stop(&finish);
                let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
                let usage = usage(message.answers.usage);
                let last = json!({"type": "message_delta", "delta": delta, "usage": usage});
                events.send(&last).await?;
            }
        }
        events.send(&json!({"type": "message_stop"})).await
    })
}
