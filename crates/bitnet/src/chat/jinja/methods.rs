//! Methods of Python's texts, lists and dictionaries: those that change nothing.

use std::rc::Rc;

use super::arguments::Arguments;
use super::meter::{Meter, Outcome};
use super::text::{Buffer, Glyph, Text, find, find_all, is_space, strip};
use super::value::Value;
use super::{case, format, sequences};

const OF_TEXT: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "format_map",
];
const OF_LIST: [&str; 2] = ["count", "index"];
const OF_LOOP: [&str; 2] = ["changed", "cycle"];
const OF_DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];

/// Whether a value has a method of that name.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => OF_TEXT.contains(&name),
        Value::List(_) | Value::Tuple(_) => OF_LIST.contains(&name),
        Value::Dict(_) => OF_DICT.contains(&name),
        Value::Loop(_) => OF_LOOP.contains(&name),
        Value::Cycler(_) => name == "next" || name == "reset",
        _ => false,
    }
}

pub(super) fn call(
    meter: &Rc<Meter>,
    value: &Value,
    name: &str,
    arguments: &mut Arguments,
) -> Outcome<Value> {
    match value {
        Value::Text(text) => of_text(meter, text, name, arguments),
        Value::List(list) | Value::Tuple(list) => {
            let sought = arguments.need("value")?;
            let mut count = 0;
            for (index, item) in list.items.iter().enumerate() {
                if item.equals(meter, &sought)? {
                    if name == "index" {
                        return Ok(Value::Int(index as i128));
                    }
                    count += 1;
                }
            }
            if name == "index" {
                return Err("the value is not in list".into());
            }
            Ok(Value::Int(count))
        }
        Value::Dict(dict) => match name {
            "get" => {
                let sought = arguments.need("key")?;
                let default = arguments.take("default")?.unwrap_or(Value::None);
                Ok(value.member(meter, &sought)?.unwrap_or(default))
            }
            "items" => sequences::pairs(meter, &dict.members),
            "keys" => Value::items(value, meter).map(Value::List),
            "values" => Value::list(
                meter,
                dict.members
                    .iter()
                    .map(|(_, value)| value.clone())
                    .collect(),
            ),
            _ => Ok(value.clone()),
        },
        Value::Loop(state) if name == "cycle" => {
            let count = arguments.positional.len();
            let at = state
                .index
                .checked_rem(count)
                .ok_or("no items for cycling given")?;
            Ok(arguments
                .positional
                .swap_remove_back(at)
                .unwrap_or(Value::Undefined))
        }
        Value::Loop(state) => {
            let values = Value::list(meter, arguments.positional.drain(..).collect())?;
            let changed = match &*state.seen.borrow() {
                Some(seen) => !seen.equals(meter, &values)?,
                None => true,
            };
            state.seen.replace(Some(values));
            Ok(Value::Bool(changed))
        }
        Value::Cycler(state) => {
            let length = state.items.items.len();
            let mut at = state.at.borrow_mut();
            let item = state.items.items.get(*at).cloned();
            *at = if name == "next" {
                (*at + 1) % length.max(1)
            } else {
                0
            };
            Ok(item.unwrap_or(Value::Undefined))
        }
        other => Err(format!("'{}' object has no attribute '{name}'", other.kind()).into()),
    }
}

fn of_text(
    meter: &Rc<Meter>,
    text: &Text,
    name: &str,
    arguments: &mut Arguments,
) -> Outcome<Value> {
    let result = match name {
        "format" => {
            let formatted = format::braces(meter, text, arguments);
            *arguments = Arguments::default();
            formatted
        }
        "format_map" => {
            let Value::Dict(dict) = arguments.need("mapping")? else {
                return Err("format_map wants a dictionary".into());
            };
            let mut named = Arguments::default();
            for (name, value) in &dict.members {
                if let Value::Text(name) = name {
                    named.named.push((super::text::plain(name), value.clone()));
                }
            }
            format::braces(meter, text, &named)
        }
        "upper" => case::upper(meter, text).map(Value::Text),
        "lower" | "casefold" => case::lower(meter, text).map(Value::Text),
        "capitalize" => case::capitalize(meter, text).map(Value::Text),
        "title" => case::title(meter, text).map(Value::Text),
        "swapcase" => case::swap(meter, text).map(Value::Text),
        "strip" | "lstrip" | "rstrip" => {
            let set = arguments.take_text("chars")?;
            meter
                .work(text.len() + text.len() * set.as_ref().map_or(0, |set| set.len().min(64)))?;
            let (start, end) = (name != "rstrip", name != "lstrip");
            // A set of many characters makes every one of the text a search.
            if set.as_ref().is_some_and(|set| set.len() > 64) {
                return Err("it strips more than 64 different characters".into());
            }
            Value::copy(meter, strip(text, set.as_deref(), start, end))
        }
        "split" => split(meter, text, arguments, false),
        "rsplit" => split(meter, text, arguments, true),
        "splitlines" => split_lines(meter, text, arguments.take_bool("keepends")?),
        "startswith" | "endswith" => {
            let sought = arguments.need("prefix")?;
            let part = window(text, arguments)?.1;
            let matches = |sought: &Value| match sought {
                Value::Text(sought) => {
                    meter.work(sought.len())?;
                    Ok(if name == "startswith" {
                        part.starts_with(sought)
                    } else {
                        part.ends_with(sought)
                    })
                }
                other => Err(format!(
                    "{name} first arg must be str or a tuple of str, not {}",
                    other.kind()
                )
                .into()),
            };
            let found: Outcome<bool> = match &sought {
                Value::Tuple(list) => list
                    .items
                    .iter()
                    .try_fold(false, |found, sought| Ok(found || matches(sought)?)),
                one => matches(one),
            };
            found.map(Value::Bool)
        }
        "find" | "index" | "rfind" | "rindex" => {
            let sought = arguments.need_text("sub")?;
            let (start, part) = window(text, arguments)?;
            let at = if name.starts_with('r') {
                // The last is the first when both are read backwards.
                meter.work(part.len() + sought.len())?;
                let reversed = |text: &[Glyph]| text.iter().rev().copied().collect::<Vec<_>>();
                find(meter, &reversed(part), &reversed(&sought))?
                    .map(|at| part.len() - at - sought.len())
            } else {
                find(meter, part, &sought)?
            };
            match at {
                Some(at) => Ok(Value::Int((start + at) as i128)),
                None if name.ends_with("index") => Err("substring not found".into()),
                None => Ok(Value::Int(-1)),
            }
        }
        "count" => {
            let sought = arguments.need_text("sub")?;
            let part = window(text, arguments)?.1;
            let count = if sought.is_empty() {
                part.len() + 1
            } else {
                find_all(meter, part, &sought, usize::MAX)?.len()
            };
            Ok(Value::Int(count as i128))
        }
        "replace" => {
            let old = arguments.need_text("old")?;
            let new = arguments.need_text("new")?;
            let most = arguments.take_int("count")?.unwrap_or(-1);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            replace(meter, text, &old, &new, most).map(Value::Text)
        }
        "join" => {
            let items = arguments.need("iterable")?.items(meter)?;
            let mut buffer = Buffer::new(meter)?;
            for (index, item) in items.items.iter().enumerate() {
                let Value::Text(item) = item else {
                    return Err(format!(
                        "sequence item {index}: expected str instance, {} found",
                        item.kind()
                    )
                    .into());
                };
                if index > 0 {
                    buffer.push(text)?;
                }
                buffer.push(item)?;
            }
            Ok(Value::Text(buffer.finish()))
        }
        "removeprefix" => {
            let prefix = arguments.need_text("prefix")?;
            Value::copy(meter, text.strip_prefix(&*prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let suffix = arguments.need_text("suffix")?;
            Value::copy(meter, text.strip_suffix(&*suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let separator = Value::Text(arguments.need_text("sep")?);
            let mut sought = Arguments::default();
            sought.positional.push_back(separator.clone());
            let last = name == "rpartition";
            let at = of_text(
                meter,
                text,
                if last { "rfind" } else { "find" },
                &mut sought,
            )?;
            let Value::Text(sign) = &separator else {
                return Ok(separator);
            };
            if sign.is_empty() {
                return Err("empty separator".into());
            }
            let parts = match at.as_int().and_then(|at| usize::try_from(at).ok()) {
                Some(at) => [&text[..at], sign, &text[at + sign.len()..]],
                None if last => [&[], &[], &text[..]],
                None => [&text[..], &[], &[]],
            };
            let parts: Outcome<Vec<Value>> =
                parts.iter().map(|part| Value::copy(meter, part)).collect();
            Value::tuple(meter, parts?)
        }
        "zfill" => {
            let space = arguments
                .take_count("width")?
                .unwrap_or(0)
                .saturating_sub(text.len());
            let signed = text
                .first()
                .is_some_and(|glyph| "+-".contains(glyph.char()));
            let (sign, digits) = text.split_at(usize::from(signed));
            let mut buffer = Buffer::new(meter)?;
            buffer.push(sign)?;
            buffer.fill(Glyph::written('0'), space)?;
            buffer.push(digits)?;
            Ok(Value::Text(buffer.finish()))
        }
        "ljust" | "rjust" | "center" => {
            let width = arguments.take_count("width")?.unwrap_or(0);
            let fill = arguments.take_text("fillchar")?;
            let fill = match fill.as_deref() {
                None => Glyph::written(' '),
                Some([fill]) => *fill,
                Some(_) => {
                    return Err("The fill character must be exactly one character long".into());
                }
            };
            let space = width.saturating_sub(text.len());
            let before = match name {
                "ljust" => 0,
                "rjust" => space,
                _ => space / 2 + (space & width & 1),
            };
            let mut buffer = Buffer::new(meter)?;
            buffer.fill(fill, before)?;
            buffer.push(text)?;
            buffer.fill(fill, space - before)?;
            Ok(Value::Text(buffer.finish()))
        }
        "expandtabs" => {
            let width = arguments.take_count("tabsize")?.unwrap_or(8);
            let mut buffer = Buffer::new(meter)?;
            let mut column = 0;
            for glyph in text.iter() {
                match glyph.char() {
                    '\t' if width > 0 => {
                        let space = width - column % width;
                        buffer.fill(glyph.with(' '), space)?;
                        column += space;
                    }
                    '\t' => {}
                    c => {
                        column = if matches!(c, '\n' | '\r') {
                            0
                        } else {
                            column + 1
                        };
                        buffer.push_glyph(*glyph)?;
                    }
                }
            }
            Ok(Value::Text(buffer.finish()))
        }
        _ => {
            meter.work(text.len())?;
            Ok(Value::Bool(is(text, name)))
        }
    };
    arguments.end()?;
    result
}

/// The methods that begin with "is".
fn is(text: &[Glyph], name: &str) -> bool {
    let chars = || text.iter().map(|glyph| glyph.char());
    let all = |test: fn(char) -> bool| !text.is_empty() && chars().all(test);
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => chars().all(|c| c.is_ascii()),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "isspace" => !text.is_empty() && text.iter().all(is_space),
        "islower" => chars().any(char::is_lowercase) && !chars().any(char::is_uppercase),
        "isupper" => chars().any(char::is_uppercase) && !chars().any(char::is_lowercase),
        "isprintable" => !chars().any(char::is_control),
        "isidentifier" => {
            chars()
                .next()
                .is_some_and(|c| c.is_alphabetic() || c == '_')
                && chars().all(|c| c.is_alphanumeric() || c == '_')
        }
        _ => {
            let mut before = false;
            let mut any = false;
            for c in chars() {
                if (c.is_uppercase() && before) || (c.is_lowercase() && !before) {
                    return false;
                }
                before = c.is_uppercase() || c.is_lowercase();
                any |= before;
            }
            any
        }
    }
}

/// The part of `text` that a start and an end leave, and where it begins.
fn window<'t>(text: &'t [Glyph], arguments: &mut Arguments) -> Outcome<(usize, &'t [Glyph])> {
    let length = text.len() as i128;
    let place = |at: Option<i128>, default: usize| {
        at.map_or(default, |at| {
            let at = if at < 0 {
                at.saturating_add(length)
            } else {
                at
            };
            usize::try_from(at.clamp(0, length)).unwrap_or(0)
        })
    };
    let start = place(arguments.take_int("start")?, 0);
    let end = place(arguments.take_int("end")?, text.len());
    Ok((start, text.get(start..end).unwrap_or_default()))
}

/// `text` with `new` in place of the first `most` of `old`.
pub(super) fn replace(
    meter: &Rc<Meter>,
    text: &Text,
    old: &[Glyph],
    new: &[Glyph],
    most: usize,
) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    if old.is_empty() {
        // Nothing is before, between and after all characters.
        for (index, glyph) in text.iter().enumerate() {
            if index < most {
                buffer.push(new)?;
            }
            buffer.push_glyph(*glyph)?;
        }
        if text.len() < most {
            buffer.push(new)?;
        }
        return Ok(buffer.finish());
    }
    let mut done = 0;
    for at in find_all(meter, text, old, most)? {
        buffer.push(&text[done..at])?;
        buffer.push(new)?;
        done = at + old.len();
    }
    buffer.push(&text[done..])?;
    Ok(buffer.finish())
}

fn split(meter: &Rc<Meter>, text: &Text, arguments: &mut Arguments, last: bool) -> Outcome<Value> {
    let separator = arguments.take_text("sep")?;
    let most = arguments.take_int("maxsplit")?.unwrap_or(-1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    meter.work(text.len())?;
    match separator {
        Some(separator) if separator.is_empty() => return Err("empty separator".into()),
        Some(separator) if last => {
            let reversed = |text: &[Glyph]| text.iter().rev().copied().collect::<Vec<_>>();
            let found = find_all(meter, &reversed(text), &reversed(&separator), most)?;
            let mut end = text.len();
            for at in found {
                let start = text.len() - at;
                parts.push(Value::copy(meter, &text[start..end])?);
                end = start - separator.len();
            }
            parts.push(Value::copy(meter, &text[..end])?);
            parts.reverse();
        }
        Some(separator) => {
            let mut done = 0;
            for at in find_all(meter, text, &separator, most)? {
                parts.push(Value::copy(meter, &text[done..at])?);
                done = at + separator.len();
            }
            parts.push(Value::copy(meter, &text[done..])?);
        }
        None => {
            let mut rest: &[Glyph] = text;
            loop {
                rest = strip(rest, None, !last, last);
                if rest.is_empty() {
                    break;
                }
                if parts.len() == most {
                    parts.push(Value::copy(meter, rest)?);
                    break;
                }
                let (part, after) = if last {
                    let start = rest.iter().rposition(is_space).map_or(0, |at| at + 1);
                    (&rest[start..], &rest[..start])
                } else {
                    let end = rest.iter().position(is_space).unwrap_or(rest.len());
                    rest.split_at(end)
                };
                parts.push(Value::copy(meter, part)?);
                rest = after;
            }
            if last {
                parts.reverse();
            }
        }
    }
    Value::list(meter, parts)
}

fn split_lines(meter: &Rc<Meter>, text: &[Glyph], keep: bool) -> Outcome<Value> {
    let mut lines = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(glyph) = text.get(at) {
        let ends = matches!(
            glyph.char(),
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        at += 1;
        if ends {
            let end = at - 1;
            if glyph.char() == '\r' && text.get(at).is_some_and(|next| next.char() == '\n') {
                at += 1;
            }
            lines.push(Value::copy(
                meter,
                &text[start..if keep { at } else { end }],
            )?);
            start = at;
        }
    }
    if start < text.len() {
        lines.push(Value::copy(meter, &text[start..])?);
    }
    Value::list(meter, lines)
}
