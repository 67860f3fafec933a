//! What a request asks, in the words that all interfaces have in common.

use super::input;
use crate::answers::{Before, Question};
use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::models::Served;
use crate::openai::format;
use crate::openai::options::{NAMES, stream_options, unused};
use crate::prompt::{self, Conversation};
use crate::sampling::Sampling;
use crate::state::App;
use crate::tools::Tools;
use bitnet::constraint::Grammar;
use serde_json::{Map, Value, json};

/// The fields of a request that do not depend on the model.
pub(super) struct Asked {
    pub(super) model: Option<String>,
    messages: Vec<Value>,
    tools: Tools,
    kwargs: Map<String, Value>,
    grammar: Option<Grammar>,
    thinking_budget: Option<usize>,
    /// The fields that an answer tells again.
    told: Map<String, Value>,
}

/// What an answer must know of its request.
pub(super) struct Settings {
    pub(super) streams: bool,
    /// The fields that it tells again.
    pub(super) told: Map<String, Value>,
}

impl Asked {
    /// Takes these fields.
    ///
    /// # Errors
    /// If one has a value that it cannot have, or asks for an answer that is kept, or follows one that was.
    pub(super) fn take(body: &mut Body) -> ApiResult<Self> {
        for name in ["previous_response_id", "conversation"] {
            if body.value(name).is_some() {
                let advice = "this server keeps no conversations: send all items as `input`";
                return Err(ApiError::unsupported(name, advice));
            }
        }
        let mut told = Map::new();
        // As the client wrote them.
        let written = [
            "instructions",
            "tools",
            "tool_choice",
            "text",
            "reasoning",
            "metadata",
        ];
        for (name, default) in written.into_iter().zip([
            Value::Null,
            json!([]),
            json!("auto"),
            json!({"format": {"type": "text"}}),
            json!({"effort": null, "summary": null}),
            json!({}),
        ]) {
            let value = body.peek(name).cloned().unwrap_or(default);
            told.insert(name.into(), value);
        }
        let model = body.take("model")?;
        let messages = input::take(body)?;
        let tools = tools(body)?;
        told.insert("parallel_tool_calls".into(), tools.parallel.into());
        let mut kwargs: Map<String, Value> = body.take("chat_template_kwargs")?.unwrap_or_default();
        reasoning(body, &mut kwargs)?;
        let grammar = text(body)?;
        body.only("include", &[json!([])])?;
        body.only("background", &[json!(false)])?;
        body.only("truncation", &[json!("disabled")])?;
        body.only("top_logprobs", &[json!(0)])?;
        unused(body)?;
        Ok(Self {
            model,
            messages,
            tools,
            kwargs,
            grammar,
            thinking_budget: body.take("thinking_budget")?,
            told,
        })
    }

    /// Takes the rest of the fields, which are all there may be.
    ///
    /// # Errors
    /// If one has a value that it cannot have, or is not known.
    pub(super) fn question(
        self,
        mut body: Body,
        app: &App,
        served: &Served,
    ) -> ApiResult<(Question, Settings)> {
        let most: Option<usize> = body.take("max_output_tokens")?;
        let streams = body.take("stream")?.unwrap_or(false);
        stream_options(&mut body, streams)?;
        let sampling = Sampling::take(&mut body, app, served, most.unwrap_or(usize::MAX), &NAMES)?;
        body.finish()?;
        let mut told = self.told;
        told.insert("max_output_tokens".into(), most.into());
        let chosen = &sampling.options.sampling;
        told.insert("temperature".into(), chosen.temperature.into());
        told.insert("top_p".into(), chosen.top_p.into());
        let question = Question {
            before: Before::Conversation(Conversation {
                messages: self.messages,
                tools: self.tools.written.clone(),
                kwargs: self.kwargs,
            }),
            tools: self.tools,
            sampling,
            grammar: self.grammar,
            logprobs: None,
            thinking_budget: self.thinking_budget,
        };
        Ok((question, Settings { streams, told }))
    }
}

/// Takes `reasoning`: how much effort the template is told of, as `reasoning_effort` of chats.
fn reasoning(body: &mut Body, kwargs: &mut Map<String, Value>) -> ApiResult<()> {
    let Some(value) = body.value("reasoning") else {
        return Ok(());
    };
    let mut reasoning = Body::of(value, "reasoning")?;
    if let Some(effort) = reasoning.take::<String>("effort")? {
        prompt::set_effort(kwargs, effort);
    }
    // Thoughts are told as they are.
    for name in ["summary", "generate_summary"] {
        reasoning.only(name, &[json!("auto")])?;
    }
    reasoning.finish()
}

/// Takes `text`: the form of the answer.
fn text(body: &mut Body) -> ApiResult<Option<Grammar>> {
    let Some(value) = body.value("text") else {
        return Ok(None);
    };
    let mut text = Body::of(value, "text")?;
    let grammar = match text.value("format") {
        None => None,
        Some(value) => format::of(Body::of(value, "text.format")?, format::schema)?,
    };
    text.only("verbosity", &[json!("medium")])?;
    text.finish()?;
    Ok(grammar)
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`, in which functions have no object of their own.
fn tools(body: &mut Body) -> ApiResult<Tools> {
    let tools: Vec<Value> = body.take("tools")?.unwrap_or_default();
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.into_iter().enumerate() {
        let place = format!("tools[{index}]");
        let mut function = Body::of(tool, &place)?;
        function_type(&mut function)?;
        let name: String = function.require("name")?;
        let mut ready = Map::from_iter([("name".to_owned(), Value::from(name))]);
        for field in ["description", "parameters", "strict"] {
            ready.extend(function.value(field).map(|value| (field.to_owned(), value)));
        }
        function.finish()?;
        written.push(json!({"type": "function", "function": ready}));
    }
    let choice = match body.value("tool_choice") {
        Some(value @ Value::Object(_)) => {
            let mut choice = Body::of(value, "tool_choice")?;
            function_type(&mut choice)?;
            let name: String = choice.require("name")?;
            choice.finish()?;
            json!({"type": "function", "function": {"name": name}})
        }
        other => other.into(),
    };
    let parallel = body.value("parallel_tool_calls");
    let request = json!({"tools": written, "tool_choice": choice, "parallel_tool_calls": parallel});
    Tools::take(&mut Body::of(request, "")?)
}

/// Takes a `type` that must be a function's.
fn function_type(body: &mut Body) -> ApiResult<()> {
    let kind: String = body.require("type")?;
    if kind == "function" {
        return Ok(());
    }
    let advice = "this server has no tools of its own: use \"function\"";
    Err(ApiError::unsupported(
        format!("{} {kind:?}", body.name("type")),
        advice,
    ))
}
