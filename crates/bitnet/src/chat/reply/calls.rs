//! Calls of tools in the forms that models write.

use super::{CallFormat, Tool, ToolCall};
use serde_json::{Map, Value};

/// The call between the marks of one.
pub(super) fn marked(format: CallFormat, body: &str, tools: &[Tool]) -> Option<ToolCall> {
    match format {
        CallFormat::Xml => xml(body.trim(), tools),
        _ => json(serde_json::from_str(body.trim()).ok()?, tools),
    }
}

/// The calls that a whole answer is.
pub(super) fn whole(format: CallFormat, text: &str, tools: &[Tool]) -> Option<Vec<ToolCall>> {
    if format == CallFormat::Pythonic {
        return pythonic(text.trim(), tools);
    }
    // Several calls are separated by semicolons, or by nothing.
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let end = values.byte_offset();
        calls.push(json(value, tools)?);
        rest = rest[end..].trim_start();
        rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
    }
    Some(calls)
}

/// `{"name": …, "arguments": {…}}`; Llama says `parameters`, and some models write the arguments as a string, as OpenAI does.
fn json(value: Value, tools: &[Tool]) -> Option<ToolCall> {
    let Value::Object(mut fields) = value else {
        return None;
    };
    let Some(Value::String(name)) = fields.remove("name") else {
        return None;
    };
    find(&name, tools)?;
    let given = fields
        .remove("arguments")
        .or_else(|| fields.remove("parameters"));
    let arguments = match given {
        Some(Value::Object(arguments)) => arguments,
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Object(arguments)) => arguments,
            _ => return None,
        },
        None | Some(Value::Null) => Map::new(),
        Some(_) => return None,
    };
    Some(ToolCall { name, arguments })
}

/// `<function=NAME><parameter=NAME>VALUE</parameter>…</function>`.
fn xml(body: &str, tools: &[Tool]) -> Option<ToolCall> {
    let body = body.strip_prefix("<function=")?;
    let (name, body) = body.split_once('>')?;
    let tool = find(name, tools)?;
    let body = body.trim_end();
    let mut body = body.strip_suffix("</function>").unwrap_or(body).trim();
    let mut arguments = Map::new();
    while !body.is_empty() {
        let (name, rest) = body.strip_prefix("<parameter=")?.split_once('>')?;
        let (value, rest) = rest.split_once("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let value = typed(value, tool, name);
        if arguments.insert(name.to_owned(), value).is_some() {
            return None;
        }
        body = rest.trim_start();
    }
    Some(ToolCall {
        name: name.to_owned(),
        arguments,
    })
}

/// A value without quotes: a string where the tool's schema says so, or where it is no JSON.
fn typed(text: &str, tool: &Tool, name: &str) -> Value {
    let schema = tool.parameters.as_ref();
    let kind = schema.and_then(|schema| schema.pointer("/properties")?.get(name)?.get("type"));
    let string = || Value::String(text.to_owned());
    if kind.and_then(Value::as_str) == Some("string") {
        return string();
    }
    match serde_json::from_str(text) {
        Ok(value) => value,
        // Models that write Python write its constants.
        Err(_) => match text {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            _ => string(),
        },
    }
}

/// `[name(argument=value, …), …]`.
fn pythonic(text: &str, tools: &[Tool]) -> Option<Vec<ToolCall>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let (name, inner) = rest.split_once('(')?;
        let name = name.trim();
        find(name, tools)?;
        let mut arguments = Map::new();
        rest = inner.trim_start();
        while !rest.starts_with(')') {
            let (key, value) = rest.split_once('=')?;
            let key = key.trim();
            if key.is_empty() || !key.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let (value, after) = python_value(value.trim_start(), 0)?;
            if arguments.insert(key.to_owned(), value).is_some() {
                return None;
            }
            rest = separated(after, ')')?;
        }
        calls.push(ToolCall {
            name: name.to_owned(),
            arguments,
        });
        rest = rest[1..].trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    (!calls.is_empty()).then_some(calls)
}

/// The text behind a value: after a comma, which is skipped, or at the end.
fn separated(text: &str, end: char) -> Option<&str> {
    let text = text.trim_start();
    match text.strip_prefix(',') {
        Some(after) => Some(after.trim_start()),
        None => text.starts_with(end).then_some(text),
    }
}

/// The deepest nesting of a value.
const DEEPEST: usize = 64;

/// A literal of Python, and what follows it.
fn python_value(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > DEEPEST {
        return None;
    }
    let first = text.chars().next()?;
    match first {
        '\'' | '"' => python_string(&text[1..], first),
        '[' => {
            let (mut rest, mut list) = (text[1..].trim_start(), Vec::new());
            while !rest.starts_with(']') {
                let (value, after) = python_value(rest, depth + 1)?;
                list.push(value);
                rest = separated(after, ']')?;
            }
            Some((Value::Array(list), &rest[1..]))
        }
        '{' => {
            let (mut rest, mut map) = (text[1..].trim_start(), Map::new());
            while !rest.starts_with('}') {
                let (key, after) = python_value(rest, depth + 1)?;
                let after = after.trim_start().strip_prefix(':')?;
                let (value, after) = python_value(after.trim_start(), depth + 1)?;
                map.insert(key.as_str()?.to_owned(), value);
                rest = separated(after, '}')?;
            }
            Some((Value::Object(map), &rest[1..]))
        }
        _ => {
            let end = text.find([',', ')', ']', '}', ':']).unwrap_or(text.len());
            // Models that write JSON elsewhere write its constants here.
            let value = match text[..end].trim() {
                "True" | "true" => Value::Bool(true),
                "False" | "false" => Value::Bool(false),
                "None" | "null" => Value::Null,
                number => Value::Number(serde_json::from_str(number).ok()?),
            };
            Some((value, &text[end..]))
        }
    }
}

/// A string behind its first quote.
fn python_string(text: &str, quote: char) -> Option<(Value, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, next)) = chars.next() {
        match next {
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => escaped_char(&mut chars)?,
                other @ ('\\' | '\'' | '"') => other,
                _ => return None,
            }),
            next if next == quote => {
                let rest = &text[place + next.len_utf8()..];
                return Some((Value::String(value), rest));
            }
            next => value.push(next),
        }
    }
    None
}

/// The character behind `\u`: four digits, or twice four with another `\u` between them, as JSON writes those of higher planes.
fn escaped_char(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let first = escaped_unit(chars)?;
    let is_pair = (0xd800..0xdc00).contains(&first);
    let is_begun = is_pair && chars.next()?.1 == '\\' && chars.next()?.1 == 'u';
    let second = if is_begun {
        Some(escaped_unit(chars)?)
    } else {
        None
    };
    let units = [first].into_iter().chain(second);
    char::decode_utf16(units).next()?.ok()
}

/// Four digits of a character's number.
fn escaped_unit(chars: &mut std::str::CharIndices<'_>) -> Option<u16> {
    (0..4).try_fold(0, |unit, _| {
        let digit = chars.next()?.1.to_digit(16)?;
        Some(16 * unit + digit as u16)
    })
}

fn find<'a>(name: &str, tools: &'a [Tool]) -> Option<&'a Tool> {
    tools.iter().find(|tool| tool.name == name)
}
