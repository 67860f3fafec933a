//! Attributes and items of values.

use std::rc::Rc;

use super::meter::{Meter, Outcome};
use super::text::plain;
use super::value::{Loop, Value};
use super::{methods, operators};

/// `value.name`: what the value's type has of that name, or else the member.
pub(super) fn attribute(meter: &Rc<Meter>, value: &Value, name: &str) -> Outcome<Value> {
    if methods::has(value, name) {
        return Ok(Value::Method(Rc::new((value.clone(), name.to_owned()))));
    }
    Ok(match value {
        Value::Dict(_) => value.named(meter, name)?.unwrap_or(Value::Undefined),
        Value::Namespace(namespace) => {
            let members = namespace.members.borrow();
            meter.work(members.len())?;
            let found = members.iter().find(|(found, _)| found == name);
            found.map_or(Value::Undefined, |(_, value)| value.clone())
        }
        Value::Loop(state) => of_loop(state, name),
        Value::Cycler(state) if name == "current" => {
            let at = *state.at.borrow();
            state
                .items
                .items
                .get(at)
                .cloned()
                .unwrap_or(Value::Undefined)
        }
        _ => Value::Undefined,
    })
}

/// `value[index]`: the member, or else what the value's type has of that name.
pub(super) fn item(meter: &Rc<Meter>, value: &Value, index: &Value) -> Outcome<Value> {
    let found = operators::item(meter, value, index)?;
    match (&found, index) {
        (Value::Undefined, Value::Text(name)) => {
            meter.work(name.len())?;
            attribute(meter, value, &plain(name))
        }
        _ => Ok(found),
    }
}

/// `a.b.0` from the value on, as the filters' `attribute`.
pub(super) fn path(meter: &Rc<Meter>, value: &Value, path: &Value) -> Outcome<Value> {
    let Value::Text(text) = path else {
        return item(meter, value, path);
    };
    meter.work(16 + text.len())?;
    let mut found = value.clone();
    for name in plain(text).split('.') {
        let index = match name.parse() {
            Ok(index) => Value::Int(index),
            Err(_) => Value::text(meter, name)?,
        };
        if let Value::Undefined = found {
            return Ok(found);
        }
        found = item(meter, &found, &index)?;
    }
    Ok(found)
}

fn of_loop(state: &Loop, name: &str) -> Value {
    let (index, length) = (state.index, state.items.items.len());
    let int = |value: usize| Value::Int(value as i128);
    let neighbour = |at: Option<usize>| {
        at.and_then(|at| state.items.items.get(at).cloned())
            .unwrap_or(Value::Undefined)
    };
    match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(length - index),
        "revindex0" => int(length - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "length" => int(length),
        "depth" => int(state.level + 1),
        "depth0" => int(state.level),
        "previtem" => neighbour(index.checked_sub(1)),
        "nextitem" => neighbour(Some(index + 1)),
        _ => Value::Undefined,
    }
}
