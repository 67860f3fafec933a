//! From source to text and tags, and from tags to tokens.
//!
//! Line ends become line feeds, one at the end of the source goes, blocks and comments swallow the line end after
//! them and the indentation before them (Jinja's `trim_blocks` and `lstrip_blocks`).

use super::meter::Outcome;

/// A stretch of the source.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// Text that is written as it stands.
    Text(String),
    /// `{{ … }}`.
    Output(Vec<Token>),
    /// `{% … %}`.
    Block(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    /// An operator, a bracket or a separator.
    Sign(&'static str),
}

/// Signs, those of two characters first.
const SIGNS: [&str; 27] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";", "!",
];

/// The parts of `source`.
pub(super) fn parts(source: &str) -> Outcome<Vec<Part>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer {
        rest: &source,
        parts: Vec::new(),
        at_line_start: true,
    };
    while lexer.next()? {}
    Ok(lexer.parts)
}

struct Lexer<'s> {
    rest: &'s str,
    parts: Vec<Part>,
    /// Whether a line begins where the rest does.
    at_line_start: bool,
}

impl<'s> Lexer<'s> {
    /// Reads the text up to the next tag, and the tag; false at the end.
    fn next(&mut self) -> Outcome<bool> {
        let tag = self.rest.match_indices('{').find_map(|(at, _)| {
            match self.rest.as_bytes().get(at + 1) {
                Some(kind @ (b'{' | b'%' | b'#')) => Some((at, *kind)),
                _ => None,
            }
        });
        let Some((at, kind)) = tag else {
            self.text(self.rest);
            return Ok(false);
        };
        let (text, tag) = self.rest.split_at(at);
        self.rest = &tag[2..];
        self.text_before(text, kind != b'{');
        match kind {
            b'#' => {
                let Some(end) = self.rest.find("#}") else {
                    return Err("a comment does not end".into());
                };
                let strip = self.rest[..end].ends_with('-');
                // `{#-#}` is one sign for both ends.
                let keep = self.rest[..end].ends_with('+') && end > 0;
                self.rest = &self.rest[end + 2..];
                self.after_block(strip, keep);
            }
            b'%' => {
                if let Some(end) = after_word(self.rest, "raw") {
                    self.raw(end)?;
                } else {
                    let (tokens, strip, keep) = self.tokens("%}")?;
                    self.after_block(strip, keep);
                    self.parts.push(Part::Block(tokens));
                }
            }
            _ => {
                let (tokens, strip, _) = self.tokens("}}")?;
                self.at_line_start = false;
                if strip {
                    self.strip_start();
                }
                self.parts.push(Part::Output(tokens));
            }
        }
        Ok(true)
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }

    /// Writes the text before a tag, whose sign says what of it goes, and reads that sign.
    fn text_before(&mut self, text: &str, block: bool) {
        let sign = self.rest.bytes().next();
        let kept = match sign {
            Some(b'-') => text.trim_end_matches(is_python_space),
            Some(b'+') => text,
            _ if block => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = text[line..].chars().all(is_python_space);
                if blank && (line > 0 || self.at_line_start) {
                    &text[..line]
                } else {
                    text
                }
            }
            _ => text,
        };
        self.text(kept);
        if matches!(sign, Some(b'-' | b'+')) {
            self.rest = &self.rest[1..];
        }
    }

    /// Drops what a block swallows after it.
    fn after_block(&mut self, strip: bool, keep: bool) {
        self.at_line_start = false;
        if strip {
            self.strip_start();
        } else if !keep && let Some(rest) = self.rest.strip_prefix('\n') {
            self.rest = rest;
            self.at_line_start = true;
        }
    }

    fn strip_start(&mut self) {
        let stripped = self.rest.trim_start_matches(is_python_space);
        let gone = &self.rest[..self.rest.len() - stripped.len()];
        self.at_line_start = gone.ends_with('\n');
        self.rest = stripped;
    }

    /// Reads a raw block, whose opening tag ends at `open`.
    fn raw(&mut self, open: usize) -> Outcome<()> {
        let strip = self.rest[..open].trim_end_matches("%}").ends_with('-');
        self.rest = &self.rest[open..];
        self.at_line_start = false;
        if strip {
            self.strip_start();
        }
        let end = self
            .rest
            .match_indices("{%")
            .find_map(|(at, _)| {
                let inside = &self.rest[at + 2..];
                let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
                let end = after_word(inside, "endraw")?;
                let signed = self.rest.len() - inside.len();
                Some((at, signed + end))
            })
            .ok_or("a raw block does not end")?;
        let (at, after) = end;
        let whole = self.rest;
        self.rest = &whole[at + 2..];
        self.text_before(&whole[..at], true);
        let tag = whole[..after].trim_end_matches("%}");
        self.rest = &whole[after..];
        self.after_block(tag.ends_with('-'), tag.ends_with('+'));
        Ok(())
    }

    /// The tokens up to `end`, and whether it strips or keeps what follows.
    fn tokens(&mut self, end: &str) -> Outcome<(Vec<Token>, bool, bool)> {
        let mut tokens = Vec::new();
        // Braces of dictionaries that are open; `}}` ends nothing in them.
        let mut open = 0_usize;
        loop {
            self.rest = self.rest.trim_start_matches(is_python_space);
            if open == 0 {
                for (sign, strip, keep) in
                    [("-", true, false), ("+", false, true), ("", false, false)]
                {
                    let rest = self.rest.strip_prefix(sign);
                    let ended = rest.and_then(|rest| rest.strip_prefix(end));
                    if let Some(rest) = ended.filter(|_| !keep || end == "%}") {
                        self.rest = rest;
                        return Ok((tokens, strip, keep));
                    }
                }
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(format!("a tag does not end with {end}").into());
            };
            let token = match first {
                '\'' | '"' => self.string(first)?,
                '0'..='9' => self.number(tokens.last() == Some(&Token::Sign(".")))?,
                c if c.is_alphabetic() || c == '_' => {
                    let word = |c: char| !(c.is_alphanumeric() || c == '_');
                    let length = self.rest.find(word).unwrap_or(self.rest.len());
                    Token::Name(self.take(length).to_owned())
                }
                _ => {
                    let sign = SIGNS
                        .iter()
                        .find(|sign| self.rest.starts_with(**sign))
                        .ok_or_else(|| format!("unexpected character {first:?}"))?;
                    match *sign {
                        "{" | "(" | "[" => open += 1,
                        "}" | ")" | "]" => open = open.saturating_sub(1),
                        _ => {}
                    }
                    self.take(sign.len());
                    Token::Sign(sign)
                }
            };
            tokens.push(token);
        }
    }

    fn take(&mut self, length: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn number(&mut self, after_point: bool) -> Outcome<Token> {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            let more = bytes[from..].iter();
            from + more
                .take_while(|byte| byte.is_ascii_digit() || **byte == b'_')
                .count()
        };
        let radix = match bytes.get(1).map(u8::to_ascii_lowercase) {
            Some(b'x') => 16,
            Some(b'o') => 8,
            Some(b'b') => 2,
            _ => 10,
        };
        if bytes[0] == b'0' && radix != 10 {
            let length = bytes[2..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
                .count();
            let text = self.take(2 + length)[2..].replace('_', "");
            let value = i128::from_str_radix(&text, radix);
            return value
                .map(Token::Int)
                .map_err(|_| "a number is malformed or too large".into());
        }
        let mut end = digits(0);
        let mut float = false;
        if !after_point {
            if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
                end = digits(end + 1);
                float = true;
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                    end = digits(end + 1 + sign);
                    float = true;
                }
            }
        }
        let text = self.take(end).replace('_', "");
        let number = if float {
            text.parse().ok().map(Token::Float)
        } else {
            text.parse().ok().map(Token::Int)
        };
        number.ok_or_else(|| "a number is malformed or too large".into())
    }

    fn string(&mut self, quote: char) -> Outcome<Token> {
        const ENDLESS: &str = "a string does not end";
        self.take(1);
        let mut text = String::new();
        loop {
            let c = self.rest.chars().next().ok_or(ENDLESS)?;
            self.take(c.len_utf8());
            if c == quote {
                return Ok(Token::Text(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let before = self.rest;
            let escaped = before.chars().next().ok_or(ENDLESS)?;
            self.take(escaped.len_utf8());
            match escaped {
                '\n' => {}
                '\\' | '\'' | '"' => text.push(escaped),
                'a' => text.push('\x07'),
                'b' => text.push('\x08'),
                'f' => text.push('\x0c'),
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                'v' => text.push('\x0b'),
                'x' => text.push(self.code(2, 2, 16)?),
                'u' => text.push(self.code(4, 4, 16)?),
                'U' => text.push(self.code(8, 8, 16)?),
                'N' => return Err("characters by name (\\N{…}) are not supported; use \\u".into()),
                '0'..='7' => {
                    self.rest = before;
                    text.push(self.code(1, 3, 8)?);
                }
                other => {
                    text.push('\\');
                    text.push(other);
                }
            }
        }
    }

    /// The character whose code `least` to `most` digits give.
    fn code(&mut self, least: usize, most: usize, radix: u32) -> Outcome<char> {
        let length = self
            .rest
            .chars()
            .take(most)
            .take_while(|c| c.is_digit(radix))
            .count();
        let digits = self.take(length);
        let code = u32::from_str_radix(digits, radix).ok();
        code.filter(|_| length >= least)
            .and_then(char::from_u32)
            .ok_or_else(|| "a string holds an escape of no character".into())
    }
}

/// Where the tag ends that `rest` continues, if it holds that word alone.
fn after_word(rest: &str, word: &str) -> Option<usize> {
    let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let after = unsigned
        .trim_start_matches(is_python_space)
        .strip_prefix(word)?
        .trim_start_matches(is_python_space);
    let after = after.strip_prefix(['-', '+']).unwrap_or(after);
    Some(rest.len() - after.strip_prefix("%}")?.len())
}

fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}
