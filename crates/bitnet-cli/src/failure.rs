//! How a command's outcome becomes a line on stderr and an exit code: 0 for success, 1 for failure, 2 for wrong usage,
//! 130 for an interruption by Ctrl-C.

use crate::printable;
use anstream::{eprint, eprintln};
use anstyle::{AnsiColor, Style};
use anyhow::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};

/// An argument that clap could not judge, such as two that exclude each other only for some models.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user pressed Ctrl-C; what was done so far has been reported.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Reports `outcome` and gives the process's exit code.
pub(crate) fn exit_code(outcome: anyhow::Result<()>) -> u8 {
    let Err(error) = outcome else {
        return 0;
    };
    if is_broken_pipe(&error) {
        // The reader has seen enough, as in `bitnet … | head`.
        return 0;
    }
    if error.is::<Interrupted>() {
        return 130;
    }
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    eprintln!("{red}error:{red:#} {}", one_line(&error));
    match error.downcast_ref::<bitnet::Error>() {
        Some(bitnet::Error::Cancelled) => 130,
        Some(bitnet::Error::Argument { .. }) => 2,
        _ if error.is::<Usage>() => 2,
        _ => 1,
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause
            .downcast_ref::<io::Error>()
            .map(io::Error::kind)
            .or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
        kind == Some(ErrorKind::BrokenPipe)
    })
}

/// Reports `arguments` that clap refused, or prints the help that they ask for, and gives the process's exit code.
pub(crate) fn usage(error: &clap::Error, arguments: Vec<OsString>) -> u8 {
    if error.use_stderr() {
        // What was typed is part of the message, and may come from a file's name: if a terminal would act on it, the
        // message is printed without clap's colours, among which it cannot be told.
        let harmless = |argument: OsString| {
            let argument = argument.to_string_lossy();
            printable::text(&argument) == argument
        };
        if arguments.into_iter().all(harmless) {
            eprint!("{}", error.render().ansi());
        } else {
            eprint!("{}", printable::text(&error.render().to_string()));
        }
        return 2;
    }
    // Help for a reader that left early.
    let _ = error.print();
    0
}

/// The error and its causes, those left out that a message before them already says. Nothing in it acts on a terminal.
pub(crate) fn one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    printable::line(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_said_once_and_on_one_line() {
        let io = io::Error::other("no\nluck");
        let error = Error::from(bitnet::Error::io("a.gguf", io)).context("cannot start");
        assert_eq!(one_line(&error), "cannot start: a.gguf: no luck");
    }

    #[test]
    fn nothing_in_an_error_acts_on_a_terminal() {
        let error = bitnet::Error::tensor("a\x1b[2J.gguf", "\u{202e}x", "a \u{9b}m", "b\x07\r\nc");
        assert_eq!(
            one_line(&error.into()),
            "a\\x1b[2J.gguf: tensor \\u{202e}x: expected a \\x9bm, found b\\x07 c"
        );
    }

    #[test]
    fn a_broken_pipe_is_recognized_behind_a_context() {
        let pipe: io::Result<()> = Err(ErrorKind::BrokenPipe.into());
        assert!(is_broken_pipe(&pipe.context("writing").unwrap_err()));
    }
}
