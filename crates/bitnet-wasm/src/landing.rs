//! Memory that a model file is written into, chunk by chunk, and where it stays: weights are used where they lie.

use crate::failure::{Failure, Result};
use bitnet::file::Bytes;
use bytemuck::{Pod, Zeroable};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

/// What the data of a GGUF file may be aligned to; a file lies at a multiple of it.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Line([u8; 64]);

/// How much a file of unknown length grows at a time, in lines: 32 MiB.
const GROWTH: usize = (32 << 20) / size_of::<Line>();

/// A file that is arriving.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Landing {
    name: String,
    lines: Vec<Line>,
    len: usize,
    /// The length that was announced.
    expected: Option<usize>,
}

#[wasm_bindgen]
impl Landing {
    /// Room for a file called `name` of `bytes` bytes, or of a length that only its end will tell.
    ///
    /// # Errors
    /// If there is not so much memory.
    #[wasm_bindgen(constructor)]
    pub fn new(name: String, bytes: Option<f64>) -> Result<Landing> {
        Self::with_room(name, bytes).map_err(Into::into)
    }

    /// Appends `chunk`.
    ///
    /// # Errors
    /// If it does not fit into the announced length or into memory.
    pub fn push(&mut self, chunk: &Uint8Array) -> Result<()> {
        chunk.copy_to(self.space(chunk.length() as usize)?);
        Ok(())
    }

    /// Bytes that have arrived.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> f64 {
        self.len as f64
    }

    /// The bytes from `start` up to `end`, copied.
    pub fn read(&self, start: f64, end: f64) -> Uint8Array {
        let bytes = &bytemuck::cast_slice::<Line, u8>(&self.lines)[..self.len];
        let end = (end as usize).min(self.len);
        Uint8Array::from(&bytes[(start as usize).min(end)..end])
    }
}

impl Landing {
    fn with_room(name: String, bytes: Option<f64>) -> std::result::Result<Self, Failure> {
        let expected = match bytes {
            None => None,
            Some(bytes) if bytes >= 0.0 && bytes.fract() == 0.0 => {
                if bytes > f64::from(u32::MAX) {
                    return Err(Failure {
                        code: "no-memory",
                        message: format!(
                            "{name}: {bytes} bytes are more than the 4 GiB that WebAssembly's memory can have; \
                             use a smaller model, or the bitnet command, which has no such limit"
                        ),
                        tensor: None,
                    });
                }
                Some(bytes as usize)
            }
            Some(bytes) => {
                return Err(Failure::argument(format!(
                    "length of {name}: expected a number of bytes, found {bytes}"
                )));
            }
        };
        let mut landing = Self {
            name,
            lines: Vec::new(),
            len: 0,
            expected,
        };
        if let Some(bytes) = expected {
            landing.reserve(bytes.div_ceil(size_of::<Line>()))?;
        }
        Ok(landing)
    }

    fn reserve(&mut self, lines: usize) -> std::result::Result<(), Failure> {
        self.lines
            .try_reserve_exact(lines)
            .map_err(|_| Failure::no_memory(lines * size_of::<Line>(), &self.name))
    }

    /// The next `bytes` bytes, to be written.
    fn space(&mut self, bytes: usize) -> std::result::Result<&mut [u8], Failure> {
        let end = self
            .len
            .checked_add(bytes)
            .ok_or_else(|| Failure::no_memory(bytes, &self.name))?;
        if let Some(expected) = self.expected
            && end > expected
        {
            return Err(Failure {
                code: "bad-file",
                message: format!(
                    "{}: expected {expected} bytes, found {end} or more",
                    self.name
                ),
                tensor: None,
            });
        }
        let lines = end.div_ceil(size_of::<Line>());
        if lines > self.lines.capacity() {
            self.reserve((lines - self.lines.len()).max(GROWTH))?;
        }
        if lines > self.lines.len() {
            self.lines.resize(lines, Line::zeroed());
        }
        let start = std::mem::replace(&mut self.len, end);
        Ok(&mut bytemuck::cast_slice_mut(&mut self.lines)[start..end])
    }

    /// Appends bytes of this memory, as tests do.
    #[cfg(test)]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> std::result::Result<(), Failure> {
        self.space(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// The file's name and its bytes, which are not moved.
    pub(crate) fn finish(self) -> std::result::Result<(String, Bytes), Failure> {
        if let Some(expected) = self.expected
            && self.len != expected
        {
            return Err(Failure {
                code: "bad-file",
                message: format!(
                    "{}: expected {expected} bytes, found {}",
                    self.name, self.len
                ),
                tensor: None,
            });
        }
        let bytes = Bytes::from_owner(Landed(self.lines)).slice(..self.len);
        Ok((self.name, bytes))
    }
}

/// A file that has arrived.
struct Landed(Vec<Line>);

impl AsRef<[u8]> for Landed {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_any_size_make_one_aligned_file() {
        let file: Vec<u8> = (0..1000).map(|i| (i * 7) as u8).collect();
        for announced in [None, Some(1000.0)] {
            for size in [1, 63, 64, 65, 999, 1000] {
                let mut landing = Landing::with_room("f".into(), announced).unwrap();
                for chunk in file.chunks(size) {
                    landing.append(chunk).unwrap();
                }
                let (name, bytes) = landing.finish().unwrap();
                assert_eq!((name.as_str(), &bytes[..]), ("f", &file[..]));
                assert_eq!(bytes.as_ptr().align_offset(64), 0);
            }
        }
    }

    #[test]
    fn the_announced_length_is_kept() {
        let mut landing = Landing::with_room("f".into(), Some(3.0)).unwrap();
        landing.append(&[1, 2]).unwrap();
        assert_eq!(landing.append(&[3, 4]).unwrap_err().code, "bad-file");
        let failure = landing.finish().unwrap_err();
        assert_eq!(failure.message, "f: expected 3 bytes, found 2");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for (bytes, code) in [
            (-1.0, "argument"),
            (0.5, "argument"),
            (f64::NAN, "argument"),
            (5e9, "no-memory"),
        ] {
            let failure = Landing::with_room("f".into(), Some(bytes)).unwrap_err();
            assert_eq!(failure.code, code, "{bytes}");
        }
    }
}
