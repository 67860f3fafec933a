//! Filters: what follows `|`.

use std::rc::Rc;

use super::arguments::Arguments;
use super::meter::{Fault, Meter, Outcome};
use super::print::{print_repr, to_text};
use super::text::{Buffer, Glyph, plain, strip};
use super::value::Value;
use super::{case, format, json, lookup, methods, sequences};

/// The filters that there are.
const NAMES: [&str; 48] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
];

/// Whether there is a filter of that name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The filter of that name, of `value`.
pub(super) fn apply(
    meter: &Rc<Meter>,
    name: &str,
    value: &Value,
    mut arguments: Arguments,
) -> Outcome<Value> {
    let result = of_value(meter, name, value, &mut arguments).map_err(|fault| match fault {
        Fault::Message(message) => format!("filter {name}: {message}").into(),
        other => other,
    })?;
    Ok(result)
}

fn of_value(
    meter: &Rc<Meter>,
    name: &str,
    value: &Value,
    arguments: &mut Arguments,
) -> Outcome<Value> {
    if !exists(name) {
        return Err("there is no such filter".into());
    }
    if let Some(result) = sequences::apply(meter, name, value, arguments)? {
        return Ok(result);
    }
    let result = match name {
        "d" | "default" => {
            let default = arguments.take("default_value")?;
            let also_false = arguments.take_bool("boolean")?;
            if matches!(value, Value::Undefined) || (also_false && !value.is_true()) {
                default.map_or_else(|| Value::text(meter, ""), Ok)?
            } else {
                value.clone()
            }
        }
        "tojson" => json::tojson(meter, value, arguments)?,
        "abs" => match value {
            Value::Float(value) => Value::Float(value.abs()),
            other => {
                let int = other.as_int().and_then(i128::checked_abs);
                let bad = || format!("bad operand type for abs(): '{}'", other.kind());
                Value::Int(int.ok_or_else(bad)?)
            }
        },
        "attr" => {
            let name = arguments.take_name("name")?.unwrap_or_default();
            match value {
                // Members are no attributes.
                Value::Dict(_) if !methods::has(value, &name) => Value::Undefined,
                other => lookup::attribute(meter, other, &name)?,
            }
        }
        "int" => int(meter, value, arguments)?,
        "float" => {
            let default = arguments.take("default")?.unwrap_or(Value::Float(0.0));
            let parsed = match value {
                Value::Text(text) => {
                    meter.work(text.len())?;
                    parse_float(&plain(text))
                }
                other => other.as_float(),
            };
            parsed.map_or(default, Value::Float)
        }
        "round" => round(value, arguments)?,
        "format" => {
            let text = to_text(meter, value)?;
            let given = std::mem::take(arguments);
            let mapping = if given.named.is_empty() {
                None
            } else {
                let members: Outcome<Vec<(Value, Value)>> = given
                    .named
                    .iter()
                    .map(|(name, value)| Ok((Value::text(meter, name)?, value.clone())))
                    .collect();
                Some(Value::dict(meter, members?)?)
            };
            format::percent(meter, &text, given, mapping.as_ref())?
        }
        "pprint" => {
            let mut buffer = Buffer::new(meter)?;
            print_repr(&mut buffer, value)?;
            Value::Text(buffer.finish())
        }
        _ => of_text(meter, name, value, arguments)?,
    };
    arguments.end()?;
    Ok(result)
}

/// The filters that take what they are given as text.
fn of_text(
    meter: &Rc<Meter>,
    name: &str,
    value: &Value,
    arguments: &mut Arguments,
) -> Outcome<Value> {
    let text = to_text(meter, value)?;
    meter.work(text.len() / 4)?;
    Ok(match name {
        "string" | "safe" => Value::Text(text),
        "trim" => {
            let set = arguments.take_text("chars")?;
            let mut stripped = Arguments::default();
            stripped.positional.extend(set.map(Value::Text));
            methods::call(meter, &Value::Text(text), "strip", &mut stripped)?
        }
        "upper" => Value::Text(case::upper(meter, &text)?),
        "lower" => Value::Text(case::lower(meter, &text)?),
        "capitalize" => Value::Text(case::capitalize(meter, &text)?),
        "title" => Value::Text(case::title_filter(meter, &text)?),
        "center" => {
            let width = arguments.take("width")?.unwrap_or(Value::Int(80));
            let mut given = Arguments::default();
            given.positional.push_back(width);
            methods::call(meter, &Value::Text(text), "center", &mut given)?
        }
        "replace" => {
            let old = to_text(meter, &arguments.need("old")?)?;
            let new = to_text(meter, &arguments.need("new")?)?;
            let most = arguments.take_int("count")?.unwrap_or(-1);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            Value::Text(methods::replace(meter, &text, &old, &new, most)?)
        }
        "e" | "escape" | "forceescape" => {
            let mut buffer = Buffer::new(meter)?;
            for glyph in text.iter() {
                match glyph.char() {
                    '&' => buffer.push_as(*glyph, "&amp;")?,
                    '<' => buffer.push_as(*glyph, "&lt;")?,
                    '>' => buffer.push_as(*glyph, "&gt;")?,
                    '\'' => buffer.push_as(*glyph, "&#39;")?,
                    '"' => buffer.push_as(*glyph, "&#34;")?,
                    _ => buffer.push_glyph(*glyph)?,
                }
            }
            Value::Text(buffer.finish())
        }
        "urlencode" => {
            let mut buffer = Buffer::new(meter)?;
            for glyph in text.iter() {
                let c = glyph.char();
                if c.is_ascii_alphanumeric() || "_.-~/".contains(c) {
                    buffer.push_glyph(*glyph)?;
                } else {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        buffer.push_as(*glyph, &format!("%{byte:02X}"))?;
                    }
                }
            }
            Value::Text(buffer.finish())
        }
        "wordcount" => {
            let mut words = 0;
            let mut inside = false;
            for glyph in text.iter() {
                let word = glyph.char().is_alphanumeric() || glyph.char() == '_';
                words += i128::from(word && !inside);
                inside = word;
            }
            Value::Int(words)
        }
        "indent" => indent(meter, &text, arguments)?,
        "truncate" => {
            let length = arguments.take_count("length")?.unwrap_or(255);
            let cut_words = arguments.take_bool("killwords")?;
            let end = arguments.take("end")?;
            let end = match end {
                Some(end) => to_text(meter, &end)?,
                None => super::text::Text::written(meter, "...")?,
            };
            let leeway = arguments.take_count("leeway")?.unwrap_or(5);
            if text.len() <= length.saturating_add(leeway) {
                Value::Text(text)
            } else if length < end.len() {
                return Err("the length is less than that of the end".into());
            } else {
                let mut shown = &text[..length - end.len()];
                if !cut_words && let Some(at) = shown.iter().rposition(|glyph| glyph.char() == ' ')
                {
                    shown = &shown[..at];
                }
                let mut buffer = Buffer::new(meter)?;
                buffer.push(shown)?;
                buffer.push(&end)?;
                Value::Text(buffer.finish())
            }
        }
        other => return Err(format!("{other} is not supported").into()),
    })
}

fn indent(meter: &Rc<Meter>, text: &[Glyph], arguments: &mut Arguments) -> Outcome<Value> {
    let indent = match arguments.take("width")? {
        Some(Value::Text(text)) => text,
        width => {
            let width = width.map_or(Some(4), |width| width.as_int());
            let width = width.ok_or("the width is no integer")?.max(0);
            let mut buffer = Buffer::new(meter)?;
            buffer.fill(
                Glyph::written(' '),
                usize::try_from(width).unwrap_or(usize::MAX),
            )?;
            buffer.finish()
        }
    };
    let first = arguments.take_bool("first")?;
    let blank = arguments.take_bool("blank")?;
    let mut whole = Buffer::new(meter)?;
    whole.push(text)?;
    whole.push_str("\n")?;
    let lines = methods::call(
        meter,
        &Value::Text(whole.finish()),
        "splitlines",
        &mut Arguments::default(),
    )?;
    let mut buffer = Buffer::new(meter)?;
    for (index, line) in lines.items(meter)?.items.iter().enumerate() {
        let Value::Text(line) = line else {
            continue;
        };
        if index > 0 {
            buffer.push_str("\n")?;
        }
        let indented = if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indented {
            buffer.push(&indent)?;
        }
        buffer.push(line)?;
    }
    Ok(Value::Text(buffer.finish()))
}

fn int(meter: &Rc<Meter>, value: &Value, arguments: &mut Arguments) -> Outcome<Value> {
    let default = arguments.take("default")?.unwrap_or(Value::Int(0));
    let base = arguments.take_int("base")?.unwrap_or(10);
    let parsed = match value {
        Value::Float(value) if value.is_finite() => Some(value.trunc() as i128),
        Value::Text(text) => {
            meter.work(text.len())?;
            let text = plain(strip(text, None, true, true)).replace('_', "");
            let base = u32::try_from(base)
                .ok()
                .filter(|base| (2..=36).contains(base));
            let digits = match base {
                Some(16) => text.trim_start_matches("0x").trim_start_matches("0X"),
                Some(8) => text.trim_start_matches("0o").trim_start_matches("0O"),
                Some(2) => text.trim_start_matches("0b").trim_start_matches("0B"),
                _ => &text,
            };
            base.and_then(|base| i128::from_str_radix(digits, base).ok())
                .or_else(|| {
                    let float = parse_float(&text).filter(|value| value.is_finite());
                    float.map(|value| value.trunc() as i128)
                })
        }
        other => other.as_int(),
    };
    Ok(parsed.map_or(default, Value::Int))
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim().replace('_', "");
    text.parse().ok()
}

fn round(value: &Value, arguments: &mut Arguments) -> Outcome<Value> {
    let precision = arguments.take_int("precision")?.unwrap_or(0);
    let precision = i32::try_from(precision.clamp(-400, 400)).unwrap_or(0);
    let method = arguments.take_name("method")?;
    let number = value.as_float().ok_or("it rounds numbers")?;
    let scale = 10_f64.powi(precision);
    Ok(match method.as_deref() {
        None | Some("common") => {
            if let (Some(int), 0..) = (value.as_int(), precision) {
                return Ok(Value::Int(int));
            }
            if !number.is_finite() {
                return Ok(value.clone());
            }
            match usize::try_from(precision) {
                // Rust, like Python, rounds the exact value, and halves to even.
                Ok(places) => Value::Float(format!("{number:.places$}").parse().unwrap_or(number)),
                Err(_) => {
                    let rounded = (number * scale).round_ties_even() / scale;
                    match value {
                        Value::Float(_) => Value::Float(rounded),
                        _ => Value::Int(rounded as i128),
                    }
                }
            }
        }
        Some("ceil") => Value::Float((number * scale).ceil() / scale),
        Some("floor") => Value::Float((number * scale).floor() / scale),
        Some(_) => return Err("method must be common, ceil or floor".into()),
    })
}
