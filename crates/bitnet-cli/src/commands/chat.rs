//! `bitnet chat`: a conversation, line by line.

use super::run::timings_line;
use super::sampling::SamplingArguments;
use crate::context;
use crate::failure::{self, Interrupted};
use crate::interrupt::Interrupt;
use crate::open::{HeadArgument, ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::template::TemplateArguments;
use crate::{number, printable};
use anstyle::{AnsiColor, Style};
use anyhow::Context;
use bitnet::hub::HubOptions;
use bitnet::{ChatMessage, Error, GenerateOptions, Session, StopReason, Timings};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::fs;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
/help        this list
/reset       forget the conversation
/save FILE   write the conversation: JSON if FILE ends in .json, else text
/stats       the size of the conversation, its memory, and how fast the last answer was
/quit        leave (as Ctrl-D does)
Ctrl-C stops an answer, not the program. A line that ends in \\ goes on in the next.";

/// Arguments of `bitnet chat`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet chat                                     with the built-in demo model
  bitnet chat -m 2b4t --system \"Answer briefly.\"
  echo \"What is 20 + 22?\" | bitnet chat --temp 0   one question from a pipe

In the conversation: /help /reset /save FILE /stats /quit; Ctrl-C stops an answer.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    #[command(flatten)]
    head: HeadArgument,

    /// Instructions that precede the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// The most tokens of one answer
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 512, value_parser = number::at_least(1))]
    tokens: usize,

    #[command(flatten)]
    template: TemplateArguments,

    #[command(flatten)]
    sampling: SamplingArguments,
}

/// A conversation under way.
struct Chat {
    session: Session,
    options: GenerateOptions,
    interrupt: Interrupt,
    system: Option<String>,
    messages: Vec<ChatMessage>,
    /// How many of them no longer fit the context.
    forgotten: usize,
    load: Duration,
    last: Option<Timings>,
    /// Whether somebody types the lines, and can type another after one that had no answer.
    typed: bool,
}

/// What to do after a line.
enum Next {
    GoOn,
    Leave,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (sampling, _) = self.sampling.options()?;
        let speculation = self.sampling.speculation();
        let chat_template_kwargs = self.template.kwargs()?;
        let (threads, head) = (self.threads.threads, self.head.mode());
        let opened = self
            .model
            .open_for_chat(threads, head, self.template.choice()?)?;
        let Some(template) = opened.model.chat_template() else {
            let name = opened.model.name();
            return Err(Error::Template(format!(
                "{name} has none, so it was not made for conversations; use bitnet run, or give one by --chat-template"
            ))
            .into());
        };
        template
            .compile()
            .context("another one can be given by --chat-template")?;
        let interrupt = Interrupt::watch()?;
        // Ctrl-C during a download has ended the program already; what follows is for answers.
        interrupt.reset();
        let mut chat = Chat {
            session: opened.model.session()?,
            options: GenerateOptions {
                max_tokens: self.tokens,
                sampling,
                speculation,
                chat_template_kwargs,
                cancel: interrupt.cancel(),
                ..GenerateOptions::default()
            },
            interrupt,
            system: self.system,
            messages: Vec::new(),
            forgotten: 0,
            load: opened.time,
            last: None,
            typed: stdin().is_terminal(),
        };
        chat.reset();
        let interactive = chat.typed && stdout().is_terminal();
        if interactive {
            let dim = Style::new().dimmed();
            anstream::eprintln!(
                "{dim}{} on {}. /help lists the commands, Ctrl-D leaves.{dim:#}",
                printable::line(opened.model.name()),
                printable::line(&opened.model.device())
            );
        }
        chat.converse(interactive)
    }
}

impl Chat {
    fn converse(&mut self, interactive: bool) -> anyhow::Result<()> {
        let mut editor = DefaultEditor::new().context("cannot read lines")?;
        let history = interactive.then(history_file).flatten();
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        let prompt = if interactive { "> " } else { "" };
        let mut pending = String::new();
        let outcome = loop {
            match editor.readline(if pending.is_empty() { prompt } else { "… " }) {
                Ok(line) => {
                    if let Some(first) = line.strip_suffix('\\') {
                        pending.push_str(first);
                        pending.push('\n');
                        continue;
                    }
                    pending.push_str(&line);
                    let text = std::mem::take(&mut pending);
                    let text = text.trim();
                    if text.is_empty() {
                        continue;
                    }
                    // A line that cannot be remembered can still be answered.
                    let _ = editor.add_history_entry(text);
                    match self.line(text) {
                        Ok(Next::GoOn) => {}
                        Ok(Next::Leave) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                }
                Err(ReadlineError::Interrupted) => pending.clear(),
                // The last line said that another follows, and none does: what there is, is the question.
                Err(ReadlineError::Eof) if !pending.trim().is_empty() => {
                    break self.line(pending.trim()).map(|_| ());
                }
                Err(ReadlineError::Eof) => break Ok(()),
                Err(error) => break Err(error).context("cannot read a line"),
            }
        };
        if let Some(path) = &history {
            let _ = editor.save_history(path);
        }
        outcome
    }

    fn line(&mut self, text: &str) -> anyhow::Result<Next> {
        let (command, rest) = text
            .split_once(char::is_whitespace)
            .map_or((text, ""), |(command, rest)| (command, rest.trim()));
        match command {
            "/help" => eprintln!("{HELP}"),
            "/reset" => {
                self.reset();
                eprintln!("forgotten");
            }
            "/save" if rest.is_empty() => eprintln!("/save needs the name of a file"),
            "/save" => match self.save(Path::new(rest)) {
                Ok(()) => eprintln!("saved to {}", printable::line(rest)),
                Err(error) => eprintln!("cannot save: {}", failure::one_line(&error)),
            },
            "/stats" => self.stats(),
            "/quit" | "/exit" => return Ok(Next::Leave),
            _ if command.starts_with('/') && !command[1..].contains('/') => {
                eprintln!("no command {}; /help lists them", printable::line(command));
            }
            _ => self.answer(text)?,
        }
        Ok(Next::GoOn)
    }

    fn reset(&mut self) {
        self.messages.clear();
        self.forgotten = 0;
        self.messages
            .extend(self.system.as_deref().map(ChatMessage::system));
        self.session.reset();
        self.last = None;
    }

    /// Streams the answer to `question`. Where there can be none, the turn is taken back; a problem of this turn alone is
    /// said to somebody who types, and ends the command where nobody does.
    fn answer(&mut self, question: &str) -> anyhow::Result<()> {
        self.messages.push(ChatMessage::user(question));
        self.interrupt.reset();
        match self.stream() {
            Ok(answer) => {
                // What was said counts, also when it was cut short.
                self.messages.push(ChatMessage::assistant(answer.trim()));
                if self.interrupt.is_pressed() && !self.typed {
                    return Err(Interrupted.into());
                }
                self.interrupt.reset();
                Ok(())
            }
            Err(error) => {
                self.messages.pop();
                let passes = matches!(
                    error.downcast_ref(),
                    Some(Error::ContextFull { .. } | Error::Template(_))
                );
                if !self.typed || !passes {
                    return Err(error);
                }
                eprintln!("{}", failure::one_line(&error));
                Ok(())
            }
        }
    }

    /// Streams what the model says next, and says on stderr why it is not the whole answer, if it is not.
    fn stream(&mut self) -> anyhow::Result<String> {
        let model = self.session.model().clone();
        let room = self.options.max_tokens.min(model.context() / 4);
        let fitted = model
            .fit_chat(&self.messages, room, &self.options)
            .map_err(|error| context::explain(error, &model, 1))?;
        let dropped = fitted.dropped.len();
        if dropped > self.forgotten {
            let dim = Style::new().dimmed();
            anstream::eprintln!(
                "{dim}[the context of {} tokens is full: the model no longer sees the {dropped} oldest messages; {}]{dim:#}",
                model.context(),
                context::longer(&model)
            );
        }
        self.forgotten = dropped;
        let mut generation = self
            .session
            .chat(&fitted.messages, &self.options)
            .map_err(|error| context::explain(error, &model, 1))?;
        {
            let mut steps = Steps::new("reading");
            generation.prefill(|done, all| steps.set(done as u64, all as u64))?;
        }
        let mut out = printable::stdout();
        let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
        out.begin(green)?;
        let mut answer = String::new();
        for piece in generation.by_ref() {
            let piece = piece?;
            out.write(&piece)?;
            answer.push_str(&piece);
        }
        out.end(green)?;
        let (timings, reason) = (generation.timings(), generation.stop_reason());
        if answer.is_empty() && reason == Some(StopReason::ContextFull) {
            let used = generation.session().tokens().len();
            let full = Error::ContextFull {
                capacity: model.context(),
                used,
                wanted: 1,
            };
            return Err(context::explain(full, &model, 0));
        }
        out.finish()?;
        drop(out);
        self.last = Some(timings);
        let note = match reason {
            Some(StopReason::MaxTokens) => Some(format!(
                "truncated after {} tokens; -n allows more",
                timings.generated_tokens
            )),
            Some(StopReason::ContextFull) => Some(format!(
                "truncated: the context of {} tokens is full; {}",
                model.context(),
                context::longer(&model)
            )),
            _ if answer.is_empty() => Some("the model ended its answer at once".to_owned()),
            _ => None,
        };
        if let Some(note) = note {
            let dim = Style::new().dimmed();
            anstream::eprintln!("{dim}[{note}]{dim:#}");
        }
        Ok(answer)
    }

    fn stats(&self) {
        let tokens = self.session.tokens().len();
        eprintln!(
            "{} messages, {tokens} of {} tokens, {} of keys and values",
            self.messages.len(),
            self.session.model().context(),
            crate::units::bytes(self.session.cache_bytes() as u64)
        );
        if let Some(timings) = &self.last {
            eprintln!("last answer: {}", timings_line(self.load, timings));
        }
        eprintln!(
            "\n{}",
            printable::text(&super::memory::tables(self.session.model()))
        );
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            serde_json::to_string_pretty(&self.messages)?
        } else {
            let turns: Vec<String> = self
                .messages
                .iter()
                .map(|message| format!("{}: {}\n", message.role, message.content))
                .collect();
            turns.join("\n")
        };
        Ok(fs::write(path, text)?)
    }
}

/// Where the lines typed in earlier conversations are kept.
fn history_file() -> Option<PathBuf> {
    let folder = HubOptions::from_env().bitnet_cache?;
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat_history.txt"))
}
