//! Jinja as chat templates use it, for templates of unknown origin.
//!
//! The engine exists because none that is published can be bounded from outside: with minijinja, parsing, code
//! generation and the end of values recurse without a limit, and methods, comparisons, printing and joining cost no
//! fuel; and its texts cannot say which of their characters come from a message. Here:
//!
//! - the source nests at most [`parser::MAX_NESTING`] levels, chains are lists, values nest at most
//!   [`value::MAX_DEPTH`] levels and never contain themselves, so that compiling, rendering and dropping fit a stack of
//!   512 KiB;
//! - all work and memory are paid for before they are used ([`meter`]), and a rendering can be cancelled;
//! - every character knows whether it comes from the input ([`text`]).
//!
//! What it renders is what Jinja2 does in the environment of Hugging Face's transformers: blocks swallow the line end
//! after them and the indentation before them, values print as in Python, `break` and `continue` work, `tojson` is
//! `json.dumps`. Templates made of several (`include`, `import`, `extends`) are not supported.

mod arguments;
mod ast;
mod blocks;
mod call;
mod case;
mod checks;
mod clock;
mod filters;
mod format;
mod json;
mod lexer;
mod lookup;
mod machine;
mod meter;
mod methods;
mod operators;
mod parser;
mod print;
mod sequences;
mod text;
mod value;

use crate::cancel::Cancel;
use machine::Machine;
use meter::Meter;
use value::Value;

pub(super) use clock::Clock;
pub(super) use meter::Fault;
pub(super) use text::Glyph;

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template(ast::Program);

/// A variable of a template.
pub(super) enum Variable<'v> {
    /// What comes from outside.
    Input(&'v serde_json::Value),
    /// Text as good as the template's own.
    Trusted(&'v str),
    /// A truth value.
    Flag(bool),
}

/// What a rendering is told beside its variables.
pub(super) struct Setting {
    pub(super) clock: Option<Clock>,
    pub(super) cancel: Cancel,
    /// The most characters of output.
    pub(super) longest: usize,
}

impl Template {
    /// Compiles `source`.
    pub(super) fn compile(source: &str) -> Result<Self, Fault> {
        blocks::compile(source).map(Self)
    }

    /// Renders it. Later variables go before earlier ones of the same name.
    pub(super) fn render(
        &self,
        variables: &[(&str, Variable<'_>)],
        setting: Setting,
    ) -> Result<Vec<Glyph>, Fault> {
        let meter = Meter::new(setting.cancel);
        let mut values = Vec::new();
        for (name, variable) in variables {
            let value = match variable {
                Variable::Input(json) if *name == "messages" => messages(&meter, json)?,
                Variable::Input(json) => Value::from_json(&meter, json)?,
                Variable::Trusted(text) => Value::text(&meter, text)?,
                Variable::Flag(value) => Value::Bool(*value),
            };
            values.push(((*name).into(), value));
        }
        Machine::new(&self.0, &meter, values, setting.clock, setting.longest)?.run()
    }
}

/// The messages of a conversation. Their roles, if they are plain words, count as the template's own text: templates
/// make marks of them (`<|user|>`).
fn messages(meter: &std::rc::Rc<Meter>, json: &serde_json::Value) -> Result<Value, Fault> {
    let Value::List(list) = Value::from_json(meter, json)? else {
        return Value::from_json(meter, json);
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut messages = Vec::new();
    for message in &list.items {
        let Value::Dict(dict) = message else {
            messages.push(message.clone());
            continue;
        };
        let mut members = dict.members.clone();
        for (name, value) in &mut members {
            if let (Value::Text(name), Value::Text(role)) = (name, &*value)
                && name.is("role")
                && role.iter().all(|glyph| is_word(glyph.char()))
            {
                *value = Value::text(meter, &text::plain(role))?;
            }
        }
        messages.push(Value::dict(meter, members)?);
    }
    Value::list(meter, messages)
}
