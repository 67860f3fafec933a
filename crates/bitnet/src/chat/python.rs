//! What Python's template environment offers beyond Jinja itself.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Ends the rendering with the template's own message.
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON in the spacing of Python's `json.dumps`, with `indent` if given, nothing escaped that JSON itself
/// does not demand.
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    /// Wider than any template has; a bound because the template chooses it.
    const MAX_INDENT: usize = 16;
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let wrong = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let mut out = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(width) if width <= MAX_INDENT => {
            let indent = " ".repeat(width);
            let style = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, style))
        }
        Some(width) => return Err(wrong(format!("tojson: an indent of {width} is too wide"))),
    };
    written.map_err(|error| wrong(format!("tojson: {error}")))?;
    let text = String::from_utf8(out).map_err(|error| wrong(error.to_string()))?;
    if ascii != Some(true) {
        return Ok(text.into());
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(escaped.into())
}

/// `", "` and `": "` between things, no line ends.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
    ) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// The moment `seconds` after 1970 began, in UTC, by the format of C's `strftime`.
pub(super) fn strftime(seconds: i64, format: &str) -> Result<String, Error> {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let month_name = MONTHS[(month - 1) as usize];
    let day_name = DAYS[days.rem_euclid(7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year.rem_euclid(100))),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{:02}", (hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{:02}", second % 60)),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{:02}", second % 60)),
            Some('%') => out.push('%'),
            other => {
                let found = other.map(String::from).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: the format %{found} is not known"),
                ));
            }
        }
    }
    Ok(out)
}

/// Year, month and day of the Gregorian calendar, `days` after 1 January 1970.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let from_march_0 = days.saturating_add(719_468);
    let (era, day) = (from_march_0.div_euclid(ERA), from_march_0.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day)
}

/// `source` with the blocks `{% generation %}` and `{% endgeneration %}`, which mark answers for training and
/// print nothing, replaced by blocks that Jinja has.
pub(super) fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, block) = (&rest[..start], &rest[start..start + length + 2]);
        out.push_str(before);
        let inside = &block[2..block.len() - 2];
        match inside.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&block.replace("generation", "if true")),
            "endgeneration" => out.push_str(&block.replace("endgeneration", "endif")),
            _ => out.push_str(block),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        let format = "%Y-%m-%d %H:%M:%S %a %b %I%p %e %y %%";
        assert_eq!(
            strftime(0, format).unwrap(),
            "1970-01-01 00:00:00 Thu Jan 12AM  1 70 %"
        );
        assert_eq!(
            strftime(951_827_696, "%F %T %A %d %B").unwrap(),
            "2000-02-29 12:34:56 Tuesday 29 February"
        );
        assert_eq!(strftime(-1, "%F %T").unwrap(), "1969-12-31 23:59:59");
        assert_eq!(
            strftime(4_107_542_400, "%F %A").unwrap(),
            "2100-03-01 Monday"
        );
        assert!(strftime(0, "%Q").is_err());
        assert!(strftime(0, "%").is_err());
        for extreme in [i64::MIN, i64::MAX] {
            assert!(strftime(extreme, format).is_ok());
        }
    }

    #[test]
    fn generation_blocks_become_conditions() {
        assert_eq!(
            without_generation_blocks(
                "a{%- generation -%}b{% endgeneration %}{% if generation %}{% x"
            ),
            "a{%- if true -%}b{% endif %}{% if generation %}{% x"
        );
    }
}
