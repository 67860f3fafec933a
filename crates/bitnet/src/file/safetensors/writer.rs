//! Writing a safetensors file: first the tensors are described, then the data are pushed through in the same order.

use std::collections::HashSet;
use std::io::Write;

use super::Dtype;
use super::header::{LONGEST_NAME, size_of};
use crate::file::TensorData;
use crate::{Error, Result};

/// The description of a file to be written.
#[derive(Debug)]
pub struct SafeTensorsWriter {
    name: String,
    tensors: Vec<Declared>,
}

#[derive(Debug)]
struct Declared {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    size: usize,
}

impl SafeTensorsWriter {
    /// An empty file; `name` is what errors call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tensors: Vec::new(),
        }
    }

    /// Adds a tensor; `shape` has the slowest dimension first.
    ///
    /// # Errors
    /// [`Error::Tensor`] if its size overflows or its name is empty or too long.
    pub fn tensor(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Result<()> {
        let name = name.into();
        match size_of(dtype, shape) {
            Some(size) if (1..=LONGEST_NAME).contains(&name.len()) => {
                self.tensors.push(Declared {
                    name,
                    dtype,
                    shape: shape.to_vec(),
                    size,
                });
                Ok(())
            }
            _ => Err(Error::tensor(
                &self.name,
                &name,
                format_args!("a name of 1 to {LONGEST_NAME} bytes and an addressable size"),
                format_args!("{dtype} {shape:?}"),
            )),
        }
    }

    /// Bytes of data that [`TensorData`] will expect in all.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.size as u64).sum()
    }

    /// Writes the header to `out`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a name is used twice or the size overflows; [`Error::Io`] if `out` fails.
    pub fn begin<W: Write>(self, out: W) -> Result<TensorData<W>> {
        let mut table = serde_json::Map::new();
        table.insert(
            "__metadata__".to_owned(),
            serde_json::json!({"format": "pt"}),
        );
        let mut seen = HashSet::new();
        let mut offset = 0usize;
        for tensor in &self.tensors {
            let end = offset.checked_add(tensor.size);
            let Some(end) = end.filter(|_| seen.insert(&tensor.name)) else {
                return Err(Error::tensor(
                    &self.name,
                    &tensor.name,
                    "every name once and an addressable size",
                    "this one",
                ));
            };
            let entry = serde_json::json!({
                "dtype": tensor.dtype.to_string(),
                "shape": tensor.shape,
                "data_offsets": [offset, end],
            });
            table.insert(tensor.name.clone(), entry);
            offset = end;
        }
        let table = serde_json::Value::Object(table).to_string();
        // Data begin at a multiple of 8, so that readers may borrow them as numbers.
        let length = table.len().next_multiple_of(8);
        let mut header = (length as u64).to_le_bytes().to_vec();
        header.extend_from_slice(table.as_bytes());
        header.resize(8 + length, b' ');
        let sizes = self.tensors.into_iter();
        let sizes = sizes.map(|tensor| (tensor.name, tensor.size as u64));
        TensorData::begin(self.name, out, &header, sizes.collect(), 1)
    }
}
