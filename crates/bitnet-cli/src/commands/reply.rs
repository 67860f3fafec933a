//! The reply of a model as people read it: thinking dimmed or folded, calls of tools as JSON, a line each.
//!
//! A pipe gets thinking between its marks, so that a program can tell it from the answer.

use crate::printable::{self, ModelText};
use anstyle::{AnsiColor, Style};
use bitnet::chat::{ReplyPart, ToolCall};
use serde_json::json;
use std::io::{self, Write};

/// The parts of a reply that are printed in one style.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Thinking,
    Answer,
}

/// A reply as it comes.
pub(super) struct Reply {
    out: ModelText<Box<dyn Write>>,
    /// Whether thinking is not shown.
    folds: bool,
    printing: Option<Part>,
    pub(super) thought: String,
    pub(super) answer: String,
    pub(super) calls: Vec<ToolCall>,
}

impl Reply {
    /// A reply that goes to stdout.
    pub(super) fn new(folds: bool) -> Self {
        Self {
            out: printable::stdout(),
            folds,
            printing: None,
            thought: String::new(),
            answer: String::new(),
            calls: Vec::new(),
        }
    }

    /// Whether there is nothing of it.
    pub(super) fn is_empty(&self) -> bool {
        self.thought.is_empty() && self.answer.is_empty() && self.calls.is_empty()
    }

    /// Prints more of it.
    pub(super) fn print(&mut self, parts: Vec<ReplyPart>) -> io::Result<()> {
        for part in parts {
            match part {
                ReplyPart::Thinking(text) => {
                    self.thought += &text;
                    self.switch(Part::Thinking)?;
                    if !self.folds {
                        self.out.write(&text)?;
                    }
                }
                ReplyPart::Text(text) => {
                    self.answer += &text;
                    self.switch(Part::Answer)?;
                    self.out.write(&text)?;
                }
                ReplyPart::Call(call) => {
                    if !self.calls.is_empty()
                        || !self.answer.is_empty() && !self.answer.ends_with('\n')
                    {
                        self.out.write("\n")?;
                    }
                    self.switch(Part::Answer)?;
                    let written = json!({"name": call.name, "arguments": call.arguments});
                    self.out.write(&printable::json(written.to_string()))?;
                    self.calls.push(call);
                }
            }
        }
        Ok(())
    }

    /// Ends what is printed and begins `next`.
    fn switch(&mut self, next: Part) -> io::Result<()> {
        if self.printing == Some(next) {
            return Ok(());
        }
        self.end()?;
        self.printing = Some(next);
        self.out.begin(style(next))?;
        if next == Part::Thinking {
            let begin = match (self.folds, self.out.is_terminal()) {
                (false, false) => "<think>",
                (true, true) => "[thinking]",
                _ => "",
            };
            self.out.write(begin)?;
        }
        Ok(())
    }

    /// Ends the style of what is printed, and the thinking.
    fn end(&mut self) -> io::Result<()> {
        let Some(part) = self.printing.take() else {
            return Ok(());
        };
        if part == Part::Thinking {
            let end = match (self.folds, self.out.is_terminal()) {
                (false, false) => "</think>\n",
                (true, false) => "",
                (false, true) if self.thought.ends_with('\n') => "\n",
                (_, true) => "\n\n",
            };
            self.out.write(end)?;
        }
        self.out.end(style(part))
    }

    /// The line break behind it.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.end()?;
        self.out.finish()
    }
}

fn style(part: Part) -> Style {
    match part {
        Part::Thinking => Style::new().dimmed(),
        Part::Answer => Style::new().fg_color(Some(AnsiColor::Green.into())),
    }
}
