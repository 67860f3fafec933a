//! Which modules a quantization leaves alone: `modules_to_not_convert`, by the rule of transformers.
//!
//! `should_convert_module` (transformers 5.24, `quantizers/quantizers_utils.py`) leaves a module alone if a pattern, taken
//! for a regular expression of Python, matches its name from the start up to a dot or the end, or if the name ends with
//! the pattern as it is written:
//!
//! ```python
//! re.match(rf"(?:{key})(?:(?<=\.)|(?=\.|$))", full_name) or full_name.endswith(key)
//! ```

use crate::file::quoted;
use crate::{Error, Result};
use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

/// The field that patterns come from.
const FIELD: &str = "modules_to_not_convert";
/// More patterns than any model needs: each of its projections by name.
const MOST_PATTERNS: usize = 8192;
/// The longest pattern believed, in characters.
const LONGEST_PATTERN: usize = 1024;
/// The deepest groups of a pattern.
const DEEPEST: usize = 32;
/// The most repetitions that a pattern may count.
const MOST_TIMES: usize = 1000;
/// Steps of one match, and bytes of one program.
const MOST_STEPS: usize = 20_000;
const MOST_PROGRAM: usize = 1 << 20;

/// Patterns of modules that stay as they are.
#[derive(Debug, Default)]
pub(super) struct Modules(Vec<(String, Regex)>);

impl Modules {
    /// The patterns in a list, or none for null. (With null, transformers leaves the head and embeddings alone, which no
    /// projection is.)
    ///
    /// # Errors
    /// [`Error::Malformed`], about `file`, if it is no list of regular expressions.
    pub(super) fn read(file: &str, list: &Json) -> Result<Self> {
        let wrong = |expected: &str, found: &dyn ToString| {
            Error::malformed(file, FIELD, expected, found.to_string())
        };
        let list = match list {
            Json::Null => return Ok(Self::default()),
            Json::Array(list) => list,
            other => return Err(wrong("a list of module names, or null", other)),
        };
        if list.len() > MOST_PATTERNS {
            let expected = format!("at most {MOST_PATTERNS} patterns");
            return Err(wrong(&expected, &list.len()));
        }
        let pattern = |entry: &Json| {
            let Json::String(pattern) = entry else {
                return Err(wrong("names and patterns", entry));
            };
            let regex = compile(pattern).map_err(|why| {
                let found = format!("{} ({why})", quoted(pattern.as_bytes()));
                wrong("regular expressions of Python", &found)
            })?;
            Ok((pattern.clone(), regex))
        };
        list.iter().map(pattern).collect::<Result<_>>().map(Self)
    }

    /// Whether the module called `name` stays as it is.
    ///
    /// # Errors
    /// [`Error::Malformed`], about `file`, if a pattern takes too many steps.
    pub(super) fn contain(&self, file: &str, name: &str) -> Result<bool> {
        for (pattern, regex) in &self.0 {
            let matches = name.ends_with(pattern.as_str())
                || regex.is_match(name).map_err(|error| {
                    let found = format!("{} ({error})", quoted(pattern.as_bytes()));
                    Error::malformed(file, FIELD, "patterns that are soon decided", found)
                })?;
            if matches {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let pattern = translate(pattern)?;
    RegexBuilder::new(&format!(r"\A(?:{pattern})(?:(?<=\.)|(?=\.|\z))"))
        .backtrack_limit(MOST_STEPS)
        .delegate_size_limit(MOST_PROGRAM)
        .build()
        .map_err(|error| error.to_string())
}

/// A pattern of Python's `re` in the syntax of fancy-regex, where the two differ: escapes, braces that are no
/// repetition, classes, and groups that only one of them knows.
fn translate(pattern: &str) -> Result<String, String> {
    let chars: Vec<char> = pattern.chars().collect();
    if chars.len() > LONGEST_PATTERN {
        return Err(format!("it is longer than {LONGEST_PATTERN} characters"));
    }
    let mut translated = String::new();
    let (mut at, mut depth) = (0, 0usize);
    // Signs of the last repetition: its own, and one that makes it lazy or possessive.
    let mut repeated = 0;
    while let Some(&char) = chars.get(at) {
        let rest = &chars[at..];
        let brace = char == '{' && braces(rest, &mut String::new())? > 1;
        repeated = match (char, repeated) {
            ('?' | '+', 1) => 2,
            ('*' | '?' | '+', 0) => 1,
            ('{', 0) if brace => 1,
            ('*' | '?' | '+', _) => return Err("multiple repeat".into()),
            ('{', _) if brace => return Err("multiple repeat".into()),
            _ => 0,
        };
        match char {
            '\\' => at += escape(rest, false, &mut translated)?,
            '[' => at += class(rest, &mut translated)?,
            '(' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!("its groups are more than {DEEPEST} deep"));
                }
                at += group(rest, &mut translated)?;
                // A comment ends by itself.
                depth -= usize::from(chars[at - 1] == ')');
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("a ) without its (")?;
                translated.push(char);
                at += 1;
            }
            '{' => at += braces(rest, &mut translated)?,
            '}' | ']' => {
                literal(char, &mut translated);
                at += 1;
            }
            _ => {
                translated.push(char);
                at += 1;
            }
        }
    }
    Ok(translated)
}

/// A character that stands for itself, inside classes and out.
fn literal(char: char, out: &mut String) {
    if char.is_alphanumeric() || char == '_' {
        out.push(char);
    } else {
        out.push_str(&format!("\\x{{{:X}}}", u32::from(char)));
    }
}

/// Translates an escape; its length.
fn escape(rest: &[char], in_class: bool, out: &mut String) -> Result<usize, String> {
    let &[_, char, ..] = rest else {
        return Err("it ends with a backslash".into());
    };
    let hexadecimal = |digits: usize| {
        let text: String = rest.iter().skip(2).take(digits).collect();
        let number = u32::from_str_radix(&text, 16).ok();
        let number = number.filter(|_| text.len() == digits && !text.starts_with('+'));
        let char = number.and_then(char::from_u32);
        char.ok_or_else(|| format!("\\{char:?} without its {digits} digits"))
    };
    match char {
        'x' | 'u' | 'U' => {
            let digits = match char {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            literal(hexadecimal(digits)?, out);
            return Ok(2 + digits);
        }
        'd' | 'D' | 's' | 'S' | 'w' | 'W' => out.extend(['\\', char]),
        'a' | 'f' | 'n' | 'r' | 't' | 'v' => out.extend(['\\', char]),
        'b' if in_class => literal('\u{8}', out),
        'A' | 'b' | 'B' if !in_class => out.extend(['\\', char]),
        'Z' if !in_class => out.push_str(r"\z"),
        '0' => literal('\0', out),
        '1'..='9' if !in_class => {
            if rest.get(2).is_some_and(char::is_ascii_digit) {
                return Err("a number of two digits after a backslash".into());
            }
            out.extend(['\\', char]);
        }
        _ if char.is_ascii_alphanumeric() => return Err(format!("bad escape \\{char}")),
        _ => literal(char, out),
    }
    Ok(2)
}

/// Translates a class; its length.
fn class(rest: &[char], out: &mut String) -> Result<usize, String> {
    out.push('[');
    let mut at = 1;
    if rest.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        match rest.get(at) {
            None => return Err("a [ without its ]".into()),
            Some(']') if at > first => break,
            Some('\\') => at += escape(&rest[at..], true, out)?,
            // A range, unless it is the first or the last.
            Some('-') if at > first && rest.get(at + 1).is_some_and(|next| *next != ']') => {
                out.push('-');
                at += 1;
                if rest.get(at) == Some(&'\\') {
                    at += escape(&rest[at..], true, out)?;
                } else {
                    literal(rest[at], out);
                    at += 1;
                }
            }
            Some(&char) => {
                literal(char, out);
                at += 1;
            }
        }
    }
    out.push(']');
    Ok(at + 1)
}

/// Translates what opens a group; its length, or that of a whole comment.
fn group(rest: &[char], out: &mut String) -> Result<usize, String> {
    if rest.get(1) != Some(&'?') {
        out.push('(');
        return Ok(1);
    }
    let text: String = rest.iter().take(16).collect();
    if text.starts_with("(?#") {
        let end = rest.iter().position(|char| *char == ')');
        return end
            .map(|end| end + 1)
            .ok_or_else(|| "a ( without its )".into());
    }
    let openings = [
        "(?P<", "(?P=", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?(",
    ];
    if let Some(opening) = openings.iter().find(|opening| text.starts_with(**opening)) {
        out.push_str(opening);
        return Ok(opening.len());
    }
    let flags = text.trim_start_matches("(?");
    let flags: String = flags
        .chars()
        .take_while(|char| "imsux-".contains(*char))
        .collect();
    let length = 2 + flags.len();
    match rest.get(length) {
        Some(':') if !flags.is_empty() => {
            // Python's patterns are of Unicode anyway.
            let flags = flags.replace('u', "");
            out.push_str(&format!("(?{flags}:"));
            Ok(length + 1)
        }
        Some(')') if !flags.is_empty() => Err("flags that are not at its start".into()),
        _ => Err(format!("unknown group {}", quoted(text.as_bytes()))),
    }
}

/// Translates a repetition, or a brace that begins none; its length.
fn braces(rest: &[char], out: &mut String) -> Result<usize, String> {
    let end = rest.iter().position(|char| *char == '}');
    let inside: String = rest[1..end.unwrap_or(1)].iter().collect();
    let (low, high) = inside.split_once(',').unwrap_or((&inside, &inside));
    let number = |text: &str| text.chars().all(|char| char.is_ascii_digit());
    if end.is_none() || inside.is_empty() || !number(low) || !number(high) {
        literal('{', out);
        return Ok(1);
    }
    let low = if low.is_empty() { "0" } else { low };
    let times = |text: &str| match text.parse::<usize>() {
        Ok(times) if times <= MOST_TIMES => Ok(times),
        _ => Err(format!("more than {MOST_TIMES} repetitions")),
    };
    let low_times = times(low)?;
    if !high.is_empty() && times(high)? < low_times {
        return Err("a repetition whose end is before its beginning".into());
    }
    match inside.contains(',') {
        true => out.push_str(&format!("{{{low},{high}}}")),
        false => out.push_str(&format!("{{{low}}}")),
    }
    Ok(inside.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contains(pattern: &str, name: &str) -> bool {
        let modules = Modules::read("test", &json!([pattern])).expect(pattern);
        modules.contain("test", name).expect(pattern)
    }

    /// Values of transformers 5.24's `should_convert_module(name, [pattern])`, negated, under Python 3.11.
    #[test]
    fn patterns_are_those_of_transformers() {
        for (pattern, expected) in TRANSFORMERS {
            let found = NAMES.map(|name| contains(pattern, name));
            assert_eq!(found, expected, "{pattern:?}");
        }
    }

    #[test]
    fn what_python_does_not_compile_is_refused_by_name() {
        for pattern in REFUSED {
            let error = Modules::read("test", &json!(["lm_head", pattern]));
            let error = error.expect_err(pattern).to_string();
            assert!(error.contains("modules_to_not_convert"), "{error}");
            assert!(error.contains(&format!("{pattern:?}")), "{error}");
        }
    }

    #[test]
    fn lists_of_other_things_are_refused() {
        for list in [json!("lm_head"), json!([1]), json!([null]), json!({"a": 1})] {
            Modules::read("test", &list).expect_err("no list of names");
        }
        let none = Modules::read("test", &Json::Null).unwrap();
        assert!(!none.contain("test", NAMES[0]).unwrap());
    }

    #[test]
    fn hostile_patterns_end() {
        let deep = "(".repeat(1000);
        let long = "a".repeat(5000);
        for pattern in [&deep, &long] {
            Modules::read("test", &json!([pattern])).expect_err("too much");
        }
        let slow = Modules::read("test", &json!([r"(?:(?=(.*.*.*.*.*))\1x)*y"])).unwrap();
        let name = "a.".repeat(200);
        // Either answer is right, if it comes.
        let _ = slow.contain("test", &name);
    }

    /// The four names that every pattern was tried on.
    const NAMES: [&str; 4] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.10.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
        "model.layers.2.mlp.gate_proj",
    ];

    /// A pattern, and whether each of [`NAMES`] stays as it is.
    const TRANSFORMERS: [(&str, [bool; 4]); 49] = [
        (
            "model.layers.0.self_attn.q_proj",
            [true, false, false, false],
        ),
        ("q_proj", [true, true, false, false]),
        ("model.layers.0", [true, false, false, false]),
        ("model.layers.0.self_attn", [true, false, false, false]),
        ("mlp.down_proj", [false, false, true, false]),
        ("layers.0.self_attn.q_proj", [true, false, false, false]),
        ("self_attn", [false, false, false, false]),
        ("model.layers.1", [false, false, true, false]),
        ("model.layers.[02].*", [true, false, false, true]),
        (".*q_proj", [true, true, false, false]),
        (".*", [true, true, true, true]),
        ("model.layers.1.", [false, true, true, false]),
        ("model.layers.1|model.layers.2", [false, false, true, true]),
        ("proj", [true, true, true, true]),
        ("q_pro", [false, false, false, false]),
        ("lm_head", [false, false, false, false]),
        ("model", [true, true, true, true]),
        ("mod", [false, false, false, false]),
        ("", [true, true, true, true]),
        ("model.layers.(0|2)", [true, false, false, true]),
        (r"model.layers.\d", [true, false, true, true]),
        (r"model.layers.\d+", [true, true, true, true]),
        (r"model\.layers\.[0-9]+\.mlp", [false, false, true, true]),
        ("(?!model.layers.0).*_proj", [false, true, true, true]),
        (".*mlp.(?:gate|up)_proj", [false, false, false, true]),
        (".*mlp.gate", [false, false, false, false]),
        (".*mlp.gate.*", [false, false, false, true]),
        ("(?i:MODEL.layers.0)", [true, false, false, false]),
        ("model.layers.[!-1].*", [true, true, true, false]),
        ("model.layers.[^0-1].*", [false, false, false, true]),
        ("model.layers.1{1,2}", [false, false, true, false]),
        ("model.layers.1{,1}", [true, true, true, true]),
        ("model{layers", [false, false, false, false]),
        ("model.layers.{0}", [true, true, true, true]),
        ("(?P<n>model).layers.1", [false, false, true, false]),
        (r"model.layers.(\d).*\1", [false, false, false, false]),
        ("^model.layers.0", [true, false, false, false]),
        ("model.layers.0$", [false, false, false, false]),
        (".*q_proj$", [true, true, false, false]),
        (r".*q_proj\Z", [true, true, false, false]),
        ("[]m]odel", [true, true, true, true]),
        ("[[m]odel.layers.0", [true, false, false, false]),
        ("model(?#x).layers.0", [true, false, false, false]),
        (r"\x6dodel.layers.1", [false, false, true, false]),
        (r"model.layers.\d++", [true, true, true, true]),
        ("model.layers.[&&2]", [false, false, false, true]),
        (r"model.layers.[-\w]+", [true, true, true, true]),
        ("model.layers.1+?", [false, false, true, false]),
        (r"model.(?<=\.)layers.1", [false, false, true, false]),
    ];

    const REFUSED: [&str; 16] = [
        "(",
        "[",
        "*",
        "model)",
        r"\",
        "a**",
        "a{2}{3}",
        "(?P<n",
        r"\q",
        "(?i)model",
        "(?<n>a)",
        "[b-a]",
        "a{2,1}",
        r"\1",
        "(?P=x)",
        r"[\w-a]",
    ];
}
