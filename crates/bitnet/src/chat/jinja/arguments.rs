//! The arguments of a function, filter, test or method.

use super::meter::Outcome;
use super::text::{Text, plain};
use super::value::Value;

/// Arguments by place and by name. Parameters are taken in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub(super) positional: std::collections::VecDeque<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Arguments {
    /// The next parameter, which has that name.
    pub(super) fn take(&mut self, name: &str) -> Outcome<Option<Value>> {
        let named = self.named.iter().position(|(found, _)| found == name);
        match (self.positional.pop_front(), named) {
            (Some(_), Some(_)) => Err(format!("got multiple values for {name}").into()),
            (None, Some(at)) => Ok(Some(self.named.remove(at).1)),
            (positional, None) => Ok(positional),
        }
    }

    /// The next parameter, without which nothing can be done.
    pub(super) fn need(&mut self, name: &str) -> Outcome<Value> {
        self.take(name)?
            .ok_or_else(|| format!("missing argument: {name}").into())
    }

    /// The argument of that name.
    pub(super) fn take_named(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(found, _)| found == name)?;
        Some(self.named.remove(at).1)
    }

    /// The next argument without a name.
    pub(super) fn take_positional(&mut self) -> Option<Value> {
        self.positional.pop_front()
    }

    pub(super) fn take_int(&mut self, name: &str) -> Outcome<Option<i128>> {
        match self.take(name)? {
            None | Some(Value::None) => Ok(None),
            Some(value) => value
                .as_int()
                .map(Some)
                .ok_or_else(|| format!("{name} is an integer, not a {}", value.kind()).into()),
        }
    }

    /// A count, which is 0 if it is negative.
    pub(super) fn take_count(&mut self, name: &str) -> Outcome<Option<usize>> {
        let value = self.take_int(name)?;
        Ok(value.map(|value| usize::try_from(value.max(0)).unwrap_or(usize::MAX)))
    }

    pub(super) fn take_text(&mut self, name: &str) -> Outcome<Option<Text>> {
        match self.take(name)? {
            None | Some(Value::None) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => Err(format!("{name} is a text, not a {}", value.kind()).into()),
        }
    }

    pub(super) fn need_text(&mut self, name: &str) -> Outcome<Text> {
        self.take_text(name)?
            .ok_or_else(|| format!("missing argument: {name}").into())
    }

    pub(super) fn take_name(&mut self, name: &str) -> Outcome<Option<String>> {
        Ok(self.take_text(name)?.map(|text| plain(&text)))
    }

    pub(super) fn take_bool(&mut self, name: &str) -> Outcome<bool> {
        Ok(self.take(name)?.is_some_and(|value| value.is_true()))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.positional.len() + self.named.len()
    }

    /// Refuses what no parameter took.
    pub(super) fn end(&self) -> Outcome<()> {
        if let Some((name, _)) = self.named.first() {
            return Err(format!("unexpected argument: {name}").into());
        }
        if !self.positional.is_empty() {
            return Err("too many arguments".into());
        }
        Ok(())
    }
}
