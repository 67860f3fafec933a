//! The metadata of a GGUF file: reading it, asking it, and the keys that mean "not this runtime".

use super::cursor::Cursor;
use super::{Array, Gguf, LONGEST_KEY, MOST_ALIGNMENT, StringArray, Value};
use crate::{Error, Result};

/// Reads `count` entries.
pub(super) fn read(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<(String, Value)>> {
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        let key = cursor.name(LONGEST_KEY, format_args!("metadata key {index}"))?;
        let value = Value::read(cursor, key)?;
        entries.push((key.to_owned(), value));
    }
    Ok(entries)
}

impl Gguf {
    /// All metadata in file order.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        super::find(&self.metadata, &self.by_key, key, |(key, _)| key).map(|(_, value)| value)
    }

    /// The text of `key`.
    ///
    /// # Errors
    /// [`Error::Malformed`], as for all typed getters, if the value has another type; here also if it is not UTF-8.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.wrong(key, "UTF-8 text", "other bytes")),
            },
            Some(other) => Err(self.wrong(key, "a string", shown(other))),
        }
    }

    /// The text of `key`, if it has one, for people to read: bytes that are no UTF-8 are replaced.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key) {
            Some(Value::String(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// The number of `key`, stored as any integer type.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.integer(key, "an integer from 0 to 4294967295")
    }

    /// The number of `key`, stored as any integer type.
    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.integer(key, "a non-negative integer that fits the address space")
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = match value {
            // Some writers store one number per layer.
            Value::Array(array) => equal_integers(array),
            other => other.integer(),
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, expected, shown(value))),
        }
    }

    /// The number of `key`, stored as f32 or f64.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) => Ok(Some(*value)),
            Some(Value::F64(value)) => Ok(Some(*value as f32)),
            Some(other) => Err(self.wrong(key, "a floating-point number", shown(other))),
        }
    }

    /// The truth of `key`.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, "a bool", shown(other))),
        }
    }

    /// The strings of `key`, which stay in the file's bytes.
    pub fn strings(&self, key: &str) -> Result<Option<StringArray>> {
        self.array(key, "an array of strings", Array::strings)
    }

    /// The numbers of `key`, stored as f32 or f64.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.array(key, "an array of floating-point numbers", |array| {
            array
                .iter()
                .map(|value| match value {
                    Value::F32(value) => Some(value),
                    Value::F64(value) => Some(value as f32),
                    _ => None,
                })
                .collect()
        })
    }

    /// The numbers of `key`, stored as any integer type.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.array(key, "an array of 32-bit integers", |array| {
            array
                .iter()
                .map(|value| i32::try_from(value.integer()?).ok())
                .collect()
        })
    }

    /// The truths of `key`, stored as bools, or as any integer type 0 and 1.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.array(key, "an array of bools, or of 0 and 1", |array| {
            array
                .iter()
                .map(|value| match value {
                    Value::Bool(flag) => Some(flag),
                    other => match other.integer()? {
                        0 => Some(false),
                        1 => Some(true),
                        _ => None,
                    },
                })
                .collect()
        })
    }

    fn array<T>(
        &self,
        key: &str,
        expected: &str,
        elements: impl FnOnce(&Array) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let found = match value {
            Value::Array(array) => elements(array),
            _ => None,
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => Err(self.wrong(key, expected, shown(value))),
        }
    }

    fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        Error::malformed(&self.name, key, expected, found)
    }

    /// The alignment that the metadata state, checked.
    pub(super) fn stated_alignment(&self) -> Result<usize> {
        let key = "general.alignment";
        match self.usize(key)? {
            None => Ok(super::DEFAULT_ALIGNMENT),
            Some(alignment) if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT => {
                Ok(alignment)
            }
            Some(alignment) => Err(self.wrong(
                key,
                format_args!("a power of two up to {MOST_ALIGNMENT}"),
                alignment,
            )),
        }
    }
}

/// The integer that every element equals, if there is one.
fn equal_integers(array: &Array) -> Option<i128> {
    let mut numbers = array.iter().map(|value| value.integer());
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

/// A value with its type, for errors.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => value.to_string(),
        _ => format!("{} {value}", value.kind()),
    }
}
