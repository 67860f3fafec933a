//! JSON as Python's `json.dumps` writes it.

use std::rc::Rc;

use super::arguments::Arguments;
use super::meter::{Meter, Outcome};
use super::print;
use super::text::{Buffer, Glyph};
use super::value::Value;

struct Style {
    ascii: bool,
    indent: Option<Vec<Glyph>>,
    item: Vec<Glyph>,
    name: Vec<Glyph>,
    sorted: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as Hugging Face's libraries
/// have it.
pub(super) fn tojson(
    meter: &Rc<Meter>,
    value: &Value,
    arguments: &mut Arguments,
) -> Outcome<Value> {
    let written = |text: &str| text.chars().map(Glyph::written).collect::<Vec<_>>();
    let ascii = arguments.take("ensure_ascii")?;
    let indent = match arguments.take("indent")? {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text.to_vec()),
        Some(other) => {
            let width = other.as_int().ok_or("tojson: indent is no number")?;
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            // As wide as any template has it; a bound because the template chooses it.
            if width > 1000 {
                return Err(format!("tojson: an indent of {width} is too wide").into());
            }
            Some(vec![Glyph::written(' '); width])
        }
    };
    let (item, name) = match arguments.take("separators")? {
        None | Some(Value::None) => (
            written(if indent.is_some() { "," } else { ", " }),
            written(": "),
        ),
        Some(Value::List(list) | Value::Tuple(list)) => match list.items.as_slice() {
            [Value::Text(item), Value::Text(name)] => (item.to_vec(), name.to_vec()),
            _ => return Err("tojson: separators are two texts".into()),
        },
        Some(_) => return Err("tojson: separators are two texts".into()),
    };
    let sorted = arguments.take("sort_keys")?;
    let style = Style {
        ascii: ascii.is_some_and(|value| value.is_true()),
        indent,
        item,
        name,
        sorted: sorted.is_some_and(|value| value.is_true()),
    };
    let mut buffer = Buffer::new(meter)?;
    style.write(meter, &mut buffer, value, 0)?;
    Ok(Value::Text(buffer.finish()))
}

impl Style {
    fn write(
        &self,
        meter: &Rc<Meter>,
        buffer: &mut Buffer,
        value: &Value,
        depth: usize,
    ) -> Outcome<()> {
        match value {
            Value::None => buffer.push_str("null"),
            Value::Bool(true) => buffer.push_str("true"),
            Value::Bool(false) => buffer.push_str("false"),
            Value::Int(value) => buffer.push_str(&value.to_string()),
            Value::Float(value) => buffer.push_str(&float(*value)),
            Value::Text(text) => self.write_text(buffer, text),
            Value::List(list) | Value::Tuple(list) => {
                if list.items.is_empty() {
                    return buffer.push_str("[]");
                }
                buffer.push_str("[")?;
                for (index, item) in list.items.iter().enumerate() {
                    self.begin(buffer, index, depth + 1)?;
                    self.write(meter, buffer, item, depth + 1)?;
                }
                self.line(buffer, depth)?;
                buffer.push_str("]")
            }
            Value::Dict(dict) => {
                if dict.members.is_empty() {
                    return buffer.push_str("{}");
                }
                let mut members: Vec<&(Value, Value)> = dict.members.iter().collect();
                if self.sorted {
                    super::sequences::sort_by(meter, &mut members, |a, b| {
                        a.0.compare(meter, &b.0)
                    })?;
                }
                buffer.push_str("{")?;
                for (index, (name, member)) in members.into_iter().enumerate() {
                    self.begin(buffer, index, depth + 1)?;
                    self.write_name(buffer, name)?;
                    buffer.push(&self.name)?;
                    self.write(meter, buffer, member, depth + 1)?;
                }
                self.line(buffer, depth)?;
                buffer.push_str("}")
            }
            other => {
                Err(format!("Object of type {} is not JSON serializable", other.kind()).into())
            }
        }
    }

    fn begin(&self, buffer: &mut Buffer, index: usize, depth: usize) -> Outcome<()> {
        if index > 0 {
            buffer.push(&self.item)?;
        }
        self.line(buffer, depth)
    }

    fn line(&self, buffer: &mut Buffer, depth: usize) -> Outcome<()> {
        let Some(indent) = &self.indent else {
            return Ok(());
        };
        buffer.push_str("\n")?;
        (0..depth).try_for_each(|_| buffer.push(indent))
    }

    fn write_name(&self, buffer: &mut Buffer, name: &Value) -> Outcome<()> {
        match name {
            Value::Text(text) => self.write_text(buffer, text),
            Value::None => buffer.push_str("\"null\""),
            Value::Bool(value) => buffer.push_str(&format!("\"{value}\"")),
            Value::Int(value) => buffer.push_str(&format!("\"{value}\"")),
            Value::Float(value) => buffer.push_str(&format!("\"{}\"", float(*value))),
            other => Err(format!("a key of JSON cannot be a {}", other.kind()).into()),
        }
    }

    fn write_text(&self, buffer: &mut Buffer, text: &[Glyph]) -> Outcome<()> {
        buffer.push_str("\"")?;
        for glyph in text {
            let c = glyph.char();
            match c {
                '"' => buffer.push_as(*glyph, "\\\"")?,
                '\\' => buffer.push_as(*glyph, "\\\\")?,
                '\n' => buffer.push_as(*glyph, "\\n")?,
                '\r' => buffer.push_as(*glyph, "\\r")?,
                '\t' => buffer.push_as(*glyph, "\\t")?,
                '\x08' => buffer.push_as(*glyph, "\\b")?,
                '\x0c' => buffer.push_as(*glyph, "\\f")?,
                '\0'..='\x1f' => buffer.push_as(*glyph, &format!("\\u{:04x}", c as u32))?,
                _ if self.ascii && c > '~' => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        buffer.push_as(*glyph, &format!("\\u{unit:04x}"))?;
                    }
                }
                _ => buffer.push_glyph(*glyph)?,
            }
        }
        buffer.push_str("\"")
    }
}

fn float(value: f64) -> String {
    match print::float(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        number => number.into(),
    }
}
