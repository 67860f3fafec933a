//! Operators on values, as Python has them.

use std::rc::Rc;

use super::arguments::Arguments;
use super::ast::{Comparison, Operator};
use super::format;
use super::meter::{Fault, Meter, Outcome};
use super::text::{Buffer, find};
use super::value::Value;

pub(super) fn compare(
    meter: &Rc<Meter>,
    comparison: Comparison,
    left: &Value,
    right: &Value,
) -> Outcome<bool> {
    use Comparison::{Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotIn, Unequal};
    Ok(match comparison {
        Equal => left.equals(meter, right)?,
        Unequal => !left.equals(meter, right)?,
        Less => left.compare(meter, right)?.is_lt(),
        LessOrEqual => left.compare(meter, right)?.is_le(),
        Greater => left.compare(meter, right)?.is_gt(),
        GreaterOrEqual => left.compare(meter, right)?.is_ge(),
        In => contains(meter, right, left)?,
        NotIn => !contains(meter, right, left)?,
    })
}

/// Whether `item` is in `container`.
pub(super) fn contains(meter: &Rc<Meter>, container: &Value, item: &Value) -> Outcome<bool> {
    match (container, item) {
        (Value::Text(text), Value::Text(part)) => Ok(find(meter, text, part)?.is_some()),
        (Value::Text(_), other) => Err(format!(
            "'in <string>' requires string as left operand, not {}",
            other.kind()
        )
        .into()),
        (Value::Dict(_), name) => Ok(container.member(meter, name)?.is_some()),
        _ => {
            for candidate in &container.items(meter)?.items {
                if candidate.equals(meter, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

pub(super) fn calculate(
    meter: &Rc<Meter>,
    operator: Operator,
    left: &Value,
    right: &Value,
) -> Outcome<Value> {
    use Operator::{Add, Divide, FloorDivide, Multiply, Power, Remainder, Subtract};
    match (operator, left, right) {
        (Add, Value::Text(a), Value::Text(b)) => {
            let mut buffer = Buffer::new(meter)?;
            buffer.push(a)?;
            buffer.push(b)?;
            return Ok(Value::Text(buffer.finish()));
        }
        (Add, Value::List(a), Value::List(b)) => {
            return Value::list(meter, joined(meter, &a.items, &b.items)?);
        }
        (Add, Value::Tuple(a), Value::Tuple(b)) => {
            return Value::tuple(meter, joined(meter, &a.items, &b.items)?);
        }
        (Multiply, Value::Text(_) | Value::List(_) | Value::Tuple(_), count)
            if count.as_int().is_some() =>
        {
            return repeat(meter, left, count);
        }
        (Multiply, count, Value::Text(_) | Value::List(_) | Value::Tuple(_))
            if count.as_int().is_some() =>
        {
            return repeat(meter, right, count);
        }
        (Remainder, Value::Text(format), _) => {
            let mut arguments = Arguments::default();
            match right {
                Value::Tuple(list) => arguments.positional.extend(list.items.iter().cloned()),
                other => arguments.positional.push_back(other.clone()),
            }
            let mapping = matches!(right, Value::Dict(_)).then_some(right);
            return format::percent(meter, format, arguments, mapping);
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let whole = match operator {
            Add => a.checked_add(b),
            Subtract => a.checked_sub(b),
            Multiply => a.checked_mul(b),
            FloorDivide | Remainder | Divide if b == 0 => return Err(ZERO.into()),
            Divide => return Ok(Value::Float(a as f64 / b as f64)),
            FloorDivide => floor_divide(a, b),
            Remainder => floor_divide(a, b).and_then(|q| a.checked_sub(q.checked_mul(b)?)),
            Power if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
            Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        };
        let large = || Fault::from("a whole number has more than 38 digits");
        return whole.map(Value::Int).ok_or_else(large);
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        let value = match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide | FloorDivide | Remainder if b == 0.0 => return Err(ZERO.into()),
            Divide => a / b,
            FloorDivide => (a / b).floor(),
            Remainder => a - b * (a / b).floor(),
            Power => a.powf(b),
        };
        return Ok(Value::Float(value));
    }
    let sign = match operator {
        Add => "+",
        Subtract => "-",
        Multiply => "*",
        Divide => "/",
        FloorDivide => "//",
        Remainder => "%",
        Power => "**",
    };
    Err(format!(
        "unsupported operand type(s) for {sign}: '{}' and '{}'",
        left.kind(),
        right.kind()
    )
    .into())
}

const ZERO: &str = "division by zero";

fn floor_divide(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(quotient - i128::from(a % b != 0 && (a < 0) != (b < 0)))
}

fn joined(meter: &Meter, a: &[Value], b: &[Value]) -> Outcome<Vec<Value>> {
    // Items are counted where they are copied, and where the list ends.
    meter.work(4 * (a.len() + b.len()))?;
    Ok(a.iter().chain(b).cloned().collect())
}

fn repeat(meter: &Rc<Meter>, value: &Value, count: &Value) -> Outcome<Value> {
    let count = count.as_int().unwrap_or(0).max(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    match value {
        Value::Text(text) => {
            let mut buffer = Buffer::new(meter)?;
            // A text without characters can be repeated without end.
            for _ in 0..if text.is_empty() { 0 } else { count } {
                buffer.push(text)?;
            }
            Ok(Value::Text(buffer.finish()))
        }
        Value::List(list) | Value::Tuple(list) => {
            let total = list.items.len().saturating_mul(count);
            meter.work(total)?;
            // The memory is taken before it is used.
            let lease = meter.lease(total.saturating_mul(size_of::<Value>()))?;
            let mut items = Vec::with_capacity(total);
            for _ in 0..if list.items.is_empty() { 0 } else { count } {
                items.extend(list.items.iter().cloned());
            }
            drop(lease);
            match value {
                Value::Tuple(_) => Value::tuple(meter, items),
                _ => Value::list(meter, items),
            }
        }
        other => Ok(other.clone()),
    }
}

/// `value[index]`: undefined if there is none.
pub(super) fn item(meter: &Rc<Meter>, value: &Value, index: &Value) -> Outcome<Value> {
    let place = |length: usize| {
        let index = index.as_int()?;
        let length = i128::try_from(length).ok()?;
        usize::try_from(if index < 0 { index + length } else { index }).ok()
    };
    Ok(match value {
        Value::Dict(_) => value.member(meter, index)?.unwrap_or(Value::Undefined),
        Value::List(list) | Value::Tuple(list) => place(list.items.len())
            .and_then(|at| list.items.get(at).cloned())
            .unwrap_or(Value::Undefined),
        Value::Text(text) => match place(text.len()).and_then(|at| text.get(at)) {
            Some(glyph) => Value::copy(meter, &[*glyph])?,
            None => Value::Undefined,
        },
        _ => Value::Undefined,
    })
}

/// `value[start:stop:step]`.
pub(super) fn slice(meter: &Rc<Meter>, value: &Value, bounds: [Value; 3]) -> Outcome<Value> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) | Value::Tuple(list) => list.items.len(),
        _ => return Ok(Value::Undefined),
    };
    let bound = |value: &Value| match value {
        Value::None => Ok(None),
        other => other
            .as_int()
            .map(Some)
            .ok_or("the bounds of a slice are integers"),
    };
    let length = i128::try_from(length).unwrap_or(0);
    let step = bound(&bounds[2])?.unwrap_or(1);
    if step == 0 {
        return Err("slice step cannot be zero".into());
    }
    let clamp = |at: i128| {
        let at = if at < 0 {
            at.saturating_add(length)
        } else {
            at
        };
        if step > 0 {
            at.clamp(0, length)
        } else {
            at.clamp(-1, length - 1)
        }
    };
    let (first, last) = if step > 0 {
        (0, length)
    } else {
        (length - 1, -1)
    };
    let start = bound(&bounds[0])?.map_or(first, clamp);
    let stop = bound(&bounds[1])?.map_or(last, clamp);
    let mut places = Vec::new();
    let mut at = start;
    meter.work(usize::try_from(length).unwrap_or(0) / 8)?;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        meter.work(1)?;
        places.extend(usize::try_from(at).ok());
        at = at.saturating_add(step);
    }
    match value {
        Value::Text(text) => {
            let mut buffer = Buffer::new(meter)?;
            for at in places {
                buffer.push_glyph(text[at])?;
            }
            Ok(Value::Text(buffer.finish()))
        }
        Value::Tuple(list) => Value::tuple(
            meter,
            places.iter().map(|at| list.items[*at].clone()).collect(),
        ),
        Value::List(list) => Value::list(
            meter,
            places.iter().map(|at| list.items[*at].clone()).collect(),
        ),
        other => Ok(other.clone()),
    }
}
