//! Python's two ways to format: `%` and `str.format`.

use std::rc::Rc;

use super::arguments::Arguments;
use super::meter::{Meter, Outcome};
use super::operators;
use super::print::{self, to_text};
use super::text::{Buffer, Glyph, Text, plain};
use super::value::Value;

/// How one value is to look.
struct Spec {
    fill: Glyph,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    /// `+`, `-` or a space.
    sign: char,
    alternate: bool,
    grouped: Option<char>,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

/// Digits after the point: more than any float has.
const MAX_PRECISION: usize = 400;

/// `format % arguments`; with a dictionary, `%(name)s` finds its members.
pub(super) fn percent(
    meter: &Rc<Meter>,
    format: &Text,
    mut arguments: Arguments,
    mapping: Option<&Value>,
) -> Outcome<Value> {
    const SHORT: &str = "not enough arguments for format string";
    meter.work(4 * format.len())?;
    let mut buffer = Buffer::new(meter)?;
    let mut rest: &[Glyph] = format;
    let mut named = false;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if first.char() != '%' {
            buffer.push_glyph(*first)?;
            continue;
        }
        let mut value = None;
        if rest.first().is_some_and(|glyph| glyph.char() == '(') {
            let end = rest.iter().position(|glyph| glyph.char() == ')');
            let end = end.ok_or("incomplete format key")?;
            let mapping = mapping.ok_or("format requires a mapping")?;
            let name = Value::copy(meter, &rest[1..end])?;
            let member = mapping.member(meter, &name)?;
            value = Some(member.ok_or_else(|| format!("no key {}", plain(&rest[1..end])))?);
            named = true;
            rest = &rest[end + 1..];
        }
        let mut spec = Spec::new();
        let mut zero = false;
        while let Some((flag, after)) = rest.split_first() {
            match flag.char() {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = '+',
                ' ' if spec.sign != '+' => spec.sign = ' ',
                ' ' => {}
                '0' => zero = true,
                '#' => spec.alternate = true,
                _ => break,
            }
            rest = after;
        }
        let mut size = |rest: &mut &[Glyph]| -> Outcome<Option<usize>> {
            if rest.first().is_some_and(|glyph| glyph.char() == '*') {
                *rest = &rest[1..];
                let value = arguments.positional.pop_front().ok_or(SHORT)?;
                let value = value.as_int().ok_or("* wants int")?;
                return Ok(Some(usize::try_from(value.max(0)).unwrap_or(usize::MAX)));
            }
            Ok(number(rest))
        };
        spec.width = size(&mut rest)?.unwrap_or(0);
        if rest.first().is_some_and(|glyph| glyph.char() == '.') {
            rest = &rest[1..];
            spec.precision = Some(size(&mut rest)?.unwrap_or(0));
        }
        while rest
            .first()
            .is_some_and(|glyph| matches!(glyph.char(), 'h' | 'l' | 'L'))
        {
            rest = &rest[1..];
        }
        let (kind, after) = rest.split_first().ok_or("incomplete format")?;
        rest = after;
        if kind.char() == '%' {
            buffer.push_glyph(*kind)?;
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => arguments.positional.pop_front().ok_or(SHORT)?,
        };
        spec.kind = kind.char();
        match spec.kind {
            's' | 'r' | 'a' => {
                let text = if spec.kind == 's' {
                    to_text(meter, &value)?
                } else {
                    repr(meter, &value)?
                };
                spec.align = spec.align.or(Some('>'));
                spec.kind = 's';
                spec.text(&mut buffer, &text)?;
            }
            'c' => {
                let text = match (&value, value.as_int()) {
                    (Value::Text(text), _) if text.len() == 1 => text.clone(),
                    (_, Some(code)) => {
                        let c = u32::try_from(code).ok().and_then(char::from_u32);
                        // Numbers do not say where they come from.
                        let c = Glyph::input(c.ok_or("%c is out of range")?);
                        Text::copy(meter, &[c])?
                    }
                    _ => return Err("%c requires int or char".into()),
                };
                spec.align = spec.align.or(Some('>'));
                spec.kind = 's';
                spec.precision = None;
                spec.text(&mut buffer, &text)?;
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let whole = match &value {
                    Value::Float(value) if "diu".contains(spec.kind) => Some(value.trunc() as i128),
                    other => other.as_int(),
                };
                let whole = whole.ok_or_else(|| {
                    format!(
                        "%{} format: a number is required, not {}",
                        spec.kind,
                        value.kind()
                    )
                })?;
                if zero && spec.align.is_none() {
                    spec.zero();
                }
                if "iu".contains(spec.kind) {
                    spec.kind = 'd';
                }
                spec.int(&mut buffer, whole)?;
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let float = value.as_float().ok_or("must be real number")?;
                if zero && spec.align.is_none() {
                    spec.zero();
                }
                spec.float(&mut buffer, float)?;
            }
            other => return Err(format!("unsupported format character {other:?}").into()),
        }
    }
    if mapping.is_none() && !named && !arguments.positional.is_empty() {
        return Err("not all arguments converted during string formatting".into());
    }
    Ok(Value::Text(buffer.finish()))
}

/// `format.format(*arguments)`.
pub(super) fn braces(meter: &Rc<Meter>, format: &Text, arguments: &Arguments) -> Outcome<Value> {
    let mut buffer = Buffer::new(meter)?;
    let mut next = 0;
    write_braces(meter, &mut buffer, format, arguments, &mut next, 1)?;
    Ok(Value::Text(buffer.finish()))
}

fn write_braces(
    meter: &Rc<Meter>,
    buffer: &mut Buffer,
    format: &[Glyph],
    arguments: &Arguments,
    next: &mut usize,
    nested: usize,
) -> Outcome<()> {
    let mut rest = format;
    meter.work(4 * format.len())?;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let doubled = rest.first() == Some(first);
        match first.char() {
            '{' | '}' if doubled => {
                buffer.push_glyph(*first)?;
                rest = &rest[1..];
            }
            '}' => return Err("Single '}' encountered in format string".into()),
            '{' => {
                let mut open = 1;
                let end = rest.iter().position(|glyph| {
                    match glyph.char() {
                        '{' => open += 1,
                        '}' => open -= 1,
                        _ => {}
                    }
                    open == 0
                });
                let end = end.ok_or("expected '}' before end of string")?;
                let field = &rest[..end];
                rest = &rest[end + 1..];
                let head = field
                    .iter()
                    .position(|glyph| matches!(glyph.char(), ':' | '!'))
                    .unwrap_or(field.len());
                let mut value = field_value(meter, &plain(&field[..head]), arguments, next)?;
                let mut spec = &field[head..];
                if let [mark, conversion, after @ ..] = spec
                    && mark.char() == '!'
                {
                    value = Value::Text(match conversion.char() {
                        's' => to_text(meter, &value)?,
                        'r' | 'a' => repr(meter, &value)?,
                        _ => return Err("unknown conversion specifier".into()),
                    });
                    spec = after;
                }
                let spec = spec.strip_prefix(&[Glyph::written(':')]).unwrap_or(spec);
                if spec.iter().any(|glyph| glyph.char() == '{') {
                    if nested == 0 {
                        return Err("Max string recursion exceeded".into());
                    }
                    let mut inner = Buffer::new(meter)?;
                    write_braces(meter, &mut inner, spec, arguments, next, nested - 1)?;
                    write_value(meter, buffer, &value, &inner.finish())?;
                } else {
                    write_value(meter, buffer, &value, spec)?;
                }
            }
            _ => buffer.push_glyph(*first)?,
        }
    }
    Ok(())
}

/// The value of a field such as `0.name[3]`.
fn field_value(
    meter: &Rc<Meter>,
    field: &str,
    arguments: &Arguments,
    next: &mut usize,
) -> Outcome<Value> {
    meter.work(16 + arguments.named.len())?;
    let head = field.find(['.', '[']).unwrap_or(field.len());
    let (name, mut path) = field.split_at(head);
    let found = if name.is_empty() {
        *next += 1;
        arguments.positional.get(*next - 1).cloned()
    } else if let Ok(index) = name.parse::<usize>() {
        arguments.positional.get(index).cloned()
    } else {
        let named = arguments.named.iter().find(|(found, _)| found == name);
        named.map(|(_, value)| value.clone())
    };
    let mut value = found.ok_or_else(|| format!("format has no argument {field:?}"))?;
    while !path.is_empty() {
        let index;
        if let Some(after) = path.strip_prefix('[') {
            let (inside, after) = after
                .split_once(']')
                .ok_or("Missing ']' in format string")?;
            index = match inside.parse() {
                Ok(number) => Value::Int(number),
                Err(_) => Value::text(meter, inside)?,
            };
            path = after;
        } else {
            return Err("attributes in a format string are not supported".into());
        }
        value = operators::item(meter, &value, &index)?;
    }
    Ok(value)
}

/// `format(value, spec)`.
fn write_value(
    meter: &Rc<Meter>,
    buffer: &mut Buffer,
    value: &Value,
    spec: &[Glyph],
) -> Outcome<()> {
    if spec.is_empty() {
        return print::print(buffer, value);
    }
    let spec = Spec::parse(spec)?;
    let numeric = "dxXobceEfFgGn%".contains(spec.kind);
    match value {
        Value::Float(value) => spec.float(buffer, *value),
        Value::Int(_) | Value::Bool(_) if numeric || spec.kind == ' ' => {
            let whole = value.as_int().unwrap_or(0);
            if matches!(value, Value::Bool(_)) && spec.kind == ' ' {
                return spec.text(buffer, &to_text(meter, value)?);
            }
            match spec.kind {
                'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' => spec.float(buffer, whole as f64),
                _ => spec.int(buffer, whole),
            }
        }
        Value::Text(text) if matches!(spec.kind, ' ' | 's') => spec.text(buffer, text),
        other => Err(format!("this format is not one of a '{}' object", other.kind()).into()),
    }
}

fn repr(meter: &Rc<Meter>, value: &Value) -> Outcome<Text> {
    let mut buffer = Buffer::new(meter)?;
    print::print_repr(&mut buffer, value)?;
    Ok(buffer.finish())
}

/// Reads digits.
fn number(rest: &mut &[Glyph]) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some((first, after)) = rest.split_first() {
        let Some(digit) = first.char().to_digit(10) else {
            break;
        };
        let tens = value.unwrap_or(0).saturating_mul(10);
        value = Some(tens.saturating_add(digit as usize));
        *rest = after;
    }
    value
}

impl Spec {
    fn new() -> Self {
        Self {
            fill: Glyph::written(' '),
            align: None,
            sign: '-',
            alternate: false,
            grouped: None,
            width: 0,
            precision: None,
            kind: ' ',
        }
    }

    /// `[[fill]align][sign][#][0][width][,][.precision][type]`.
    fn parse(mut rest: &[Glyph]) -> Outcome<Self> {
        let mut spec = Self::new();
        let align = |glyph: &Glyph| matches!(glyph.char(), '<' | '>' | '^' | '=');
        if rest.get(1).is_some_and(align) {
            spec.fill = rest[0];
            spec.align = Some(rest[1].char());
            rest = &rest[2..];
        } else if rest.first().is_some_and(align) {
            spec.align = Some(rest[0].char());
            rest = &rest[1..];
        }
        let mut eat = |set: &str| {
            let first = rest.first().map(|glyph| glyph.char());
            let found = first.filter(|c| set.contains(*c));
            if found.is_some() {
                rest = &rest[1..];
            }
            found
        };
        spec.sign = eat("+- ").unwrap_or('-');
        spec.alternate = eat("#").is_some();
        if eat("0").is_some() && spec.align.is_none() {
            spec.zero();
        }
        spec.width = number(&mut rest).unwrap_or(0);
        let mut eat = |set: &str| {
            let first = rest.first().map(|glyph| glyph.char());
            let found = first.filter(|c| set.contains(*c));
            if found.is_some() {
                rest = &rest[1..];
            }
            found
        };
        spec.grouped = eat(",_");
        if eat(".").is_some() {
            spec.precision = number(&mut rest);
        }
        match rest {
            [] => {}
            [kind] => spec.kind = kind.char(),
            _ => return Err("Invalid format specifier".into()),
        }
        Ok(spec)
    }

    fn zero(&mut self) {
        self.fill = Glyph::written('0');
        self.align = Some('=');
    }

    fn text(&self, buffer: &mut Buffer, text: &[Glyph]) -> Outcome<()> {
        let shown = &text[..self.precision.unwrap_or(text.len()).min(text.len())];
        let space = self.width.saturating_sub(shown.len());
        let before = match self.align {
            Some('>') => space,
            Some('^') => space / 2,
            _ => 0,
        };
        buffer.fill(self.fill, before)?;
        buffer.push(shown)?;
        buffer.fill(self.fill, space - before)
    }

    fn int(&self, buffer: &mut Buffer, value: i128) -> Outcome<()> {
        let size = value.unsigned_abs();
        let (prefix, mut digits) = match self.kind {
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0o", format!("{size:o}")),
            'b' => ("0b", format!("{size:b}")),
            'c' => {
                let c = u32::try_from(value).ok().and_then(char::from_u32);
                let c = Glyph::input(c.ok_or("%c is out of range")?);
                return self.text(buffer, &[c]);
            }
            _ => ("", size.to_string()),
        };
        if let Some(least) = self.precision.filter(|least| *least > digits.len()) {
            if least > MAX_PRECISION {
                return Err("the precision of a format is too large".into());
            }
            digits.insert_str(0, &"0".repeat(least - digits.len()));
        }
        let prefix = if self.alternate { prefix } else { "" };
        self.digits(buffer, value < 0, prefix, &digits)
    }

    fn float(&self, buffer: &mut Buffer, value: f64) -> Outcome<()> {
        let precision = self.precision.unwrap_or(6);
        if precision > MAX_PRECISION {
            return Err("the precision of a format is too large".into());
        }
        let size = value.abs();
        let digits = if !value.is_finite() {
            print::float(size)
        } else {
            match self.kind.to_ascii_lowercase() {
                'f' => format!("{size:.precision$}"),
                '%' => format!("{:.precision$}%", size * 100.0),
                'e' => exponent(&format!("{size:.precision$e}")),
                ' ' if self.precision.is_none() => print::float(size),
                'g' | ' ' | 'n' => general(size, precision.max(1), self.kind == ' '),
                _ => return Err(format!("Unknown format code '{}' for a float", self.kind).into()),
            }
        };
        let digits = if self.kind.is_ascii_uppercase() {
            digits.to_uppercase()
        } else {
            digits
        };
        self.digits(
            buffer,
            value.is_sign_negative() && !value.is_nan(),
            "",
            &digits,
        )
    }

    /// Writes a number with its sign, grouped and aligned.
    fn digits(
        &self,
        buffer: &mut Buffer,
        negative: bool,
        prefix: &str,
        digits: &str,
    ) -> Outcome<()> {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, '+') => "+",
            (false, ' ') => " ",
            _ => "",
        };
        let grouped = match self.grouped {
            None => digits.to_owned(),
            Some(separator) => {
                let whole = digits.find(['.', 'e']).unwrap_or(digits.len());
                let mut text = String::new();
                for (index, digit) in digits[..whole].chars().enumerate() {
                    if index > 0 && (whole - index).is_multiple_of(3) {
                        text.push(separator);
                    }
                    text.push(digit);
                }
                text + &digits[whole..]
            }
        };
        let length = sign.len() + prefix.len() + grouped.chars().count();
        let space = self.width.saturating_sub(length);
        let (before, inside) = match self.align {
            Some('<') => (0, 0),
            Some('^') => (space / 2, 0),
            Some('=') => (0, space),
            _ => (space, 0),
        };
        buffer.fill(self.fill, before)?;
        buffer.push_str(sign)?;
        buffer.push_str(prefix)?;
        buffer.fill(self.fill, inside)?;
        buffer.push_str(&grouped)?;
        buffer.fill(self.fill, space - before - inside)
    }
}

/// Rust's `1e-5` as C's `1e-05`.
fn exponent(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, size) = match exponent.strip_prefix('-') {
        Some(size) => ('-', size),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{size:0>2}")
}

/// C's `%g`; a float without a type in Python keeps a digit after the point.
fn general(value: f64, precision: usize, keep_point: bool) -> String {
    let scientific = format!("{value:.*e}", precision - 1);
    let exponent_of = scientific.split_once('e').map(|(_, exponent)| exponent);
    let power: i32 = exponent_of
        .and_then(|power| power.parse().ok())
        .unwrap_or(0);
    let precision = i32::try_from(precision).unwrap_or(i32::MAX);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..precision).contains(&power) {
        let places = usize::try_from(precision - 1 - power).unwrap_or(0);
        let text = trim(&format!("{value:.places$}"));
        return if keep_point && !text.contains('.') {
            text + ".0"
        } else {
            text
        };
    }
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    exponent(&format!("{}e{power}", trim(digits)))
}
