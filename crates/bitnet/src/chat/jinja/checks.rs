//! Tests: what follows `is`.

use std::rc::Rc;

use super::arguments::Arguments;
use super::ast::Comparison;
use super::meter::{Meter, Outcome};
use super::value::Value;
use super::{filters, operators};

/// Whether `value` passes the test of that name.
pub(super) fn check(
    meter: &Rc<Meter>,
    name: &str,
    value: &Value,
    mut arguments: Arguments,
) -> Outcome<bool> {
    let int = || {
        let int = value.as_int();
        int.ok_or_else(|| format!("the test {name} is not one of a {}", value.kind()))
    };
    let comparison = match name {
        "eq" | "equalto" | "==" => Some(Comparison::Equal),
        "ne" | "!=" => Some(Comparison::Unequal),
        "lt" | "lessthan" | "<" => Some(Comparison::Less),
        "le" | "<=" => Some(Comparison::LessOrEqual),
        "gt" | "greaterthan" | ">" => Some(Comparison::Greater),
        "ge" | ">=" => Some(Comparison::GreaterOrEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    let passes = match name {
        _ if comparison.is_some() => {
            let other = arguments.need("other")?;
            operators::compare(
                meter,
                comparison.unwrap_or(Comparison::Equal),
                value,
                &other,
            )?
        }
        "defined" => !matches!(value, Value::Undefined),
        "undefined" => matches!(value, Value::Undefined),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Undefined
        ),
        "iterable" => matches!(
            value,
            Value::Text(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Undefined
                | Value::Loop(_)
        ),
        "callable" => matches!(
            value,
            Value::Function(_)
                | Value::Method(_)
                | Value::Macro(_)
                | Value::Joiner(_)
                | Value::Undefined
                | Value::Loop(_)
        ),
        "sameas" => value.is_same(meter, &arguments.need("other")?)?,
        "odd" => int()? % 2 != 0,
        "even" => int()? % 2 == 0,
        "divisibleby" => {
            let divisor = arguments.take_int("num")?.unwrap_or(0);
            let rest = int()?.checked_rem(divisor);
            rest.ok_or("division by zero")? == 0
        }
        "upper" | "lower" => {
            let method = if name == "upper" {
                "isupper"
            } else {
                "islower"
            };
            let text = Value::Text(super::print::to_text(meter, value)?);
            super::methods::call(meter, &text, method, &mut Arguments::default())?.is_true()
        }
        "filter" | "test" => {
            let Value::Text(sought) = value else {
                return Ok(false);
            };
            meter.work(sought.len())?;
            let sought = super::text::plain(sought);
            if name == "filter" {
                filters::exists(&sought)
            } else {
                exists(&sought)
            }
        }
        "escaped" => false,
        _ => return Err(format!("No test named '{name}'.").into()),
    };
    arguments.end()?;
    Ok(passes)
}

/// Whether there is a test of that name.
fn exists(name: &str) -> bool {
    const NAMES: [&str; 36] = [
        "eq",
        "equalto",
        "==",
        "ne",
        "!=",
        "lt",
        "lessthan",
        "<",
        "le",
        "<=",
        "gt",
        "greaterthan",
        ">",
        "ge",
        ">=",
        "in",
        "defined",
        "undefined",
        "none",
        "boolean",
        "true",
        "false",
        "integer",
        "float",
        "number",
        "string",
        "mapping",
        "sequence",
        "iterable",
        "callable",
        "sameas",
        "odd",
        "even",
        "divisibleby",
        "upper",
        "lower",
    ];
    NAMES.contains(&name)
}
