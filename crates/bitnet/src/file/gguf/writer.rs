//! Writing a GGUF file: first everything is described, then the data are pushed through in the same order, as
//! little at a time as the caller likes.

use std::collections::HashSet;
use std::io::Write;

use bitnet_quant::Format;

use super::{
    Array, DEFAULT_ALIGNMENT, GgmlType, LONGEST_KEY, LONGEST_NAME, MAGIC, Value, ValueType,
};
use crate::file::{Bytes, TensorData};
use crate::{Error, Result};

const VERSION: u32 = 3;

/// The description of a file to be written: metadata and tensors, without the tensors' data.
///
/// [`GgufWriter::begin`] writes the description and gives a [`TensorData`] that takes the data.
#[derive(Debug)]
pub struct GgufWriter {
    name: String,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Declared>,
}

/// A tensor as it will be described.
#[derive(Debug)]
struct Declared {
    name: String,
    ne: Vec<u64>,
    kind: GgmlType,
    size: u64,
}

impl GgufWriter {
    /// An empty file; `name` is what errors call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Adds a metadata entry.
    pub fn entry(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a tensor of `ne` elements along each dimension, fastest first, stored as `format`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the shape does not fit the format.
    pub fn tensor(&mut self, name: impl Into<String>, ne: &[u64], format: Format) -> Result<()> {
        let name = name.into();
        let cols = ne.first().copied().unwrap_or(0);
        let rows = ne
            .iter()
            .skip(1)
            .try_fold(1u64, |rows, n| rows.checked_mul(*n));
        let size = usize::try_from(cols)
            .ok()
            .and_then(|cols| format.row_bytes(cols).ok())
            .zip(rows)
            .and_then(|(row, rows)| rows.checked_mul(row as u64))
            .and_then(|codes| match format {
                Format::I2s(_) => codes.checked_add(32),
                _ => Some(codes),
            });
        match size {
            Some(size) if size > 0 && ne.len() <= 4 => {
                self.tensors.push(Declared {
                    name,
                    ne: ne.to_vec(),
                    kind: format.into(),
                    size,
                });
                Ok(())
            }
            _ => Err(Error::tensor(
                &self.name,
                name,
                format_args!(
                    "1 to 4 dimensions and rows of a multiple of {} elements for {format}",
                    format.block_len()
                ),
                format_args!("{ne:?}"),
            )),
        }
    }

    /// Adds a tensor of any type whose data are carried without being understood: `size` bytes.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there are no dimensions, too many or empty ones.
    pub(crate) fn opaque_tensor(
        &mut self,
        name: impl Into<String>,
        ne: &[u64],
        kind: GgmlType,
        size: u64,
    ) -> Result<()> {
        let name = name.into();
        if !(1..=4).contains(&ne.len()) || ne.contains(&0) {
            return Err(Error::tensor(
                &self.name,
                name,
                "1 to 4 dimensions, none of them 0",
                format_args!("{ne:?}"),
            ));
        }
        self.tensors.push(Declared {
            name,
            ne: ne.to_vec(),
            kind,
            size,
        });
        Ok(())
    }

    /// Bytes of data that [`TensorData`] will expect in all.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.size).sum()
    }

    /// Writes everything before the data to `out`.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Tensor`] if a key or name is empty, too long or used twice, or a file would be
    /// too large; [`Error::Io`] if `out` fails.
    pub fn begin<W: Write>(self, out: W) -> Result<TensorData<W>> {
        let header = self.header()?;
        let sizes = self.tensors.into_iter();
        let sizes = sizes.map(|tensor| (tensor.name, tensor.size)).collect();
        TensorData::begin(self.name, out, &header, sizes, DEFAULT_ALIGNMENT)
    }

    fn header(&self) -> Result<Vec<u8>> {
        let mut seen = HashSet::new();
        for (key, _) in &self.metadata {
            if key.is_empty() || key.len() > LONGEST_KEY || !seen.insert(key) {
                return Err(Error::malformed(
                    &self.name,
                    "the metadata",
                    format_args!("keys of 1 to {LONGEST_KEY} bytes, each once"),
                    format_args!("the key {key:.100}"),
                ));
            }
        }
        seen.clear();
        let mut header = Vec::new();
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut header, key.as_bytes());
            value.put(&mut header);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            let Declared {
                name,
                ne,
                kind,
                size,
            } = tensor;
            if name.is_empty() || name.len() > LONGEST_NAME || !seen.insert(name) {
                return Err(Error::tensor(
                    &self.name,
                    name,
                    format_args!("names of 1 to {LONGEST_NAME} bytes, each once"),
                    "this one",
                ));
            }
            put_string(&mut header, name.as_bytes());
            header.extend_from_slice(&(ne.len() as u32).to_le_bytes());
            for n in ne {
                header.extend_from_slice(&n.to_le_bytes());
            }
            header.extend_from_slice(&kind.id().to_le_bytes());
            header.extend_from_slice(&offset.to_le_bytes());
            offset = offset
                .checked_add(*size)
                .and_then(|end| end.checked_next_multiple_of(DEFAULT_ALIGNMENT as u64))
                .ok_or_else(|| {
                    Error::tensor(&self.name, name, "a file of less than 2^64 bytes", "more")
                })?;
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        Ok(header)
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

impl Value {
    /// Appends type number and value.
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.kind() as u32).to_le_bytes());
        match self {
            Self::U8(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
            Self::Bool(v) => out.push(u8::from(*v)),
            Self::String(text) => put_string(out, text),
            Self::Array(array) => {
                out.extend_from_slice(&(array.kind as u32).to_le_bytes());
                out.extend_from_slice(&(array.len as u64).to_le_bytes());
                out.extend_from_slice(&array.bytes);
            }
        }
    }
}

impl Array {
    /// An array of strings.
    pub fn from_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Self {
        let mut bytes = Vec::new();
        let mut len = 0;
        for text in strings {
            put_string(&mut bytes, text.as_ref());
            len += 1;
        }
        Self {
            kind: ValueType::String,
            len,
            bytes: Bytes::from(bytes),
        }
    }

    /// An array of f32.
    pub fn from_f32s(numbers: &[f32]) -> Self {
        Self {
            kind: ValueType::F32,
            len: numbers.len(),
            bytes: numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        }
    }

    /// An array of bools.
    pub fn from_bools(flags: &[bool]) -> Self {
        Self {
            kind: ValueType::Bool,
            len: flags.len(),
            bytes: flags.iter().map(|flag| u8::from(*flag)).collect(),
        }
    }

    /// An array of i32.
    pub fn from_i32s(numbers: &[i32]) -> Self {
        Self {
            kind: ValueType::I32,
            len: numbers.len(),
            bytes: numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

value_from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
    u64 => U64, i64 => I64, f64 => F64, Array => Array);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(Bytes::from(text))
    }
}
