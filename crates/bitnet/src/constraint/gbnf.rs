//! Grammars in llama.cpp's notation (GBNF), translated into Lark's.
//!
//! GBNF speaks of characters, Lark of words that are cut off as long as they can be. So that both mean the same texts, a grammar
//! whose rules do not call themselves becomes one word, and of others each character is a word.

use super::argument;
use crate::Result;
use std::collections::HashMap;
use std::fmt::Write;

/// The rule that is the text.
const ROOT: &str = "root";
/// The deepest parentheses.
const DEEPEST: usize = 100;
/// The most repetitions that braces ask for, as in llama.cpp.
const MOST: u32 = 2000;

/// A part of a rule.
enum Part {
    /// One character, as a regular expression.
    Character(String),
    /// A rule by its number.
    Rule(usize),
    Sequence(Vec<Part>),
    Either(Vec<Part>),
    /// At least and at most so often.
    Repeated(Box<Part>, u32, Option<u32>),
}

/// The Lark rules of `text`, of which `name` is the text.
///
/// # Errors
/// If `text` is no GBNF, calls a rule that it does not have, or has tokens of a vocabulary in it.
pub(super) fn to_lark(text: &str, name: &str) -> Result<String> {
    let mut reader = Reader {
        rest: text,
        line: 1,
        numbers: HashMap::new(),
        rules: Vec::new(),
        depth: 0,
    };
    reader.rules()?;
    let mut rules = Vec::new();
    for (called, line, body) in reader.rules {
        let Some(body) = body else {
            let found = format!("a call of `{called}` in line {line}, which is no rule");
            return Err(argument("grammar", "rules for all that is called", found));
        };
        rules.push(body);
    }
    let Some(&root) = reader.numbers.get(ROOT) else {
        return Err(argument("grammar", format!("a rule `{ROOT}`"), "none"));
    };
    let words = !calls_itself(&rules, root);
    let prefix = if words { "GBNF" } else { "gbnf" };
    let mut lark = format!("{name}: {prefix}{root}\n");
    for (number, body) in rules.iter().enumerate() {
        let _ = write!(lark, "{prefix}{number}: ");
        body.write(prefix, &mut lark);
        lark.push('\n');
    }
    Ok(lark)
}

/// Whether `text` is in this notation: `::=` is behind the name of its first rule.
pub(super) fn is_gbnf(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let rule = first.and_then(|line| line.split_once("::="));
    rule.is_some_and(|(name, _)| name.trim_end().chars().all(is_of_name))
}

fn is_of_name(it: char) -> bool {
    it.is_ascii_alphanumeric() || it == '-' || it == '_'
}

/// Whether a rule that `root` needs needs itself.
fn calls_itself(rules: &[Part], root: usize) -> bool {
    // Rules on the way to the one that is looked at, and those that are done; on a heap, since strangers write grammars.
    let mut open = vec![false; rules.len()];
    let mut done = vec![false; rules.len()];
    let mut path = vec![(root, callees(&rules[root]))];
    open[root] = true;
    while let Some((rule, left)) = path.last_mut() {
        match left.pop() {
            Some(next) if open[next] => return true,
            Some(next) if !done[next] => {
                open[next] = true;
                path.push((next, callees(&rules[next])));
            }
            Some(_) => {}
            None => {
                open[*rule] = false;
                done[*rule] = true;
                path.pop();
            }
        }
    }
    false
}

fn callees(part: &Part) -> Vec<usize> {
    match part {
        Part::Character(_) => Vec::new(),
        Part::Rule(number) => vec![*number],
        Part::Sequence(parts) | Part::Either(parts) => parts.iter().flat_map(callees).collect(),
        Part::Repeated(part, ..) => callees(part),
    }
}

impl Part {
    /// Writes it in brackets if it is a choice or, where they are needed, a sequence; llguidance allows 30 in each other.
    fn write(&self, prefix: &str, lark: &mut String) {
        let _ = match self {
            Self::Character(expression) => write!(lark, "/{expression}/"),
            Self::Rule(number) => write!(lark, "{prefix}{number}"),
            Self::Sequence(parts) if parts.is_empty() => write!(lark, "\"\""),
            Self::Sequence(parts) => return join(parts, " ", prefix, lark),
            Self::Either(parts) if parts.len() == 1 => return parts[0].write(prefix, lark),
            Self::Either(parts) => {
                lark.push('(');
                join(parts, " | ", prefix, lark);
                write!(lark, ")")
            }
            Self::Repeated(part, least, most) => {
                part.write_as_one(prefix, lark);
                match (least, most) {
                    (0, None) => write!(lark, "*"),
                    (1, None) => write!(lark, "+"),
                    (0, Some(1)) => write!(lark, "?"),
                    (least, None) => write!(lark, "{{{least},}}"),
                    (least, Some(most)) => write!(lark, "{{{least},{most}}}"),
                }
            }
        };
    }

    /// Writes it so that a repetition is of all of it.
    fn write_as_one(&self, prefix: &str, lark: &mut String) {
        match self {
            Self::Sequence(parts) | Self::Either(parts) if parts.len() == 1 => {
                parts[0].write_as_one(prefix, lark);
            }
            Self::Sequence(_) | Self::Repeated(..) => {
                lark.push('(');
                self.write(prefix, lark);
                lark.push(')');
            }
            _ => self.write(prefix, lark),
        }
    }
}

fn join(parts: &[Part], between: &str, prefix: &str, lark: &mut String) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            lark.push_str(between);
        }
        part.write(prefix, lark);
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    numbers: HashMap<String, usize>,
    /// Name, the line where it is first met, and the body once it was read.
    rules: Vec<(String, usize, Option<Part>)>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn wrong<T>(&self, expected: &str) -> Result<T> {
        let found = match self.peek() {
            Some(next) => format!("{next:?} in line {}", self.line),
            None => "the end".to_owned(),
        };
        Err(argument("grammar", expected, found))
    }

    /// Skips blanks and comments, and the ends of lines if `lines`.
    fn skip(&mut self, lines: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => {}
                '\r' | '\n' if lines => {}
                '#' => {
                    let end = self.rest.find(['\r', '\n']);
                    self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    fn name(&mut self) -> Result<&'a str> {
        let end = self.rest.find(|it| !is_of_name(it));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if name.is_empty() {
            return self.wrong("the name of a rule");
        }
        self.rest = rest;
        Ok(name)
    }

    fn number(&mut self, name: &str) -> usize {
        let new = self.rules.len();
        let number = *self.numbers.entry(name.to_owned()).or_insert(new);
        if number == new {
            self.rules.push((name.to_owned(), self.line, None));
        }
        number
    }

    fn rules(&mut self) -> Result<()> {
        self.skip(true);
        while !self.rest.is_empty() {
            let name = self.name()?;
            self.skip(false);
            if !self.takes("::=") {
                return self.wrong("`::=` behind the name of a rule");
            }
            self.skip(true);
            let body = self.either(false)?;
            let number = self.number(name);
            // As in llama.cpp, the last of two rules of a name counts.
            self.rules[number].2 = Some(body);
            if !matches!(self.peek(), None | Some('\r' | '\n')) {
                return self.wrong("the end of a line behind a rule");
            }
            self.skip(true);
        }
        Ok(())
    }

    fn either(&mut self, nested: bool) -> Result<Part> {
        let mut parts = vec![self.sequence(nested)?];
        while self.takes("|") {
            self.skip(true);
            parts.push(self.sequence(nested)?);
        }
        // An empty choice makes the others optional.
        let all = parts.len();
        parts.retain(|part| !matches!(part, Part::Sequence(parts) if parts.is_empty()));
        let optional = !parts.is_empty() && parts.len() < all;
        let either = Part::Either(parts);
        Ok(match either {
            Part::Either(parts) if parts.is_empty() => Part::Sequence(Vec::new()),
            either if optional => Part::Repeated(Box::new(either), 0, Some(1)),
            either => either,
        })
    }

    fn sequence(&mut self, nested: bool) -> Result<Part> {
        let mut parts: Vec<Part> = Vec::new();
        // Where the last item begins, which a repetition is of: a text in quotes is several parts.
        let mut last = None;
        loop {
            let begin = parts.len();
            match self.peek() {
                Some('"') => parts.extend(self.text()?),
                Some('[') => parts.push(Part::Character(self.class()?)),
                Some('.') => {
                    self.next();
                    parts.push(Part::Character("(?s:.)".to_owned()));
                }
                Some('(') => parts.push(self.group()?),
                Some('*' | '+' | '?' | '{') => {
                    let Some(last) = last.take() else {
                        return self.wrong("something that is repeated, before the repetition");
                    };
                    let (least, most) = self.repetition()?;
                    let repeated = Part::Sequence(parts.split_off(last));
                    parts.push(Part::Repeated(Box::new(repeated), least, most));
                    self.skip(nested);
                    continue;
                }
                Some('<' | '!') => {
                    return self.wrong("characters, since tokens in grammars are not supported");
                }
                Some(it) if is_of_name(it) => {
                    let name = self.name()?;
                    parts.push(Part::Rule(self.number(name)));
                }
                _ => return Ok(Part::Sequence(parts)),
            }
            last = Some(begin);
            self.skip(nested);
        }
    }

    fn group(&mut self) -> Result<Part> {
        if self.depth == DEEPEST {
            let expected = format!("at most {DEEPEST} parentheses in each other");
            return self.wrong(&expected);
        }
        self.depth += 1;
        self.next();
        self.skip(true);
        let part = self.either(true)?;
        if !self.takes(")") {
            return self.wrong("`)`");
        }
        self.depth -= 1;
        Ok(part)
    }

    fn repetition(&mut self) -> Result<(u32, Option<u32>)> {
        Ok(match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => {
                self.skip(false);
                let least = self.count()?;
                self.skip(false);
                let most = if self.takes(",") {
                    self.skip(false);
                    let open = self.peek() == Some('}');
                    if open { None } else { Some(self.count()?) }
                } else {
                    Some(least)
                };
                self.skip(false);
                if most.is_some_and(|most| most < least) || !self.takes("}") {
                    return self.wrong("{LEAST,MOST}");
                }
                (least, most)
            }
        })
    }

    fn count(&mut self) -> Result<u32> {
        let end = self.rest.find(|it: char| !it.is_ascii_digit());
        let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        match digits.parse() {
            Ok(count) if count <= MOST => {
                self.rest = rest;
                Ok(count)
            }
            _ => self.wrong(&format!("a number up to {MOST}")),
        }
    }

    /// A text in quotes, a part for each character.
    fn text(&mut self) -> Result<Vec<Part>> {
        self.next();
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                None | Some('\r' | '\n') => return self.wrong("`\"` at the end of a text"),
                Some('"') => break,
                Some(_) => parts.push(Part::Character(escaped(self.character()?))),
            }
        }
        self.next();
        Ok(parts)
    }

    /// A character of a class, as a regular expression.
    fn class(&mut self) -> Result<String> {
        self.next();
        let mut class = String::from("[");
        if self.takes("^") {
            class.push('^');
        }
        let negated = class.len();
        loop {
            match self.peek() {
                None | Some('\r' | '\n') => return self.wrong("`]` at the end of a class"),
                Some(']') => break,
                Some(_) => {}
            }
            let first = self.character()?;
            class += &escaped(first);
            let rest = self.rest;
            if self.takes("-") {
                if self.peek() == Some(']') {
                    // A hyphen at the end is one.
                    self.rest = rest;
                    continue;
                }
                let last = self.character()?;
                if last < first {
                    return self.wrong("a range whose end is not before its beginning");
                }
                class.push('-');
                class += &escaped(last);
            }
        }
        self.next();
        if class.len() == negated {
            // Nothing, or anything.
            return if negated == 1 {
                self.wrong("a character in a class")
            } else {
                Ok("(?s:.)".to_owned())
            };
        }
        class.push(']');
        Ok(class)
    }

    /// A character, which may be written with a backslash.
    fn character(&mut self) -> Result<char> {
        if !self.takes("\\") {
            return match self.next() {
                Some(it) => Ok(it),
                None => self.wrong("a character"),
            };
        }
        let Some(kind) = self.next() else {
            return self.wrong("a character behind a backslash");
        };
        let digits = match kind {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '"' | '\\' | '[' | ']' | '-' | '^' | '/' => return Ok(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                let found = format!("\\{kind} in line {}", self.line);
                let expected = "one of \\n \\r \\t \\\" \\\\ \\[ \\] \\xNN \\uNNNN \\UNNNNNNNN";
                return Err(argument("grammar", expected, found));
            }
        };
        let code = self.rest.get(..digits);
        let code = code.filter(|code| code.bytes().all(|it| it.is_ascii_hexdigit()));
        let Some(code) = code else {
            return self.wrong(&format!("{digits} hexadecimal digits behind \\{kind}"));
        };
        self.rest = &self.rest[digits..];
        match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
            Some(it) => Ok(it),
            None => {
                let found = format!("\\{kind}{code} in line {}", self.line);
                Err(argument("grammar", "the code of a character", found))
            }
        }
    }
}

/// A character in a regular expression.
fn escaped(it: char) -> String {
    if it.is_ascii_alphanumeric() {
        it.to_string()
    } else {
        format!("\\u{{{:x}}}", u32::from(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lark(text: &str) -> String {
        to_lark(text, "start").expect("a grammar")
    }

    fn error(text: &str) -> String {
        to_lark(text, "start").expect_err("no grammar").to_string()
    }

    #[test]
    fn what_does_not_call_itself_is_one_word() {
        let text = "# a digit or two\nroot ::= sign [0-9]{1,2} (\".\" # point\n [0-9]+)?\nsign ::= | \"-\"\n";
        assert!(is_gbnf(text) && !is_gbnf("start: \"::=\""));
        let rules = lark(text);
        assert!(rules.starts_with("start: GBNF"), "{rules}");
        assert!(rules.contains(r"/\u{2d}/"), "{rules}");
    }

    #[test]
    fn of_others_each_character_is_one() {
        let rules = lark("root ::= \"(\" root \")\" | \"ab\"");
        assert!(rules.contains("/a/ /b/"), "{rules}");
        assert!(rules.starts_with("start: gbnf"), "{rules}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("", "a rule `root`"),
            ("root ::= other", "`other` in line 1"),
            ("root ::= \"a", "end of a text"),
            ("root ::= [a", "end of a class"),
            ("root ::= []", "a character in a class"),
            ("root ::= [b-a]", "a range"),
            ("root = \"a\"", "`::=`"),
            ("\nroot ::= (\"a\"", "`)`"),
            ("root ::= * \"a\"", "something that is repeated"),
            ("root ::= \"a\"{3,2}", "LEAST,MOST"),
            ("root ::= \"a\"{2001}", "a number up to 2000"),
            ("root ::= \"\\q\"", "\\q in line 1"),
            ("root ::= \"\\ud800\"", "the code of a character"),
            ("root ::= \"\\u12\"", "4 hexadecimal digits"),
            ("root ::= <think>", "tokens in grammars"),
            ("root ::= \"a\"\n)", "the name of a rule"),
        ] {
            let error = error(text);
            assert!(error.contains(words), "{text:?}: {error}");
        }
        let deep = format!("root ::= {}", "(".repeat(100_000));
        assert!(error(&deep).contains("at most 100 parentheses"));
    }

    #[test]
    fn long_chains_of_rules_need_no_stack() {
        let chain: String = (0..100_000)
            .map(|rule| format!("r{rule} ::= r{}\n", rule + 1))
            .collect();
        let rules = lark(&format!("root ::= r0\n{chain}r100000 ::= \"a\"\n"));
        assert!(rules.starts_with("start: GBNF"));
    }
}
