//! What a request asks, in the words that all interfaces have in common.

use super::content;
use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::prompt::Conversation;
use crate::tools::Tools;
use bitnet::constraint::Grammar;
use serde_json::{Map, Value, json};

/// The fields that messages and the counting of their tokens have in common.
pub(super) struct Asked {
    /// The model's name.
    pub(super) model: Option<String>,
    pub(super) conversation: Conversation,
    pub(super) tools: Tools,
    /// The most tokens of thinking.
    pub(super) thinking_budget: Option<usize>,
    /// The form of the answer.
    pub(super) grammar: Option<Grammar>,
}

impl Asked {
    /// Takes the fields.
    ///
    /// # Errors
    /// If one is missing, or has a value that it cannot have.
    pub(super) fn take(body: &mut Body) -> ApiResult<Self> {
        let model = body.take("model")?;
        let messages = content::take(body)?;
        let tools = tools(body)?;
        let mut kwargs = Map::new();
        let (thinks, thinking_budget) = thinking(body)?;
        kwargs.insert("enable_thinking".into(), thinks.into());
        let grammar = output_config(body, &mut kwargs)?;
        // The beginning of a prompt that was read before is always used again.
        body.skip(&["cache_control"]);
        Ok(Self {
            model,
            conversation: Conversation {
                messages,
                tools: tools.written.clone(),
                kwargs,
            },
            tools,
            thinking_budget,
            grammar,
        })
    }
}

/// Takes `thinking`: whether the model thinks, and for how many tokens at most. It does not if nothing is said.
fn thinking(body: &mut Body) -> ApiResult<(bool, Option<usize>)> {
    let Some(value) = body.value("thinking") else {
        return Ok((false, None));
    };
    let mut thinking = Body::of(value, "thinking")?;
    let kind: String = thinking.require("type")?;
    let thinks = match kind.as_str() {
        "disabled" => (false, None),
        "adaptive" => (true, None),
        "enabled" => (true, Some(thinking.require("budget_tokens")?)),
        _ => {
            let expected = "enabled, adaptive or disabled";
            let found = format!("{kind:?}");
            return Err(ApiError::field("thinking.type", expected, found));
        }
    };
    thinking.only("display", &[json!("summarized")])?;
    thinking.finish()?;
    Ok(thinks)
}

/// Takes `output_config`: how much effort the template is told of, and the form of the answer.
fn output_config(body: &mut Body, kwargs: &mut Map<String, Value>) -> ApiResult<Option<Grammar>> {
    let Some(value) = body.value("output_config") else {
        return Ok(None);
    };
    let mut config = Body::of(value, "output_config")?;
    if let Some(effort) = config.take::<String>("effort")? {
        kwargs.insert("reasoning_effort".into(), effort.into());
    }
    let grammar = match config.value("format") {
        None => None,
        Some(value) => {
            let mut format = Body::of(value, "output_config.format")?;
            let kind: String = format.require("type")?;
            if kind != "json_schema" {
                let name = "output_config.format.type";
                let found = format!("{kind:?}");
                return Err(ApiError::field(name, "json_schema", found));
            }
            let schema = format.require("schema")?;
            format.finish()?;
            Some(Grammar::JsonSchema(schema))
        }
    };
    config.finish()?;
    Ok(grammar)
}

/// Takes `tools` and `tool_choice`.
fn tools(body: &mut Body) -> ApiResult<Tools> {
    let tools: Vec<Value> = body.take("tools")?.unwrap_or_default();
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.into_iter().enumerate() {
        written.push(function(tool, &format!("tools[{index}]"))?);
    }
    let mut request = json!({"tools": written});
    if let Some(value) = body.value("tool_choice") {
        let mut choice = Body::of(value, "tool_choice")?;
        let kind: String = choice.require("type")?;
        request["tool_choice"] = match kind.as_str() {
            "auto" | "none" => json!(kind),
            "any" => json!("required"),
            "tool" => {
                let name: String = choice.require("name")?;
                json!({"type": "function", "function": {"name": name}})
            }
            _ => {
                let expected = "auto, any, tool or none";
                let found = format!("{kind:?}");
                return Err(ApiError::field("tool_choice.type", expected, found));
            }
        };
        let single: Option<bool> = choice.take("disable_parallel_tool_use")?;
        request["parallel_tool_calls"] = single.map(|single| !single).into();
        choice.finish()?;
    }
    Tools::take(&mut Body::of(request, "")?)
}

/// A tool as templates read it.
fn function(tool: Value, place: &str) -> ApiResult<Value> {
    let mut tool = Body::of(tool, place)?;
    let kind: Option<String> = tool.take("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        let advice = "this server has no tools of its own";
        return Err(ApiError::unsupported(
            format!("{place} of type {kind:?}"),
            advice,
        ));
    }
    let mut function = Map::new();
    function.insert("name".into(), tool.require::<String>("name")?.into());
    if let Some(description) = tool.take::<String>("description")? {
        function.insert("description".into(), description.into());
    }
    let schema: Map<String, Value> = tool.require("input_schema")?;
    function.insert("parameters".into(), schema.into());
    if let Some(strict) = tool.take::<bool>("strict")? {
        function.insert("strict".into(), strict.into());
    }
    tool.only("defer_loading", &[json!(false)])?;
    tool.only("allowed_callers", &[json!(["direct"])])?;
    tool.skip(&["cache_control", "eager_input_streaming"]);
    tool.finish()?;
    Ok(json!({"type": "function", "function": function}))
}
