//! Writing a safetensors file: first the tensors are described, then the data are pushed through in the same order.

use std::collections::HashSet;
use std::io::Write;

use super::Dtype;
use super::header::{LONGEST_NAME, size_of};
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

    /// Bytes of data that [`SafeTensorsData`] will expect in all.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.size as u64).sum()
    }

    /// Writes the header to `out`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if a name is used twice or the size overflows; [`Error::Io`] if `out` fails.
    pub fn begin<W: Write>(self, out: W) -> Result<SafeTensorsData<W>> {
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
        let mut header = serde_json::Value::Object(table).to_string().into_bytes();
        // Data begin at a multiple of 8, so that readers may borrow them as numbers.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut data = SafeTensorsData {
            name: self.name,
            out,
            tensors: self.tensors,
            current: 0,
            pushed: 0,
        };
        data.write(&(header.len() as u64).to_le_bytes())?;
        data.write(&header)?;
        Ok(data)
    }
}

/// A file whose header is written and whose data are being written.
#[derive(Debug)]
pub struct SafeTensorsData<W> {
    name: String,
    out: W,
    tensors: Vec<Declared>,
    current: usize,
    pushed: usize,
}

impl<W: Write> SafeTensorsData<W> {
    /// Appends to the data of the tensor called `name`. Tensors come in the order in which they were described, and
    /// each must be complete before the next begins.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is another tensor's turn or the data are too long; [`Error::Io`] if the output fails.
    pub fn push(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let turn = self.tensors.get(self.current);
        let end = self.pushed + bytes.len();
        match turn {
            Some(tensor) if tensor.name == name && end <= tensor.size => {
                let complete = end == tensor.size;
                self.write(bytes)?;
                self.pushed = end;
                if complete {
                    self.current += 1;
                    self.pushed = 0;
                }
                Ok(())
            }
            Some(tensor) => Err(Error::tensor(
                &self.name,
                name,
                format_args!("{} bytes for {}", tensor.size - self.pushed, tensor.name),
                format_args!("{} bytes", bytes.len()),
            )),
            None => Err(Error::tensor(
                &self.name,
                name,
                "no more data",
                "data for it",
            )),
        }
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    /// [`Error::Tensor`] if data are missing; [`Error::Io`] if the output cannot be flushed.
    pub fn finish(mut self) -> Result<W> {
        if let Some(tensor) = self.tensors.get(self.current) {
            return Err(Error::tensor(
                &self.name,
                &tensor.name,
                format_args!("{} bytes of data", tensor.size),
                self.pushed,
            ));
        }
        self.out.flush().map_err(|e| Error::io(&self.name, e))?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|e| Error::io(&self.name, e))
    }
}
