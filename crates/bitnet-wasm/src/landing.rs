//! Memory that a model file is written into, chunk by chunk, and where it stays: weights are used where they lie. A file of more than
//! 1 GiB lies in several pieces.

use crate::failure::{Failure, Result};
use bitnet::file::{Bytes, Pieces};
use bytemuck::{Pod, Zeroable};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

/// What the data of a GGUF file may be aligned to; a file lies at a multiple of it.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Line([u8; 64]);

/// How much a file of unknown length grows at a time, in lines: 32 MiB.
const GROWTH: usize = (32 << 20) / size_of::<Line>();

/// The longest piece, in lines: 1 GiB. Where addresses have 32 bits, no allocation may be of 2 GiB or more.
const LONGEST: usize = (1 << 30) / size_of::<Line>();

/// A file that is arriving.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Landing {
    name: String,
    /// The file so far: every piece but the last is of the longest.
    pieces: Vec<Vec<Line>>,
    /// Lines of the longest piece.
    longest: usize,
    len: usize,
    /// The length that was announced and must be kept.
    expected: Option<usize>,
}

#[wasm_bindgen]
impl Landing {
    /// Room for a file called `name` of `bytes` bytes, or of a length that only its end will tell. If the length is not `exact`, the
    /// file may be longer or shorter.
    ///
    /// # Errors
    /// If there is not so much memory.
    #[wasm_bindgen(constructor)]
    pub fn new(name: String, bytes: Option<f64>, exact: bool) -> Result<Landing> {
        Self::with_room(name, bytes, exact, LONGEST).map_err(Into::into)
    }

    /// Appends `chunk`.
    ///
    /// # Errors
    /// If it does not fit into the announced length or into memory.
    pub fn push(&mut self, chunk: &Uint8Array) -> Result<()> {
        let mut at = 0;
        while at < chunk.length() {
            let space = self.space((chunk.length() - at) as usize)?;
            let end = at + space.len() as u32;
            chunk.subarray(at, end).copy_to(space);
            at = end;
        }
        Ok(())
    }

    /// Bytes that have arrived.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> f64 {
        self.len as f64
    }
}

impl Landing {
    fn with_room(
        name: String,
        bytes: Option<f64>,
        exact: bool,
        longest: usize,
    ) -> std::result::Result<Self, Failure> {
        let bytes = match bytes {
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
            pieces: Vec::new(),
            longest,
            len: 0,
            expected: bytes.filter(|_| exact),
        };
        let mut lines = bytes.unwrap_or(0).div_ceil(size_of::<Line>());
        while lines > 0 {
            let room = lines.min(longest);
            landing.pieces.push(Vec::new());
            landing.reserve(landing.pieces.len() - 1, room)?;
            lines -= room;
        }
        Ok(landing)
    }

    /// Makes room for so many more lines in a piece.
    fn reserve(&mut self, piece: usize, lines: usize) -> std::result::Result<(), Failure> {
        self.pieces[piece]
            .try_reserve_exact(lines)
            .map_err(|_| Failure::no_memory(lines * size_of::<Line>(), &self.name))
    }

    /// Room for some of the next `bytes` bytes, at least one, to be written.
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
        let longest = self.longest * size_of::<Line>();
        let (index, start) = (self.len / longest, self.len % longest);
        let end = longest.min(start + bytes);
        if index == self.pieces.len() {
            self.pieces.push(Vec::new());
        }
        let lines = end.div_ceil(size_of::<Line>());
        let (there, room) = (self.pieces[index].len(), self.pieces[index].capacity());
        if lines > room {
            let growth = (lines - there).max(GROWTH).min(self.longest - there);
            self.reserve(index, growth)?;
        }
        let piece = &mut self.pieces[index];
        if lines > there {
            piece.resize(lines, Line::zeroed());
        }
        self.len += end - start;
        Ok(&mut bytemuck::cast_slice_mut(piece)[start..end])
    }

    /// Appends bytes of this memory, as tests do.
    #[cfg(test)]
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> std::result::Result<(), Failure> {
        while !bytes.is_empty() {
            let space = self.space(bytes.len())?;
            let (now, later) = bytes.split_at(space.len());
            space.copy_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// The file's name and its bytes, which are not moved.
    pub(crate) fn finish(self) -> std::result::Result<(String, Pieces), Failure> {
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
        let mut left = self.len;
        let mut bytes = self.pieces.into_iter().map(|lines| {
            let len = left.min(lines.len() * size_of::<Line>());
            left -= len;
            Bytes::from_owner(Landed(lines)).slice(..len)
        });
        let head = Pieces::from(bytes.next().unwrap_or_default());
        Ok((self.name, bytes.fold(head, Pieces::and)))
    }
}

/// A piece of a file that has arrived.
struct Landed(Vec<Line>);

impl AsRef<[u8]> for Landed {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet::file::ModelFile;

    /// Room for a file, in pieces of three lines.
    fn room(bytes: Option<f64>, exact: bool) -> Landing {
        Landing::with_room("f".into(), bytes, exact, 3).unwrap()
    }

    #[test]
    fn chunks_of_any_size_make_aligned_pieces_of_one_file() {
        let file: Vec<u8> = (0..1000).map(|i| (i * 7) as u8).collect();
        // Announced as it is, not at all, or by a server that sends something shorter or longer.
        for (announced, exact) in [
            (Some(1000.0), true),
            (None, true),
            (Some(300.0), false),
            (Some(3000.0), false),
        ] {
            for size in [1, 63, 64, 65, 191, 193, 999, 1000] {
                let mut landing = room(announced, exact);
                for chunk in file.chunks(size) {
                    landing.append(chunk).unwrap();
                }
                let pieces = landing.pieces.clone();
                let all = pieces.concat();
                assert_eq!(bytemuck::cast_slice::<Line, u8>(&all)[..1000], file);
                let used = pieces.iter().filter(|piece| !piece.is_empty()).count();
                assert_eq!(used, 1000_usize.div_ceil(3 * 64));
                for piece in &pieces {
                    assert!(piece.len() <= 3);
                    assert_eq!(piece.as_ptr().align_offset(64), 0);
                }
                assert_eq!(landing.finish().unwrap().0, "f");
            }
        }
    }

    #[test]
    fn a_model_in_pieces_is_the_model() {
        let mut landing = Landing::with_room("demo".into(), None, true, 1 << 14).unwrap();
        landing.append(bitnet_demo::GGUF).unwrap();
        assert!(landing.pieces.len() > 3);
        let (name, pieces) = landing.finish().unwrap();
        let cut = ModelFile::parse_gguf(name, pieces).unwrap();
        let whole = ModelFile::parse_gguf("demo", Bytes::from_static(bitnet_demo::GGUF)).unwrap();
        assert_eq!(cut.tensors().len(), whole.tensors().len());
        for (a, b) in cut.tensors().iter().zip(whole.tensors()) {
            assert_eq!(a.data, b.data, "{}", a.name);
        }
    }

    #[test]
    fn the_announced_length_is_kept() {
        let mut landing = room(Some(3.0), true);
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
            let failure = Landing::with_room("f".into(), Some(bytes), true, 3).unwrap_err();
            assert_eq!(failure.code, code, "{bytes}");
        }
    }
}
