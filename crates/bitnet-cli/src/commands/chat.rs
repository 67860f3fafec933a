//! `bitnet chat`: a conversation, line by line.

use super::run::timings_line;
use super::sampling::SamplingArguments;
use crate::interrupt::Interrupt;
use crate::open::{HeadArgument, ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use anstyle::{AnsiColor, Style};
use anyhow::Context;
use bitnet::hub::HubOptions;
use bitnet::{ChatMessage, Error, GenerateOptions, Session, Timings};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::fs;
use std::io::{IsTerminal, Write, stdin, stdout};
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
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 512)]
    tokens: usize,

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
    load: Duration,
    last: Option<Timings>,
}

/// What to do after a line.
enum Next {
    GoOn,
    Leave,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (sampling, _) = self.sampling.options();
        let speculation = self.sampling.speculation();
        let opened = self.model.open(self.threads.threads, self.head.mode())?;
        if opened.model.chat_template().is_none() {
            let name = opened.model.name();
            return Err(Error::Template(format!(
                "{name} has none, so it was not made for conversations; use bitnet run"
            ))
            .into());
        }
        let interrupt = Interrupt::watch()?;
        // Ctrl-C during a download has ended the program already; what follows is for answers.
        interrupt.reset();
        let mut chat = Chat {
            session: opened.model.session()?,
            options: GenerateOptions {
                max_tokens: self.tokens,
                sampling,
                speculation,
                cancel: interrupt.cancel(),
                ..GenerateOptions::default()
            },
            interrupt,
            system: self.system,
            messages: Vec::new(),
            load: opened.time,
            last: None,
        };
        chat.reset();
        let interactive = stdin().is_terminal() && stdout().is_terminal();
        if interactive {
            let dim = Style::new().dimmed();
            anstream::eprintln!(
                "{dim}{} on {}. /help lists the commands, Ctrl-D leaves.{dim:#}",
                opened.model.name(),
                opened.model.device()
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
                Ok(()) => eprintln!("saved to {rest}"),
                Err(error) => eprintln!("cannot save: {error:#}"),
            },
            "/stats" => self.stats(),
            "/quit" | "/exit" => return Ok(Next::Leave),
            _ if command.starts_with('/') && !command[1..].contains('/') => {
                eprintln!("no command {command}; /help lists them");
            }
            _ => self.answer(text)?,
        }
        Ok(Next::GoOn)
    }

    fn reset(&mut self) {
        self.messages.clear();
        self.messages
            .extend(self.system.as_deref().map(ChatMessage::system));
        self.session.reset();
        self.last = None;
    }

    /// Streams the answer to `question`. A problem of this turn alone is said, and the turn taken back.
    fn answer(&mut self, question: &str) -> anyhow::Result<()> {
        self.messages.push(ChatMessage::user(question));
        self.interrupt.reset();
        let mut generation = match self.session.chat(&self.messages, &self.options) {
            Ok(generation) => generation,
            Err(error @ (Error::ContextFull { .. } | Error::Template(_))) => {
                self.messages.pop();
                eprintln!("{error}; /reset begins a new conversation");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        {
            let mut steps = Steps::new("reading");
            generation.prefill(|done, all| steps.set(done as u64, all as u64))?;
        }
        let mut out = anstream::stdout().lock();
        let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
        write!(out, "{green}")?;
        let mut answer = String::new();
        for piece in generation.by_ref() {
            let piece = piece?;
            out.write_all(piece.as_bytes())?;
            out.flush()?;
            answer.push_str(&piece);
        }
        writeln!(out, "{green:#}")?;
        self.last = Some(generation.timings());
        drop(out);
        // What was said counts, also when it was cut short.
        self.messages.push(ChatMessage::assistant(answer.trim()));
        self.interrupt.reset();
        Ok(())
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
        eprintln!("\n{}", super::memory::tables(self.session.model()));
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
