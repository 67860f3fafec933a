//! Calls: of macros, functions, methods and recursive loops.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::Argument;
use super::clock::strftime;
use super::machine::{Machine, Scope};
use super::meter::{Meter, Outcome};
use super::methods;
use super::text::{Text, plain};
use super::value::{Cycler, Joiner, Macro, Namespace, Value};

/// The most items of a range, as in Jinja's sandbox.
const LONGEST_RANGE: u128 = 100_000;

impl<'p> Machine<'p> {
    pub(super) fn arguments(&mut self, sources: &'p [Argument]) -> Outcome<Arguments> {
        let mut arguments = Arguments::default();
        for source in sources {
            match source {
                Argument::Positional(expression) => {
                    let value = self.value(expression)?;
                    arguments.positional.push_back(value);
                }
                Argument::Named(name, expression) => {
                    let value = self.value(expression)?;
                    arguments.named.push((name.clone(), value));
                }
                Argument::List(expression) => {
                    let items = self.value(expression)?.items(&self.meter)?;
                    self.meter.work(items.items.len())?;
                    arguments.positional.extend(items.items.iter().cloned());
                }
                Argument::Dict(expression) => {
                    let Value::Dict(dict) = self.value(expression)? else {
                        return Err("argument after ** must be a mapping".into());
                    };
                    for (name, value) in &dict.members {
                        let Value::Text(name) = name else {
                            return Err("keywords must be strings".into());
                        };
                        self.meter.work(name.len() + 16)?;
                        arguments.named.push((plain(name), value.clone()));
                    }
                }
            }
        }
        Ok(arguments)
    }

    pub(super) fn call(&mut self, callee: &Value, mut arguments: Arguments) -> Outcome<Value> {
        match callee {
            Value::Macro(called) => {
                let called = Rc::clone(called);
                self.deeper(|machine| machine.call_macro(&called, arguments))
            }
            Value::Method(method) => {
                let (value, name) = &**method;
                methods::call(&self.meter, value, name, &mut arguments)
            }
            Value::Function(name) => self.function(name, arguments),
            Value::Loop(state) => {
                let source = state.program.and_then(|index| {
                    let source = self.program.loops.get(index)?;
                    Some((index, source))
                });
                let Some((index, source)) = source else {
                    return Err(
                        "the loop is not recursive: say so with 'recursive' in the for block"
                            .into(),
                    );
                };
                let items = arguments.need("iterable")?;
                let level = state.level + 1;
                let text = self.deeper(|machine| {
                    machine.captured(|machine| machine.run_loop(source, index, &items, level))
                })?;
                Ok(Value::Text(text))
            }
            Value::Joiner(joiner) => {
                if joiner.used.replace(true) {
                    return Ok(Value::Text(joiner.separator.clone()));
                }
                Value::text(&self.meter, "")
            }
            other => Err(format!("'{}' object is not callable", other.kind()).into()),
        }
    }

    fn call_macro(&mut self, called: &Macro, mut arguments: Arguments) -> Outcome<Value> {
        let program = self.program;
        let Some(source) = program.macros.get(called.program) else {
            return Ok(Value::Undefined);
        };
        self.meter.work(called.around.len() + 64)?;
        // Every parameter is sought among the arguments with names.
        let sought = source
            .parameters
            .len()
            .saturating_mul(1 + arguments.named.len());
        self.meter.work(sought.saturating_mul(2))?;
        let around: Scope = called.around.clone();
        let outside = std::mem::replace(&mut self.scopes, vec![around, Vec::new()]);
        let outcome = self.captured(|machine| {
            for (name, default) in &source.parameters {
                let value = match (arguments.take(name)?, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => machine.value(default)?,
                    (None, None) => Value::Undefined,
                };
                machine.define(name, value);
            }
            let (name, reads) = (&source.name, source.reads);
            // What no parameter takes is there under these names, if the body reads them.
            match arguments.take_named("caller") {
                None => {}
                Some(caller) if reads.caller => machine.define(&"caller".into(), caller),
                Some(_) => return Err(format!("macro '{name}' calls no caller").into()),
            }
            let rest: Vec<Value> = arguments.positional.drain(..).collect();
            if reads.varargs {
                let rest = Value::tuple(&machine.meter, rest)?;
                machine.define(&"varargs".into(), rest);
            } else if !rest.is_empty() {
                let most = source.parameters.len();
                return Err(
                    format!("macro '{name}' takes not more than {most} argument(s)").into(),
                );
            }
            let mut named = Vec::new();
            for (key, value) in arguments.named.drain(..) {
                if !reads.kwargs {
                    return Err(format!("macro '{name}' takes no keyword argument '{key}'").into());
                }
                named.push((Value::foreign(&machine.meter, &key)?, value));
            }
            if reads.kwargs {
                let named = Value::dict(&machine.meter, named)?;
                machine.define(&"kwargs".into(), named);
            }
            machine.body(&source.body)
        });
        self.scopes = outside;
        outcome.map(Value::Text)
    }

    fn define(&mut self, name: &Arc<str>, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push((Arc::clone(name), value));
        }
    }

    fn function(&mut self, name: &str, mut arguments: Arguments) -> Outcome<Value> {
        let meter = Rc::clone(&self.meter);
        let result = match name {
            "range" => range(&meter, &mut arguments)?,
            "raise_exception" => {
                let message = arguments.need("message")?;
                return Err(plain(&self.text_of(&message)?).into());
            }
            "strftime_now" => {
                let format = arguments.need_text("format")?;
                let from_input = format.iter().any(|glyph| glyph.is_input());
                let format = plain(&format);
                meter.work(format.len().saturating_mul(64))?;
                match self.clock {
                    Some(clock) if from_input => {
                        Value::foreign(&meter, &strftime(clock, &format)?)?
                    }
                    Some(clock) => Value::text(&meter, &strftime(clock, &format)?)?,
                    None => Value::Undefined,
                }
            }
            "cycler" => {
                let items = Value::list(&meter, arguments.positional.drain(..).collect())?;
                Value::Cycler(Rc::new(Cycler {
                    items: items.items(&meter)?,
                    at: RefCell::new(0),
                }))
            }
            "joiner" => Value::Joiner(Rc::new(Joiner {
                separator: match arguments.take_text("sep")? {
                    Some(separator) => separator,
                    None => Text::written(&meter, ", ")?,
                },
                used: RefCell::new(false),
            })),
            _ => {
                let mut members: Vec<(Value, Value)> = match arguments.take_positional() {
                    None => Vec::new(),
                    Some(Value::Dict(dict)) => dict.members.clone(),
                    Some(pairs) => {
                        let mut members = Vec::new();
                        for pair in &pairs.items(&meter)?.items {
                            match pair.items(&meter)?.items.as_slice() {
                                [name, value] => members.push((name.clone(), value.clone())),
                                _ => return Err("a dictionary is made of pairs".into()),
                            }
                        }
                        members
                    }
                };
                meter.work(members.len())?;
                for (name, value) in arguments.named.drain(..) {
                    let mut known = None;
                    meter.work(8 * members.len())?;
                    for (index, (found, _)) in members.iter().enumerate() {
                        if matches!(found, Value::Text(found) if found.is(&name)) {
                            known = Some(index);
                        }
                    }
                    match known {
                        Some(index) => members[index].1 = value,
                        None => members.push((Value::foreign(&meter, &name)?, value)),
                    }
                }
                if name == "dict" {
                    Value::dict(&meter, members)?
                } else {
                    let namespace = Namespace {
                        members: RefCell::default(),
                        lease: RefCell::new(meter.lease(64)?),
                    };
                    for (name, value) in members {
                        if let Value::Text(name) = name {
                            namespace.set(&meter, &plain(&name), value)?;
                        }
                    }
                    Value::Namespace(Rc::new(namespace))
                }
            }
        };
        arguments.end()?;
        Ok(result)
    }
}

impl Namespace {
    /// Sets a member.
    pub(super) fn set(&self, meter: &Rc<Meter>, name: &str, value: Value) -> Outcome<()> {
        if !value.is_plain() {
            return Err(format!("a namespace cannot hold a {}", value.kind()).into());
        }
        let mut members = self.members.borrow_mut();
        meter.work(members.len() + 16)?;
        match members.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => {
                let bytes = size_of::<(String, Value)>() + name.len();
                self.lease.borrow_mut().grow(bytes)?;
                members.push((name.to_owned(), value));
            }
        }
        Ok(())
    }
}

fn range(meter: &Rc<Meter>, arguments: &mut Arguments) -> Outcome<Value> {
    let mut numbers = Vec::new();
    while let Some(value) = arguments.take_int("range")? {
        numbers.push(value);
    }
    let (start, stop, step) = match numbers[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] if step != 0 => (start, stop, step),
        _ => return Err("range wants one to three integers, the last of which is not zero".into()),
    };
    let wide = if step > 0 {
        stop.saturating_sub(start)
    } else {
        start.saturating_sub(stop)
    };
    let count = wide.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    if count > LONGEST_RANGE {
        return Err(format!("a range has at most {LONGEST_RANGE} items").into());
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let lease = meter.lease(count.saturating_mul(size_of::<Value>()))?;
    let mut items = Vec::with_capacity(count);
    let mut at = start;
    for _ in 0..count {
        items.push(Value::Int(at));
        at = at.saturating_add(step);
    }
    drop(lease);
    Value::list(meter, items)
}
