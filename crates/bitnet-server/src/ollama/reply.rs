//! Answers of `/api/chat` and `/api/generate`: an object, or one for each piece.

use super::request::Opened;
use crate::answers::new_id;
use crate::answers::{Answers, Question};
use crate::dialect::Dialect;
use crate::error::ApiResult;
use crate::events::Events;
use crate::generation::News;
use crate::message;
use crate::state::{App, finish_reason};
use axum::Json;
use axum::response::{IntoResponse, Response};
use bitnet::chat::ReplyPart;
use bitnet::engine::Finish;
use chrono::Utc;
use serde_json::{Map, Value};
use std::time::Duration;

/// Where an answer's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// In a message.
    Chat,
    /// In the answer itself.
    Generate,
}

/// Text, thoughts and calls that came.
#[derive(Debug, Default)]
struct Came {
    text: String,
    thinking: String,
    calls: Vec<Value>,
}

impl Came {
    fn add(&mut self, part: ReplyPart) {
        match part {
            ReplyPart::Thinking(text) => self.thinking += &text,
            ReplyPart::Text(text) => self.text += &text,
            ReplyPart::Call(call) => {
                let id = Some(new_id("call_"));
                let mut call = message::call(id, &call.name, call.arguments.into());
                call["function"]["index"] = self.calls.len().into();
                self.calls.push(call);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thinking.is_empty() && self.calls.is_empty()
    }
}

impl Shape {
    /// An answer without its end.
    fn object(self, model: &str, came: Came) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("model".into(), model.into());
        fields.insert("created_at".into(), super::written(Utc::now()).into());
        let mut said = Map::new();
        let text = match self {
            Self::Chat => {
                said.insert("role".into(), "assistant".into());
                "content"
            }
            Self::Generate => "response",
        };
        said.insert(text.into(), came.text.into());
        if !came.thinking.is_empty() {
            said.insert("thinking".into(), came.thinking.into());
        }
        if !came.calls.is_empty() {
            said.insert("tool_calls".into(), came.calls.into());
        }
        match self {
            Self::Chat => {
                fields.insert("message".into(), said.into());
            }
            Self::Generate => fields.extend(said),
        }
        fields.insert("done".into(), false.into());
        fields
    }

    /// The answer to a request that only opens or closes the model, which `reason` says.
    pub(super) fn nothing(self, model: &str, reason: &str) -> Response {
        let mut fields = self.object(model, Came::default());
        fields.insert("done".into(), true.into());
        fields.insert("done_reason".into(), reason.into());
        Json(fields).into_response()
    }

    /// Answers a question.
    ///
    /// # Errors
    /// As [`Question::ask`].
    pub(super) async fn answer(
        self,
        app: &App,
        opened: Opened,
        question: Question,
        streams: bool,
    ) -> ApiResult<Response> {
        let reply = Reply {
            shape: self,
            answers: question.ask(app, &opened.served).await?,
            opened,
        };
        if streams {
            Ok(reply.stream())
        } else {
            reply.whole().await
        }
    }
}

/// An answer as it comes.
struct Reply {
    shape: Shape,
    answers: Answers,
    opened: Opened,
}

impl Reply {
    fn object(&self, came: Came, finish: Option<&Finish>) -> Value {
        let mut fields = self.shape.object(&self.opened.served.name, came);
        if let Some(finish) = finish {
            let nanoseconds = |time: Duration| Value::from(time.as_nanos() as u64);
            let timings = finish.timings;
            fields.extend([
                ("done".to_owned(), true.into()),
                ("done_reason".into(), finish_reason(finish.reason).into()),
                (
                    "total_duration".into(),
                    nanoseconds(self.opened.begin.elapsed()),
                ),
                ("load_duration".into(), nanoseconds(self.opened.loading)),
                ("prompt_eval_count".into(), finish.prompt_tokens.into()),
                (
                    "prompt_eval_duration".into(),
                    nanoseconds(timings.prompt_time),
                ),
                ("eval_count".into(), timings.generated_tokens.into()),
                ("eval_duration".into(), nanoseconds(timings.decode_time)),
            ]);
        }
        fields.into()
    }

    async fn whole(mut self) -> ApiResult<Response> {
        let mut came = Came::default();
        let mut end = None;
        while let Some(update) = self.answers.next().await {
            let update = update?;
            update.parts.into_iter().for_each(|part| came.add(part));
            if let News::End(finish) = update.news {
                end = Some(finish);
            }
        }
        Ok(Json(self.object(came, end.as_ref())).into_response())
    }

    fn stream(mut self) -> Response {
        Events::respond(Dialect::Ollama, move |events| async move {
            while let Some(update) = self.answers.next().await {
                let update = update?;
                let mut came = Came::default();
                update.parts.into_iter().for_each(|part| came.add(part));
                if !came.is_empty() {
                    events.send(&self.object(came, None)).await?;
                }
                if let News::End(finish) = update.news {
                    let last = self.object(Came::default(), Some(&finish));
                    events.send(&last).await?;
                }
            }
            Ok(())
        })
    }
}
