//! The data of a file's tensors, pushed through in the order in which they were described.

use std::io::Write;

use crate::{Error, Result};

/// A file whose description is written and whose data are being written.
#[derive(Debug)]
pub struct TensorData<W> {
    name: String,
    out: W,
    /// Names and sizes of all tensors.
    tensors: Vec<(String, u64)>,
    /// Every tensor ends at a multiple of this many bytes.
    alignment: u64,
    current: usize,
    pushed: u64,
}

impl<W: Write> TensorData<W> {
    /// Writes `header`, everything before the data, to `out`. `name` is what errors call the file.
    pub(super) fn begin(
        name: String,
        mut out: W,
        header: &[u8],
        tensors: Vec<(String, u64)>,
        alignment: usize,
    ) -> Result<Self> {
        out.write_all(header)
            .map_err(|error| Error::io(&name, error))?;
        Ok(Self {
            name,
            out,
            tensors,
            alignment: alignment as u64,
            current: 0,
            pushed: 0,
        })
    }

    /// Appends to the data of the tensor called `name`. Tensors come in the order in which they were described, and
    /// each must be complete before the next begins.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is another tensor's turn or the data are too long; [`Error::Io`] if the output fails.
    pub fn push(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let wrong = |expected: String, found: &str| {
            Err(Error::tensor(self.name.as_str(), name, expected, found))
        };
        let end = self.pushed + bytes.len() as u64;
        let size = match self.tensors.get(self.current) {
            None => return wrong("no more data".to_owned(), "data for it"),
            Some((turn, _)) if turn != name => {
                return wrong(format!("{turn} to come first"), "data for it");
            }
            Some((_, size)) if end > *size => {
                return wrong(format!("{size} bytes of data"), &format!("{end} or more"));
            }
            Some((_, size)) => *size,
        };
        self.write(bytes)?;
        self.pushed = end;
        if end == size {
            let padding = size.next_multiple_of(self.alignment) - size;
            self.write(&vec![0; padding as usize])?;
            self.current += 1;
            self.pushed = 0;
        }
        Ok(())
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    /// [`Error::Tensor`] if data are missing; [`Error::Io`] if the output cannot be flushed.
    pub fn finish(mut self) -> Result<W> {
        if let Some((name, size)) = self.tensors.get(self.current) {
            return Err(Error::tensor(
                &self.name,
                name,
                format_args!("{size} bytes of data"),
                self.pushed,
            ));
        }
        self.out
            .flush()
            .map_err(|error| Error::io(&self.name, error))?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| Error::io(&self.name, error))
    }
}
