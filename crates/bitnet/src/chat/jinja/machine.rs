//! Renders a program.

use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::{Expression, LoopSource, Program, Statement, Suffix, Target};
use super::clock::Clock;
use super::meter::{Meter, Outcome};
use super::print::{print, to_text};
use super::text::{Buffer, Glyph, Text};
use super::value::{List, Loop, Macro, Value};
use super::{checks, filters, lookup, operators};

/// Statements in statements, expressions in expressions and calls in calls: no deeper than this, all together.
const MAX_RUNNING: usize = 160;

/// What one node of a program costs.
const NODE: usize = 16;

/// Variables of one scope, the latest last.
pub(super) type Scope = Vec<(Arc<str>, Value)>;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Machine<'p> {
    pub(super) program: &'p Program,
    pub(super) meter: Rc<Meter>,
    pub(super) clock: Option<Clock>,
    /// Variables of the template itself.
    top: Scope,
    /// Those of the blocks around, the innermost last.
    pub(super) scopes: Vec<Scope>,
    /// The output, and what is captured now.
    output: Vec<Buffer>,
    longest: usize,
    running: usize,
}

impl<'p> Machine<'p> {
    pub(super) fn new(
        program: &'p Program,
        meter: &Rc<Meter>,
        variables: Scope,
        clock: Option<Clock>,
        longest: usize,
    ) -> Outcome<Self> {
        Ok(Self {
            program,
            meter: Rc::clone(meter),
            clock,
            top: variables,
            scopes: Vec::new(),
            output: vec![Buffer::new(meter)?],
            longest,
            running: 0,
        })
    }

    pub(super) fn run(mut self) -> Outcome<Vec<Glyph>> {
        self.body(&self.program.body)?;
        let output = self.output.pop();
        Ok(output.map(Buffer::into_glyphs).unwrap_or_default())
    }

    /// Runs `inner` one level deeper.
    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.running >= MAX_RUNNING {
            return Err("it calls macros in macros deeper than a chat template may".into());
        }
        self.running += 1;
        let outcome = inner(self);
        self.running -= 1;
        outcome
    }

    /// Runs `inner` with a scope of its own.
    pub(super) fn scoped<T>(
        &mut self,
        scope: Scope,
        inner: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        self.scopes.push(scope);
        let outcome = inner(self);
        self.scopes.pop();
        outcome
    }

    /// Runs `inner`, and gives what it writes.
    pub(super) fn captured<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<Text> {
        self.output.push(Buffer::new(&self.meter)?);
        let outcome = inner(self);
        let captured = self.output.pop();
        outcome?;
        match captured {
            Some(buffer) => Ok(buffer.finish()),
            None => Text::written(&self.meter, ""),
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut Buffer) -> Outcome<()>) -> Outcome<()> {
        let longest = self.longest;
        let Some(buffer) = self.output.last_mut() else {
            return Ok(());
        };
        write(buffer)?;
        if buffer.len() > longest {
            return Err(format!("it writes more than {longest} characters").into());
        }
        Ok(())
    }

    pub(super) fn lookup(&self, name: &str) -> Outcome<Option<Value>> {
        for scope in self.scopes.iter().rev().chain([&self.top]) {
            self.meter.work(scope.len())?;
            let found = scope.iter().rev().find(|(found, _)| **found == *name);
            if let Some((_, value)) = found {
                return Ok(Some(value.clone()));
            }
        }
        const FUNCTIONS: [&str; 7] = [
            "range",
            "dict",
            "namespace",
            "raise_exception",
            "cycler",
            "joiner",
            "strftime_now",
        ];
        let function = FUNCTIONS.iter().find(|found| **found == name);
        Ok(function
            .filter(|name| **name != "strftime_now" || self.clock.is_some())
            .map(|name| Value::Function(name)))
    }

    fn assign(&mut self, name: &Arc<str>, value: Value) {
        let scope = self.scopes.last_mut().unwrap_or(&mut self.top);
        match scope.iter_mut().rev().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => scope.push((Arc::clone(name), value)),
        }
    }

    /// Gives `value` to what `target` names.
    fn bind(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => {
                let scope = self.scopes.last().unwrap_or(&self.top);
                self.meter.work(NODE + scope.len())?;
                self.assign(name, value);
                Ok(())
            }
            Target::Several(targets) => {
                let items = value.items(&self.meter)?;
                if items.items.len() != targets.len() {
                    return Err(format!(
                        "expected {} values to unpack, found {}",
                        targets.len(),
                        items.items.len()
                    )
                    .into());
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.bind(target, item.clone())?;
                }
                Ok(())
            }
            Target::Member(name, member) => {
                let Some(Value::Namespace(namespace)) = self.lookup(name)? else {
                    return Err("cannot assign attribute on non-namespace object".into());
                };
                namespace.set(&self.meter, member, value)
            }
        }
    }

    pub(super) fn body(&mut self, body: &'p [Statement]) -> Outcome<Flow> {
        for statement in body {
            self.meter.work(NODE)?;
            let flow = match statement {
                Statement::Text(text) => {
                    self.write(|buffer| buffer.push_str(text))?;
                    Flow::Next
                }
                Statement::Output(expression) => {
                    let value = self.value(expression)?;
                    self.write(|buffer| print(buffer, &value))?;
                    Flow::Next
                }
                Statement::Set(target, expression) => {
                    let value = self.value(expression)?;
                    self.bind(target, value)?;
                    Flow::Next
                }
                Statement::Break => Flow::Break,
                Statement::Continue => Flow::Continue,
                other => self.deeper(|machine| machine.block(other))?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn block(&mut self, statement: &'p Statement) -> Outcome<Flow> {
        match statement {
            Statement::If(cases) => {
                for (condition, body) in cases {
                    let applies = match condition {
                        Some(condition) => self.value(condition)?.is_true(),
                        None => true,
                    };
                    if applies {
                        return self.body(body);
                    }
                }
            }
            Statement::Loop(index) => {
                if let Some(source) = self.program.loops.get(*index) {
                    let items = self.value(&source.items)?;
                    self.run_loop(source, *index, &items, 0)?;
                }
            }
            Statement::SetBlock(target, filters, body) => {
                let text = self
                    .captured(|machine| machine.scoped(Vec::new(), |machine| machine.body(body)))?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.bind(target, value)?;
            }
            Statement::FilterBlock(filters, body) => {
                let text = self
                    .captured(|machine| machine.scoped(Vec::new(), |machine| machine.body(body)))?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.write(|buffer| print(buffer, &value))?;
            }
            Statement::Macro(name, index) => {
                let value = self.macro_value(*index)?;
                self.assign(&name.as_str().into(), value);
            }
            Statement::Call(call, index) => {
                let caller = self.macro_value(*index)?;
                let value = self.call_with(call, caller)?;
                self.write(|buffer| print(buffer, &value))?;
            }
            Statement::With(targets, body) => {
                let mut values = Vec::new();
                for (_, expression) in targets {
                    values.push(self.value(expression)?);
                }
                return self.scoped(Vec::new(), |machine| {
                    for ((target, _), value) in targets.iter().zip(values) {
                        machine.bind(target, value)?;
                    }
                    machine.body(body)
                });
            }
            _ => {}
        }
        Ok(Flow::Next)
    }

    fn filtered(&mut self, mut value: Value, filters: &'p [super::ast::Filter]) -> Outcome<Value> {
        for filter in filters {
            let arguments = self.arguments(&filter.arguments)?;
            value = filters::apply(&self.meter, &filter.name, &value, arguments)?;
        }
        Ok(value)
    }

    fn macro_value(&mut self, program: usize) -> Outcome<Value> {
        let around: Scope = self.scopes.iter().flatten().cloned().collect();
        self.meter.work(around.len())?;
        Macro::value(&self.meter, program, around)
    }

    /// Runs a loop over `items`, `level` calls of itself deep.
    pub(super) fn run_loop(
        &mut self,
        source: &'p LoopSource,
        index: usize,
        items: &Value,
        level: usize,
    ) -> Outcome<()> {
        let items = items.items(&self.meter)?;
        let items = match &source.condition {
            Some(condition) => self.selected(source, condition, &items)?,
            None => items,
        };
        if items.items.is_empty() {
            self.scoped(Vec::new(), |machine| machine.body(&source.otherwise))?;
            return Ok(());
        }
        let seen = Rc::default();
        let name: Arc<str> = "loop".into();
        for (place, item) in items.items.iter().enumerate() {
            let state = Loop {
                items: Rc::clone(&items),
                index: place,
                level,
                program: source.recursive.then_some(index),
                seen: Rc::clone(&seen),
            };
            let scope = vec![(Arc::clone(&name), Value::Loop(Rc::new(state)))];
            let flow = self.scoped(scope, |machine| {
                machine.bind(&source.target, item.clone())?;
                machine.body(&source.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// The items of a loop that its condition lets through.
    fn selected(
        &mut self,
        source: &'p LoopSource,
        condition: &'p Expression,
        items: &Rc<List>,
    ) -> Outcome<Rc<List>> {
        let mut selected = Vec::new();
        for item in &items.items {
            let passes = self.scoped(Vec::new(), |machine| {
                machine.bind(&source.target, item.clone())?;
                Ok(machine.value(condition)?.is_true())
            })?;
            if passes {
                selected.push(item.clone());
            }
        }
        Value::list(&self.meter, selected)?.items(&self.meter)
    }

    pub(super) fn value(&mut self, expression: &'p Expression) -> Outcome<Value> {
        self.meter.work(NODE)?;
        Ok(match expression {
            Expression::None => Value::None,
            Expression::Bool(value) => Value::Bool(*value),
            Expression::Int(value) => Value::Int(*value),
            Expression::Float(value) => Value::Float(*value),
            Expression::Text(text) => Value::text(&self.meter, text)?,
            Expression::Name(name) => self.lookup(name)?.unwrap_or(Value::Undefined),
            Expression::Suffixed(inner, suffixes) => {
                return self.deeper(|machine| machine.suffixed(inner, suffixes));
            }
            other => return self.deeper(|machine| machine.compound(other)),
        })
    }

    fn values(&mut self, expressions: &'p [Expression]) -> Outcome<Vec<Value>> {
        expressions
            .iter()
            .map(|expression| self.value(expression))
            .collect()
    }

    fn compound(&mut self, expression: &'p Expression) -> Outcome<Value> {
        match expression {
            Expression::List(items) => {
                let items = self.values(items)?;
                Value::list(&self.meter, items)
            }
            Expression::Tuple(items) => {
                let items = self.values(items)?;
                Value::tuple(&self.meter, items)
            }
            Expression::Dict(members) => self.dict(members),
            Expression::Conditional(cases, otherwise) => {
                for (value, condition) in cases {
                    if self.value(condition)?.is_true() {
                        return self.value(value);
                    }
                }
                otherwise
                    .as_ref()
                    .map_or(Ok(Value::Undefined), |otherwise| self.value(otherwise))
            }
            Expression::Logic(or, operands) => {
                let mut value = Value::Undefined;
                for operand in operands {
                    value = self.value(operand)?;
                    if value.is_true() == *or {
                        break;
                    }
                }
                Ok(value)
            }
            Expression::Not(inner) => Ok(Value::Bool(!self.value(inner)?.is_true())),
            Expression::Compare(first, rest) => {
                let mut left = self.value(first)?;
                for (comparison, expression) in rest {
                    let right = self.value(expression)?;
                    if !operators::compare(&self.meter, *comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expression::Concat(operands) => {
                let mut buffer = Buffer::new(&self.meter)?;
                for operand in operands {
                    print(&mut buffer, &self.value(operand)?)?;
                }
                Ok(Value::Text(buffer.finish()))
            }
            Expression::Chain(first, rest) => {
                let mut left = self.value(first)?;
                for (operator, expression) in rest {
                    let right = self.value(expression)?;
                    let undefined = match (&left, &right) {
                        (Value::Undefined, _) => Some(&**first),
                        (_, Value::Undefined) => Some(expression),
                        _ => None,
                    };
                    if let Some(expression) = undefined {
                        return Err(undefined_name(expression).into());
                    }
                    left = operators::calculate(&self.meter, *operator, &left, &right)?;
                }
                Ok(left)
            }
            Expression::Negative(inner) | Expression::Positive(inner) => {
                let value = self.value(inner)?;
                let positive = matches!(expression, Expression::Positive(_));
                let negative = match &value {
                    _ if positive && value.as_float().is_some() => Some(value.clone()),
                    Value::Float(value) => Some(Value::Float(-value)),
                    other => other.as_int().and_then(i128::checked_neg).map(Value::Int),
                };
                negative.ok_or_else(|| {
                    format!("bad operand type for unary -: '{}'", value.kind()).into()
                })
            }
            simple => self.value(simple),
        }
    }

    fn dict(&mut self, members: &'p [(Expression, Expression)]) -> Outcome<Value> {
        let mut values: Vec<(Value, Value)> = Vec::new();
        for (name, member) in members {
            let name = self.value(name)?;
            let member = self.value(member)?;
            if matches!(name, Value::List(_) | Value::Dict(_)) {
                return Err(format!("unhashable type: '{}'", name.kind()).into());
            }
            let mut known = None;
            for (index, (found, _)) in values.iter().enumerate() {
                if found.equals(&self.meter, &name)? {
                    known = Some(index);
                    break;
                }
            }
            match known {
                Some(index) => values[index].1 = member,
                None => values.push((name, member)),
            }
        }
        Value::dict(&self.meter, values)
    }

    pub(super) fn suffixed(
        &mut self,
        inner: &'p Expression,
        suffixes: &'p [Suffix],
    ) -> Outcome<Value> {
        let mut value = self.value(inner)?;
        let mut missing: Option<String> = None;
        for suffix in suffixes {
            self.meter.work(NODE)?;
            if let (
                Value::Undefined,
                Suffix::Attribute(_) | Suffix::Item(_) | Suffix::Slice(_) | Suffix::Call(_),
            ) = (&value, suffix)
            {
                return Err(missing.unwrap_or_else(|| undefined_name(inner)).into());
            }
            value = self.suffix(value, suffix)?;
            missing = match suffix {
                _ if !matches!(value, Value::Undefined) => None,
                Suffix::Attribute(name) => Some(format!("there is no attribute '{name}'")),
                Suffix::Item(Expression::Text(name)) => Some(format!("there is no item '{name}'")),
                _ => Some("there is no such item".to_owned()),
            };
        }
        Ok(value)
    }

    fn suffix(&mut self, value: Value, suffix: &'p Suffix) -> Outcome<Value> {
        match suffix {
            Suffix::Attribute(name) => lookup::attribute(&self.meter, &value, name),
            Suffix::Item(index) => {
                let index = self.value(index)?;
                lookup::item(&self.meter, &value, &index)
            }
            Suffix::Slice(bounds) => {
                let mut values = [Value::None, Value::None, Value::None];
                for (value, bound) in values.iter_mut().zip(bounds) {
                    if let Some(bound) = bound {
                        *value = self.value(bound)?;
                    }
                }
                operators::slice(&self.meter, &value, values)
            }
            Suffix::Call(arguments) => {
                let arguments = self.arguments(arguments)?;
                self.call(&value, arguments)
            }
            Suffix::Filter(filter) => {
                let arguments = self.arguments(&filter.arguments)?;
                filters::apply(&self.meter, &filter.name, &value, arguments)
            }
            Suffix::Test(test, negated) => {
                let arguments = self.arguments(&test.arguments)?;
                let passes = checks::check(&self.meter, &test.name, &value, arguments)?;
                Ok(Value::Bool(passes != *negated))
            }
        }
    }

    /// The value of a call, with the body of its block as `caller`.
    fn call_with(&mut self, call: &'p Expression, caller: Value) -> Outcome<Value> {
        let Expression::Suffixed(inner, suffixes) = call else {
            return Err("a call block calls a macro".into());
        };
        let Some((Suffix::Call(arguments), before)) = suffixes.split_last() else {
            return Err("a call block calls a macro".into());
        };
        let callee = self.suffixed(inner, before)?;
        let mut arguments: Arguments = self.arguments(arguments)?;
        arguments.named.push(("caller".to_owned(), caller));
        self.call(&callee, arguments)
    }

    pub(super) fn text_of(&self, value: &Value) -> Outcome<Text> {
        to_text(&self.meter, value)
    }
}

fn undefined_name(expression: &Expression) -> String {
    match expression {
        Expression::Name(name) => format!("'{name}' is undefined"),
        Expression::Suffixed(_, suffixes) => match suffixes.last() {
            Some(Suffix::Attribute(name)) => format!("there is no attribute '{name}'"),
            _ => "a value is undefined".to_owned(),
        },
        _ => "a value is undefined".to_owned(),
    }
}
