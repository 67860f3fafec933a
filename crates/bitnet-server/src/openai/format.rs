//! `response_format`: the form that an answer must have.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use bitnet::constraint::Grammar;
use serde_json::Value;

/// Takes the field; `None` for any text.
///
/// # Errors
/// If it is of no type that is known, or has no schema.
pub(super) fn take(body: &mut Body) -> ApiResult<Option<Grammar>> {
    let Some(value) = body.value("response_format") else {
        return Ok(None);
    };
    let mut format = Body::of(value, "response_format")?;
    let kind: String = format.require("type")?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Grammar::JsonObject),
        "json_schema" => {
            let mut inner = Body::of(
                format.require("json_schema")?,
                "response_format.json_schema",
            )?;
            let schema: Value = inner.require("schema")?;
            // Names are for people, and an answer is always strict.
            inner.skip(&["name", "description", "strict"]);
            inner.finish()?;
            Some(Grammar::JsonSchema(schema))
        }
        // As vLLM has them.
        "regex" => Some(Grammar::Regex(format.require("pattern")?)),
        "grammar" => Some(Grammar::Lark(format.require("grammar")?)),
        "choice" => Some(Grammar::Choice(format.require("choices")?)),
        other => {
            let expected = "text, json_object, json_schema, regex, grammar or choice";
            return Err(ApiError::field(
                "response_format.type",
                expected,
                format!("{other:?}"),
            ));
        }
    };
    format.finish()?;
    Ok(grammar)
}
