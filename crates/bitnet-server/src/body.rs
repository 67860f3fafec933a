//! Bodies of requests: JSON objects whose fields are taken one by one. What is left over is a field that the server does not
//! know, and an error: none is ignored.

use crate::error::{ApiError, ApiResult};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The fields that were not taken yet.
#[derive(Debug)]
pub(crate) struct Body {
    fields: Map<String, Value>,
    /// The beginning of field names in errors: empty, or the object's own name and a dot.
    place: String,
}

impl Body {
    /// The fields of a body.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub(crate) fn parse(bytes: &[u8]) -> ApiResult<Self> {
        let value = serde_json::from_slice(bytes).map_err(|error| {
            ApiError::invalid(format!("the body: expected JSON, found {error}"))
        })?;
        Self::of(value, "")
    }

    /// The fields of an object that is the value of field `name`.
    ///
    /// # Errors
    /// If it is no object.
    pub(crate) fn of(value: Value, name: &str) -> ApiResult<Self> {
        let place = if name.is_empty() {
            String::new()
        } else {
            format!("{name}.")
        };
        match value {
            Value::Object(fields) => Ok(Self { fields, place }),
            other => {
                let what = if name.is_empty() { "the body" } else { name };
                Err(ApiError::field(what, "an object", kind(&other)))
            }
        }
    }

    /// A field's name, with that of the object it is in.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// A field, without taking it; null counts as none.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        let value = self.fields.get(name);
        value.filter(|value| !value.is_null())
    }

    /// Takes a field; null counts as none.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        let value = self.fields.shift_remove(name);
        value.filter(|value| !value.is_null())
    }

    /// Takes a field of a type.
    ///
    /// # Errors
    /// If it has another.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> ApiResult<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match serde_path_to_error::deserialize(&value) {
            Ok(taken) => Ok(Some(taken)),
            Err(error) => {
                let path = match error.path().to_string().as_str() {
                    "." => self.name(name),
                    path if path.starts_with('[') => self.name(name) + path,
                    path => self.name(name) + "." + path,
                };
                let message = format!("{path}: {}", error.inner());
                Err(ApiError::invalid_at(path, message))
            }
        }
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// If it is missing, or has another type.
    pub(crate) fn require<T: DeserializeOwned>(&mut self, name: &str) -> ApiResult<T> {
        let taken = self.take(name)?;
        taken.ok_or_else(|| ApiError::field(self.name(name), "a value", "none"))
    }

    /// Takes a number within a range.
    ///
    /// # Errors
    /// If it is none, or outside.
    pub(crate) fn within<T>(&mut self, name: &str, range: RangeInclusive<T>) -> ApiResult<Option<T>>
    where
        T: DeserializeOwned + PartialOrd + Display,
    {
        let taken = self.take::<T>(name)?;
        match taken {
            Some(value) if !range.contains(&value) => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(ApiError::field(self.name(name), expected, value))
            }
            taken => Ok(taken),
        }
    }

    /// Takes fields that say nothing about the answer, such as the end user's name.
    pub(crate) fn skip(&mut self, names: &[&str]) {
        for name in names {
            self.value(name);
        }
    }

    /// Takes a field that may only say what the server does anyway.
    ///
    /// # Errors
    /// If it asks for something else.
    pub(crate) fn only(&mut self, name: &str, values: &[Value]) -> ApiResult<()> {
        match self.value(name) {
            Some(value) if !values.contains(&value) => Err(ApiError::unsupported(
                self.name(name),
                format_args!("leave it out (found {value})"),
            )),
            _ => Ok(()),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// If a field is left.
    pub(crate) fn finish(mut self) -> ApiResult<()> {
        self.fields.retain(|_, value| !value.is_null());
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::unsupported(
                self.name(name),
                "this server does not know the field",
            )),
        }
    }
}

/// The kind of a value, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
