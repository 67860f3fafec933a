//! Metadata values. Strings and arrays are validated where the file is parsed and then stay in the file's
//! bytes: a vocabulary of 280 000 merges costs one walk over it and not one allocation.

use std::fmt;

use super::super::{Bytes, quoted};
use super::cursor::Cursor;
use crate::Result;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Text, UTF-8 by convention only.
    String(Bytes),
    /// Many values of one type.
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The type of a metadata value, with its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type with number `id`.
    pub fn from_id(id: u32) -> Option<Self> {
        use ValueType::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == id)
    }

    /// Bytes of one value in the file; `None` if they vary.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        })
    }
}

/// An array as it lies in the file: `len` elements of one type that is not itself an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    kind: ValueType,
    len: usize,
    bytes: Bytes,
}

impl Array {
    /// The type of the elements.
    pub fn kind(&self) -> ValueType {
        self.kind
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as strings, if they are.
    pub fn strings(&self) -> Option<StringArray> {
        (self.kind == ValueType::String).then(|| StringArray {
            len: self.len,
            bytes: self.bytes.clone(),
        })
    }

    /// The elements as they lie in the file, little-endian and without gaps.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements in order. Nothing is collected.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut at = 0;
        (0..self.len).map_while(move |_| {
            let size = match self.kind.size() {
                Some(size) => size,
                None => {
                    let (text, next) = string_at(&self.bytes, at)?;
                    let value = Value::String(self.bytes.slice_ref(text));
                    at = next;
                    return Some(value);
                }
            };
            let value = scalar(self.kind, self.bytes.get(at..at + size)?);
            at += size;
            value
        })
    }
}

/// An array of strings as it lies in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct StringArray {
    len: usize,
    bytes: Bytes,
}

impl StringArray {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The strings in order, as bytes: tokens need not be UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        (0..self.len).map_while(move |_| {
            let (text, next) = string_at(&self.bytes, at)?;
            at = next;
            Some(text)
        })
    }
}

/// The string whose length field stands at `at`, and where the next one begins.
fn string_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (len, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    Some((rest.get(..len)?, at + 8 + len))
}

/// A value of fixed size from exactly its bytes; `None` for strings, arrays and wrong lengths.
fn scalar(kind: ValueType, bytes: &[u8]) -> Option<Value> {
    Some(match kind {
        ValueType::U8 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
        ValueType::Bool => Value::Bool(*bytes.first()? != 0),
        ValueType::String | ValueType::Array => return None,
    })
}

impl Value {
    /// The type of this value.
    pub fn kind(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The value of any integer type; `None` for other types.
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// Reads the value of `key`, whose type number comes first.
    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self> {
        let kind = read_type(cursor, key, "the type of")?;
        match kind {
            ValueType::String => {
                let len = cursor.u64(key)?;
                let start = cursor.at();
                cursor.take(len, key)?;
                Ok(Self::String(cursor.since(start)))
            }
            ValueType::Array => Array::read(cursor, key).map(Self::Array),
            _ => {
                let size = kind.size().unwrap_or_default();
                let bytes = cursor.take(size as u64, key)?;
                if kind == ValueType::Bool {
                    check_bools(cursor, key, bytes)?;
                }
                scalar(kind, bytes)
                    .ok_or_else(|| cursor.malformed(key, "a value", "none of its size"))
            }
        }
    }
}

impl Array {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self> {
        let kind = read_type(cursor, key, "the element type of")?;
        if kind == ValueType::Array {
            return Err(cursor.malformed(key, "an array of plain values", "an array of arrays"));
        }
        let count = cursor.u64(key)?;
        let record = kind.size().unwrap_or(8);
        let len = cursor.count(
            count,
            record,
            usize::MAX,
            format_args!("the element count of {key}"),
        )?;
        let start = cursor.at();
        if kind == ValueType::String {
            for index in 0..len {
                cursor.string(format_args!("{key}[{index}]"))?;
            }
        } else {
            // `count` made sure that the product fits what remains.
            let bytes = cursor.take((len * record) as u64, key)?;
            if kind == ValueType::Bool {
                check_bools(cursor, key, bytes)?;
            }
        }
        Ok(Self {
            kind,
            len,
            bytes: cursor.since(start),
        })
    }
}

fn read_type(cursor: &mut Cursor<'_>, key: &str, what: &str) -> Result<ValueType> {
    let id = cursor.u32(format_args!("{what} {key}"))?;
    ValueType::from_id(id).ok_or_else(|| {
        cursor.malformed(
            format_args!("{what} {key}"),
            "a value type from 0 to 12",
            id,
        )
    })
}

fn check_bools(cursor: &Cursor<'_>, key: &str, bytes: &[u8]) -> Result<()> {
    match bytes.iter().find(|byte| **byte > 1) {
        Some(byte) => Err(cursor.malformed(key, "a bool of 0 or 1", byte)),
        None => Ok(()),
    }
}

impl fmt::Display for Value {
    /// One line; long strings and arrays are cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(v) => v.fmt(f),
            Self::I8(v) => v.fmt(f),
            Self::U16(v) => v.fmt(f),
            Self::I16(v) => v.fmt(f),
            Self::U32(v) => v.fmt(f),
            Self::I32(v) => v.fmt(f),
            Self::F32(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::Array(array) => {
                write!(f, "{}[{}]", array.kind, array.len)?;
                for (index, value) in array.iter().take(3).enumerate() {
                    write!(f, "{}{value}", if index == 0 { " " } else { ", " })?;
                }
                f.write_str(if array.len > 3 { ", …" } else { "" })
            }
        }
    }
}
