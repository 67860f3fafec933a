//! Values as Python prints them: `str` and `repr`.

use std::rc::Rc;

use super::meter::{Meter, Outcome};
use super::text::{Buffer, Glyph, Text};
use super::value::Value;

/// `str(value)`.
pub(super) fn to_text(meter: &Rc<Meter>, value: &Value) -> Outcome<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut buffer = Buffer::new(meter)?;
    print(&mut buffer, value)?;
    Ok(buffer.finish())
}

/// Writes `str(value)`.
pub(super) fn print(buffer: &mut Buffer, value: &Value) -> Outcome<()> {
    match value {
        Value::Text(text) => buffer.push(text),
        Value::Undefined => Ok(()),
        other => print_repr(buffer, other),
    }
}

/// Writes `repr(value)`.
pub(super) fn print_repr(buffer: &mut Buffer, value: &Value) -> Outcome<()> {
    match value {
        Value::Undefined => buffer.push_str("Undefined"),
        Value::None => buffer.push_str("None"),
        Value::Bool(true) => buffer.push_str("True"),
        Value::Bool(false) => buffer.push_str("False"),
        Value::Int(value) => buffer.push_str(&value.to_string()),
        Value::Float(value) => buffer.push_str(&float(*value)),
        Value::Text(text) => quote(buffer, text),
        Value::List(list) => {
            buffer.push_str("[")?;
            print_items(buffer, &list.items)?;
            buffer.push_str("]")
        }
        Value::Tuple(list) => {
            buffer.push_str("(")?;
            print_items(buffer, &list.items)?;
            buffer.push_str(if list.items.len() == 1 { ",)" } else { ")" })
        }
        Value::Dict(dict) => {
            buffer.push_str("{")?;
            for (index, (name, member)) in dict.members.iter().enumerate() {
                if index > 0 {
                    buffer.push_str(", ")?;
                }
                print_repr(buffer, name)?;
                buffer.push_str(": ")?;
                print_repr(buffer, member)?;
            }
            buffer.push_str("}")
        }
        other => {
            buffer.push_str("<")?;
            buffer.push_str(other.kind())?;
            buffer.push_str(">")
        }
    }
}

fn print_items(buffer: &mut Buffer, items: &[Value]) -> Outcome<()> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            buffer.push_str(", ")?;
        }
        print_repr(buffer, item)?;
    }
    Ok(())
}

fn quote(buffer: &mut Buffer, text: &[Glyph]) -> Outcome<()> {
    let has = |quote: char| text.contains(&Glyph::written(quote));
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    buffer.push_glyph(Glyph::written(quote))?;
    for glyph in text {
        let c = glyph.char();
        match c {
            '\\' => buffer.push_as(*glyph, "\\\\")?,
            '\n' => buffer.push_as(*glyph, "\\n")?,
            '\r' => buffer.push_as(*glyph, "\\r")?,
            '\t' => buffer.push_as(*glyph, "\\t")?,
            _ if c == quote => {
                buffer.push_as(*glyph, "\\")?;
                buffer.push_glyph(*glyph)?;
            }
            _ if is_printable(c) => buffer.push_glyph(*glyph)?,
            _ => {
                let code = c as u32;
                let escaped = match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                buffer.push_as(*glyph, &escaped)?;
            }
        }
    }
    buffer.push_glyph(Glyph::written(quote))
}

/// Whether `repr` leaves a character as it is: all but controls, formats, separators other than the space, and
/// codes without a character. (Codes that are not assigned yet are taken for characters.)
fn is_printable(c: char) -> bool {
    if c.is_control() || (c.is_whitespace() && c != ' ') {
        return false;
    }
    !matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{10ffff}')
}

/// `repr` of a float: the shortest digits that give it back, an exponent below 1e-4 and from 1e16.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
