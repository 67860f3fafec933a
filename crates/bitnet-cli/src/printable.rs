//! Text from elsewhere, made harmless for a terminal.
//!
//! Names and messages come from model files, servers and paths, and a model may write anything. Sent to a terminal as they
//! are, escape sequences among them could move the cursor, rewrite lines or set the window's title, and overrides of the
//! writing direction could show one name as another. Every text that the program did not write itself goes through here
//! on its way to people; what it would do is shown instead, as `\x1b` or `\u{202e}`.
//!
//! A pipe or a file gets the model's text unchanged: see [`ModelText`]. JSON says the same by its own escapes.

use anstyle::Style;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, StdoutLock, Write};

/// A name or message as part of one line: nothing in it acts, and it has no line breaks or tabs.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| {
        acts(letter) || matches!(letter, '\u{2028}' | '\u{2029}')
    })
}

/// A text of several lines: line breaks and tabs stay, nothing else in it acts.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\t']) {
        return escaped(text, acts);
    }
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        let (body, end) = match part.char_indices().next_back() {
            Some((at, '\n' | '\t')) => part.split_at(at),
            _ => (part, ""),
        };
        // Together with what follows it, a carriage return is a line break.
        let (body, end) = match body.strip_suffix('\r') {
            Some(body) if end == "\n" => (body, "\r\n"),
            _ => (body, end),
        };
        shown.push_str(&escaped(body, acts));
        shown.push_str(end);
    }
    Cow::Owned(shown)
}

/// `json` with everything escaped that acts. What is left of that kind in JSON stands inside strings, and `\u` is how those
/// say it: the value is the same.
pub(crate) fn json(json: String) -> String {
    // Line breaks between the values are no part of any string, and inside them they are escaped already.
    let acts = |letter| acts(letter) && !matches!(letter, '\n' | '\r' | '\t');
    if !json.contains(acts) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 64);
    for letter in json.chars() {
        if acts(letter) {
            // All of these are of the basic plane: one unit of four digits.
            let _ = write!(shown, "\\u{:04x}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether a terminal would do something else with `letter` than draw it: control characters (C0, DEL, C1), and those
/// that embed, override or isolate a direction of writing, with the deprecated ones beside them. Marks that merely join,
/// part or give a direction to their neighbours are part of how Arabic, Hebrew, Persian and emoji are written.
fn acts(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            letter if !acts(letter) => shown.push(letter),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing to a string does not fail.
            letter if u32::from(letter) < 0x100 => {
                let _ = write!(shown, "\\x{:02x}", u32::from(letter));
            }
            letter => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
            }
        }
    }
    Cow::Owned(shown)
}

/// Where a model's text goes: unchanged and without colours into a pipe or a file, harmless and in the program's colours on
/// a terminal.
pub(crate) struct ModelText<W> {
    out: W,
    terminal: bool,
}

/// Stdout for a model's text.
pub(crate) fn stdout() -> ModelText<Box<dyn Write>> {
    let terminal = io::stdout().is_terminal();
    let out: Box<dyn Write> = if terminal {
        // Knows whether this terminal wants colours, and how Windows has them.
        Box::new(anstream::stdout().lock())
    } else {
        let out: StdoutLock<'static> = io::stdout().lock();
        Box::new(out)
    };
    ModelText { out, terminal }
}

impl<W: Write> ModelText<W> {
    /// Whether people read it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Begins to write in `style`, on a terminal.
    pub(crate) fn begin(&mut self, style: Style) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "{style}")?;
        }
        Ok(())
    }

    /// Ends what [`begin`](Self::begin) began.
    pub(crate) fn end(&mut self, style: Style) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "{style:#}")?;
        }
        Ok(())
    }

    /// A piece of the text, at once.
    pub(crate) fn write(&mut self, piece: &str) -> io::Result<()> {
        let shown = if self.terminal {
            text(piece)
        } else {
            Cow::Borrowed(piece)
        };
        self.out.write_all(shown.as_bytes())?;
        self.out.flush()
    }

    /// The line break behind the text.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n")?;
        self.out.flush()
    }
}

/// Stderr for what is logged: names and messages from files and servers are part of it.
pub(crate) struct Log(io::Stderr);

/// Where one event goes.
pub(crate) fn log() -> Log {
    Log(io::stderr())
}

impl Write for Log {
    /// Takes whole events, which are written at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_text = String::from_utf8_lossy(event);
        self.0.write_all(text(&event_text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The beginning of a text, for errors.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARACTERS: usize = 20;
    let mut excerpt: String = text.chars().take(CHARACTERS).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    format!("{excerpt:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that terminals act on, with the text shown instead.
    const HOSTILE: [(&str, &str); 10] = [
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1bP1$q\x1b\\", "\\x1bP1$q\\x1b\\"),
        // The single character that stands for ESC [.
        ("\u{9b}2J", "\\x9b2J"),
        ("a\x08b\x7f", "a\\x08b\\x7f"),
        ("right\rwrong", "right\\rwrong"),
        ("\0", "\\x00"),
        ("gpj.\u{202e}fugg", "gpj.\\u{202e}fugg"),
        ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
        ("plain", "plain"),
    ];

    #[test]
    fn what_acts_is_shown() {
        for (text, expected) in HOSTILE {
            assert_eq!(line(text), expected, "{text:?}");
            assert_eq!(self::text(text), expected, "{text:?}");
        }
        assert_eq!(line("a\nb\tc\u{2028}d"), "a\\nb\\tc\\u{2028}d");
        assert_eq!(
            text("a\nb\tc\r\nd\x1b\ne\rf\r"),
            "a\nb\tc\r\nd\\x1b\ne\\rf\\r"
        );
    }

    #[test]
    fn what_people_write_stays() {
        for text in [
            "wörld, 世界, עִבְרִית\u{200f}!",
            "می\u{200c}خواهم",
            "👩\u{200d}👩\u{200d}👧 e\u{301}",
            "",
        ] {
            assert!(matches!(line(text), Cow::Borrowed(_)), "{text:?}");
            assert_eq!(self::text(text), text);
        }
    }

    #[test]
    fn json_says_the_same_harmlessly() {
        let text: String = HOSTILE.iter().map(|(text, _)| *text).collect();
        let shown = json(serde_json::to_string_pretty(&[&text]).unwrap() + "\n");
        assert!(!shown.contains(|letter| acts(letter) && letter != '\n'));
        let back: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, [text]);
    }

    #[test]
    fn a_pipe_gets_the_text_and_a_terminal_what_is_harmless() {
        let bold = Style::new().bold();
        let written = |terminal: bool| {
            let mut out = ModelText {
                out: Vec::new(),
                terminal,
            };
            out.begin(bold).unwrap();
            out.write("a\x1b[31mred\n").unwrap();
            out.end(bold).unwrap();
            out.write("\x02").unwrap();
            out.finish().unwrap();
            String::from_utf8(out.out).unwrap()
        };
        assert_eq!(written(false), "a\x1b[31mred\n\x02\n");
        assert_eq!(written(true), "\x1b[1ma\\x1b[31mred\n\x1b[0m\\x02\n");
    }
}
