//! The form that an answer must have.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use bitnet::constraint::Grammar;
use serde_json::Value;

/// Takes `response_format`; `None` for any text.
///
/// # Errors
/// If it is of no type that is known, or has no schema.
pub(super) fn take(body: &mut Body) -> ApiResult<Option<Grammar>> {
    let name = "response_format";
    match body.value(name) {
        None => Ok(None),
        Some(value) => of(Body::of(value, name)?, |format| {
            let name = format.name("json_schema");
            let mut inner = Body::of(format.require("json_schema")?, &name)?;
            let schema = schema(&mut inner)?;
            inner.finish()?;
            Ok(schema)
        }),
    }
}

/// Takes the schema of a format, and what is said about it.
///
/// # Errors
/// If there is none.
pub(super) fn schema(format: &mut Body) -> ApiResult<Value> {
    let schema = format.require("schema")?;
    // Names are for people, and an answer is always strict.
    format.skip(&["name", "description", "strict"]);
    Ok(schema)
}

/// The form that an object stands for, of which `schema` takes the schema.
///
/// # Errors
/// As [`take`].
pub(super) fn of(
    mut format: Body,
    schema: impl FnOnce(&mut Body) -> ApiResult<Value>,
) -> ApiResult<Option<Grammar>> {
    let kind: String = format.require("type")?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Grammar::JsonObject),
        "json_schema" => Some(Grammar::JsonSchema(schema(&mut format)?)),
        // As vLLM has them.
        "regex" => Some(Grammar::Regex(format.require("pattern")?)),
        "grammar" => Some(Grammar::from_text(format.require::<String>("grammar")?)),
        "choice" => Some(Grammar::Choice(format.require("choices")?)),
        other => {
            let expected = "text, json_object, json_schema, regex, grammar or choice";
            return Err(ApiError::field(
                format.name("type"),
                expected,
                format!("{other:?}"),
            ));
        }
    };
    format.finish()?;
    Ok(grammar)
}
