//! The tools of a request, and the calls that its answer may or must have.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use bitnet::chat::{CallFormat, Tool};
use bitnet::constraint::{Calls, Demand, Grammar};
use serde_json::{Value, json};

/// The tools of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    /// As the client wrote them, for the template.
    pub(crate) written: Vec<Value>,
    /// As replies are read with.
    pub(crate) read: Vec<Tool>,
    /// Whether more than one call may come.
    pub(crate) parallel: bool,
    /// The call that must come.
    demand: Demand,
}

impl Tools {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
    ///
    /// # Errors
    /// If one is no function with a name, or the choice is none that there is.
    pub(crate) fn take(body: &mut Body) -> ApiResult<Self> {
        let written: Vec<Value> = body.take("tools")?.unwrap_or_default();
        let numbered = written.iter().enumerate();
        let read = numbered.map(|(index, tool)| Tool::parse(tool, &format!("tools[{index}]")));
        let tools = Self {
            read: read.collect::<Result<_, _>>()?,
            written,
            parallel: body.take("parallel_tool_calls")?.unwrap_or(true),
            demand: Demand::Nothing,
        };
        let demand = match body.value("tool_choice") {
            None => Demand::Nothing,
            Some(Value::String(choice)) if choice == "auto" => Demand::Nothing,
            Some(Value::String(choice)) if choice == "none" => return Ok(Self::default()),
            Some(Value::String(choice)) if choice == "required" => Demand::Any,
            Some(choice @ Value::Object(_)) => {
                let mut choice = Body::of(choice, "tool_choice")?;
                choice.only("type", &[json!("function")])?;
                let mut function = Body::of(choice.require("function")?, "tool_choice.function")?;
                let name = function.require("name")?;
                function.finish()?;
                choice.finish()?;
                Demand::Named(name)
            }
            Some(choice) => {
                let expected = "\"auto\", \"none\", \"required\" or a function";
                return Err(ApiError::field("tool_choice", expected, choice));
            }
        };
        Ok(Self { demand, ..tools })
    }

    /// The form of an answer with calls in `format`, or one of the form `answer`; `None` for any text.
    ///
    /// # Errors
    /// If a call is demanded of a tool that is not there.
    pub(crate) fn grammar(
        &self,
        format: CallFormat,
        answer: Option<Grammar>,
    ) -> ApiResult<Option<Grammar>> {
        let Self { read, demand, .. } = self;
        Ok(Calls::in_reply(
            format,
            read,
            demand,
            self.parallel,
            answer,
        )?)
    }
}
