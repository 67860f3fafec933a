//! `bitnet chat`: a conversation, line by line.

use super::form::{FormArguments, Forms};
use super::reply::Reply;
use super::run::timings_line;
use super::sampling::SamplingArguments;
use crate::context;
use crate::failure::{self, Interrupted};
use crate::interrupt::Interrupt;
use crate::open::{HeadArgument, ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::template::TemplateArguments;
use crate::{number, printable};
use anstyle::Style;
use anyhow::Context;
use bitnet::chat::{ReplyForm, ReplyParser, Tool};
use bitnet::constraint::{Calls, Demand, Grammar};
use bitnet::hook::{Hooks, LogitsHook};
use bitnet::hub::HubOptions;
use bitnet::{Error, GenerateOptions, Session, StopReason, Timings};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
/help        this list
/reset       forget the conversation
/save FILE   write the conversation: JSON if FILE ends in .json, else text
/thinking    what the model thought before its last answer
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
  bitnet chat -m qwen.gguf --tools tools.json     calls are printed as JSON; the next lines are their results
  bitnet chat -m qwen.gguf --thinking on --thinking-budget 500 --hide-thinking

In the conversation: /help /reset /save FILE /thinking /stats /quit; Ctrl-C stops an answer.")]
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

    #[command(flatten)]
    form: FormArguments,

    /// The tools that the model may call: a file with a JSON list as OpenAI's clients send it
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,

    /// Whether a question is answered by a call: auto, as the model likes; required; or the name of the tool that is to be called
    #[arg(long, value_name = "CHOICE", requires = "tools", default_value = "auto", value_parser = demand)]
    tool_choice: Demand,

    /// Do not show what the model thinks before it answers; /thinking does
    #[arg(long)]
    hide_thinking: bool,

    /// The most tokens that the model thinks before it answers
    #[arg(long, value_name = "TOKENS")]
    thinking_budget: Option<usize>,
}

/// A conversation under way.
struct Chat {
    session: Session,
    options: GenerateOptions,
    interrupt: Interrupt,
    system: Option<String>,
    messages: Vec<Value>,
    /// How many of them no longer fit the context.
    forgotten: usize,
    load: Duration,
    last: Option<Timings>,
    tools: Vec<Tool>,
    /// The calls that answers to the user's questions must have.
    demand: Demand,
    /// The calls whose results are due: id and name.
    due: VecDeque<(String, String)>,
    /// How many calls there were.
    calls: usize,
    grammar: Option<Grammar>,
    forms: Forms,
    thinking_budget: Option<usize>,
    hides_thinking: bool,
    /// What the model thought before its last answer.
    thought: String,
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
        let mut chat_template_kwargs = self.template.kwargs()?;
        let grammar = self.form.grammar()?;
        let tools = self.offered(&mut chat_template_kwargs)?;
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
        if !tools.is_empty() && !template.source().is_some_and(|text| text.contains("tools")) {
            let why = "its chat template knows nothing of tools; another one can be given by --chat-template";
            return Err(Error::Template(format!("{}: {why}", opened.model.name())).into());
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
            tools,
            demand: self.tool_choice,
            due: VecDeque::new(),
            calls: 0,
            grammar,
            forms: Forms::of(&opened.model),
            thinking_budget: self.thinking_budget,
            hides_thinking: self.hide_thinking,
            thought: String::new(),
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

    /// The tools of the file that was given, which the template gets, too.
    fn offered(&self, kwargs: &mut Map<String, Value>) -> anyhow::Result<Vec<Tool>> {
        let Some(path) = &self.tools else {
            return Ok(Vec::new());
        };
        let file = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read tools {file}"))?;
        let written: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("{file}: expected a JSON list of tools"))?;
        let numbered = written.iter().enumerate();
        let tools = numbered.map(|(index, tool)| Tool::parse(tool, &format!("{file}[{index}]")));
        let tools = tools.collect::<Result<_, _>>()?;
        kwargs.insert("tools".into(), Value::Array(written));
        Ok(tools)
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
            let prompt = match self.due.front() {
                _ if !pending.is_empty() => "… ".into(),
                Some((_, name)) if interactive => format!("result of {} > ", printable::line(name)),
                _ => prompt.to_owned(),
            };
            match editor.readline(&prompt) {
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
            "/thinking" => {
                let dim = Style::new().dimmed();
                anstream::eprintln!("{dim}{}{dim:#}", printable::text(self.thought.trim()));
            }
            "/quit" | "/exit" => return Ok(Next::Leave),
            _ if command.starts_with('/') && !command[1..].contains('/') => {
                eprintln!("no command {}; /help lists them", printable::line(command));
            }
            _ => self.say(text)?,
        }
        Ok(Next::GoOn)
    }

    fn reset(&mut self) {
        self.messages.clear();
        self.forgotten = 0;
        self.due.clear();
        let system = self.system.as_deref();
        self.messages
            .extend(system.map(|text| json!({"role": "system", "content": text})));
        self.session.reset();
        self.last = None;
    }

    /// Takes what the user says: the result of the call that is due, or a question. Where all results are there, the answer is
    /// streamed.
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let Some((id, name)) = self.due.pop_front() else {
            return self
                .answer(json!({"role": "user", "content": text}))
                .map(|_| ());
        };
        let result = json!({"role": "tool", "tool_call_id": id, "name": name, "content": text});
        if !self.due.is_empty() {
            self.messages.push(result);
        } else if !self.answer(result)? {
            self.due.push_front((id, name));
        }
        Ok(())
    }

    /// Streams the answer to a message. Where there can be none, the message is taken back; a problem of this turn alone is said to
    /// somebody who types, and ends the command where nobody does. Returns whether there was an answer.
    fn answer(&mut self, message: Value) -> anyhow::Result<bool> {
        self.messages.push(message);
        self.interrupt.reset();
        match self.stream() {
            Ok(reply) => {
                // What was said counts, also when it was cut short.
                self.keep(reply);
                if self.interrupt.is_pressed() && !self.typed {
                    return Err(Interrupted.into());
                }
                self.interrupt.reset();
                Ok(true)
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
                Ok(false)
            }
        }
    }

    /// Makes a reply part of the conversation; the results of its calls are then due.
    fn keep(&mut self, reply: Reply) {
        let mut message = json!({"role": "assistant", "content": reply.answer.trim()});
        if !reply.thought.is_empty() {
            message["reasoning_content"] = reply.thought.trim().into();
        }
        let mut calls = Vec::with_capacity(reply.calls.len());
        for call in reply.calls {
            self.calls += 1;
            // Some templates want ids of nine letters and digits.
            let id = format!("call{:05}", self.calls);
            calls.push(json!({
                "id": id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }));
            self.due.push_back((id, call.name));
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        self.thought = reply.thought;
        self.messages.push(message);
    }

    /// Streams what the model says next, and says on stderr why it is not the whole answer, if it is not.
    fn stream(&mut self) -> anyhow::Result<Reply> {
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
        let tokens = model.chat_tokens(&fitted.messages, &self.options)?;
        let form = model.reply_form(&tokens).context("no chat template")?;
        let hook = self.hook(form)?;
        let mut parser = ReplyParser::new(form.options(self.tools.clone()));
        let mut generation = self
            .session
            .answer(&tokens, &self.options, hook)
            .map_err(|error| context::explain(error, &model, 1))?;
        {
            let mut steps = Steps::new("reading");
            generation.prefill(|done, all| steps.set(done as u64, all as u64))?;
        }
        let mut reply = Reply::new(self.hides_thinking);
        for piece in generation.by_ref() {
            reply.print(parser.push(&piece?))?;
        }
        reply.print(parser.finish())?;
        let (timings, reason) = (generation.timings(), generation.stop_reason());
        if reply.is_empty() && reason == Some(StopReason::ContextFull) {
            let used = generation.session().tokens().len();
            let full = Error::ContextFull {
                capacity: model.context(),
                used,
                wanted: 1,
            };
            return Err(context::explain(full, &model, 0));
        }
        reply.finish()?;
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
            _ if reply.is_empty() => Some("the model ended its answer at once".to_owned()),
            _ => None,
        };
        if let Some(note) = note {
            let dim = Style::new().dimmed();
            anstream::eprintln!("{dim}[{note}]{dim:#}");
        }
        Ok(reply)
    }

    /// The hook that keeps a reply to what was asked for.
    fn hook(&mut self, form: ReplyForm) -> bitnet::Result<Option<Box<dyn LogitsHook>>> {
        let thinking = form.thinking(self.session.model().tokenizer())?;
        let mut hooks: Vec<Box<dyn LogitsHook>> = Vec::new();
        if let (Some(most), Some(thinking)) = (self.thinking_budget, &thinking) {
            hooks.push(Box::new(thinking.clone().budget(most)));
        }
        let is_asked = self
            .messages
            .last()
            .is_some_and(|last| last["role"] == "user");
        let demand = if is_asked {
            self.demand.clone()
        } else {
            Demand::Nothing
        };
        let answer = self.grammar.clone();
        let grammar = Calls::in_reply(form.calls, &self.tools, &demand, true, answer)?;
        if let Some(grammar) = grammar {
            let constraint = self.forms.constraint(&grammar, thinking.as_ref())?;
            hooks.push(Box::new(constraint));
        }
        Ok(Hooks::of(hooks))
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
                .map(|message| {
                    let text = |field: &str| message[field].as_str().unwrap_or_default();
                    let mut turn = format!("{}: {}\n", text("role"), text("content"));
                    for call in message["tool_calls"].as_array().into_iter().flatten() {
                        turn += &format!("{}\n", call["function"]);
                    }
                    turn
                })
                .collect();
            turns.join("\n")
        };
        Ok(fs::write(path, text)?)
    }
}

/// A choice of tools as an argument.
fn demand(text: &str) -> Result<Demand, Infallible> {
    Ok(match text {
        "auto" => Demand::Nothing,
        "required" => Demand::Any,
        name => Demand::Named(name.to_owned()),
    })
}

/// Where the lines typed in earlier conversations are kept.
fn history_file() -> Option<PathBuf> {
    let folder = HubOptions::from_env().bitnet_cache?;
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat_history.txt"))
}
