//! GGUF: one file with metadata, tokenizer and tensors.
//!
//! ```text
//! "GGUF" · u32 version · u64 tensors · u64 entries
//! entries × (string key · u32 type · value)
//! tensors × (string name · u32 dimensions · u64 each · u32 type · u64 offset)
//! padding to the alignment · data section, in which tensor i begins at its offset
//! ```
//!
//! Numbers are little-endian; a string is a u64 length and its bytes. Parsing copies keys, names and shapes, and
//! nothing else: values and data are slices of the file's bytes. Every count, length and offset is checked against
//! the file before it is used.

mod architecture;
mod cursor;
mod layout;
mod metadata;
pub(crate) mod split;
mod tensor;
#[cfg(test)]
mod tests;
mod value;
mod writer;

use std::path::Path;

use super::{Bytes, Load, Pieces, map};
use crate::{Error, Result};
use cursor::Cursor;

pub(crate) use architecture::{GgufArchitecture, Sliding};
pub use tensor::{GgmlType, GgufTensor};
pub use value::{Array, StringArray, Value, ValueType};
pub use writer::GgufWriter;

/// The alignment of tensor data where the file states none.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// More metadata entries than any model has; bounds what a hostile file can make us allocate.
const MOST_ENTRIES: usize = 1 << 16;
/// More tensors than any model has.
const MOST_TENSORS: usize = 1 << 16;
/// The longest key that the format allows.
const LONGEST_KEY: usize = 65_535;
/// The longest tensor name that the format allows.
const LONGEST_NAME: usize = 64;
/// The largest alignment believed.
const MOST_ALIGNMENT: usize = 1 << 20;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    name: String,
    version: u32,
    alignment: usize,
    metadata: Vec<(String, Value)>,
    /// Positions in `metadata`, sorted by key.
    by_key: Vec<u32>,
    tensors: Vec<GgufTensor>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Maps and parses the file at `path`. If it is a part of a split model (`NAME-00001-of-00003.gguf`), all parts are
    /// opened, and the result has the metadata and the name of the first and the tensors of all.
    ///
    /// The files must not be truncated while they are in use, which would end the program: see
    /// [`map`](super::map()#truncation).
    ///
    /// # Errors
    /// As [`Gguf::parse`], and [`Error::Io`] if a file cannot be read; [`Error::Malformed`] if a part is missing or belongs to
    /// another model.
    pub fn open(path: &Path) -> Result<Self> {
        Self::load(path, &map)
    }

    /// As [`open`](Self::open), with the bytes of each file loaded by `load`.
    pub(super) fn load(path: &Path, load: Load<'_>) -> Result<Self> {
        let file = Self::read(path.display().to_string(), load(path)?.into())?;
        split::assemble(path, file, load)
    }

    /// Parses a file's bytes; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Tensor`] if the bytes break a rule of the format, [`Error::Unsupported`] for
    /// well-formed files that are not run here: big-endian, one part of several, rotated, TL1 and TL2.
    pub fn parse(name: impl Into<String>, bytes: Bytes) -> Result<Self> {
        Self::parse_pieces(name, bytes.into())
    }

    /// As [`parse`](Self::parse), of bytes in several pieces. The first has everything but the data of tensors.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`BackendError::OutOfMemory`](crate::BackendError::OutOfMemory) if there is no memory to put
    /// a tensor together.
    pub fn parse_pieces(name: impl Into<String>, pieces: Pieces) -> Result<Self> {
        let file = Self::read(name.into(), pieces)?;
        file.refuse_part()?;
        Ok(file)
    }

    /// As [`parse`](Self::parse), also of a part.
    fn read(name: String, pieces: Pieces) -> Result<Self> {
        let mut cursor = Cursor::new(&name, pieces.head());

        let magic = cursor.take(4, "the magic number")?;
        if magic != MAGIC {
            return Err(cursor.malformed("the magic number", "GGUF", super::quoted(magic)));
        }
        let version = cursor.u32("the version")?;
        if version & 0xffff == 0 && version != 0 {
            return Err(Error::Unsupported {
                file: name,
                what: "a big-endian file".to_owned(),
                advice: "use the little-endian file of the same model".to_owned(),
            });
        }
        if !(2..=3).contains(&version) {
            return Err(cursor.malformed("the version", "2 or 3", version));
        }
        let tensor_count = cursor.u64("the tensor count")?;
        let entry_count = cursor.u64("the metadata count")?;
        // The smallest entry: a key of one byte and a value of one. The smallest tensor: a name of one, one dimension.
        let entry_count = cursor.count(
            entry_count,
            8 + 1 + 4 + 1,
            MOST_ENTRIES,
            "the metadata count",
        )?;
        let metadata = metadata::read(&mut cursor, entry_count)?;
        let by_key = sorted_by(&metadata, |(key, _)| key).map_err(|key| {
            cursor.malformed(
                "the metadata",
                "every key once",
                format_args!("{key} twice"),
            )
        })?;

        let mut file = Self {
            version,
            alignment: DEFAULT_ALIGNMENT,
            metadata,
            by_key,
            tensors: Vec::new(),
            by_name: Vec::new(),
            name: name.clone(),
        };
        file.alignment = file.stated_alignment()?;

        let tensor_count = cursor.count(
            tensor_count,
            8 + 1 + 4 + 8 + 4 + 8,
            MOST_TENSORS,
            "the tensor count",
        )?;
        let infos = layout::read(&mut cursor, tensor_count)?;
        let start = cursor.at();
        file.by_name = sorted_by(&infos, |info| info.name).map_err(|name| {
            cursor.malformed(
                "the tensors",
                "every name once",
                format_args!("{name} twice"),
            )
        })?;
        file.tensors = layout::place(&file, infos, &pieces, start)?;
        Ok(file)
    }

    /// What errors call this file: its path, or the name given to [`Gguf::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of the container, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Every tensor's data begins at a multiple of this many bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        find(&self.tensors, &self.by_name, name, |tensor| &tensor.name)
    }
}

/// Positions of `items` sorted by their keys, or a key that occurs twice.
fn sorted_by<'a, T>(items: &'a [T], key: impl Fn(&'a T) -> &'a str) -> Result<Vec<u32>, &'a str> {
    let mut order: Vec<u32> = (0..items.len() as u32).collect();
    order.sort_unstable_by_key(|index| key(&items[*index as usize]));
    let twice = order
        .windows(2)
        .map(|pair| (key(&items[pair[0] as usize]), key(&items[pair[1] as usize])))
        .find(|(a, b)| a == b);
    match twice {
        Some((name, _)) => Err(name),
        None => Ok(order),
    }
}

/// The item whose key is `wanted`, by an order from [`sorted_by`].
fn find<'a, T>(
    items: &'a [T],
    order: &[u32],
    wanted: &str,
    key: impl Fn(&'a T) -> &'a str,
) -> Option<&'a T> {
    let at = order
        .binary_search_by(|index| key(&items[*index as usize]).cmp(wanted))
        .ok()?;
    items.get(*order.get(at)? as usize)
}
