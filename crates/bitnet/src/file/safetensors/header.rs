//! The container of one safetensors file.
//!
//! ```text
//! u64 length N · N bytes of JSON: name → {dtype, shape, data_offsets: [begin, end]} · data
//! ```
//!
//! The tensors tile the data exactly: no gap, no overlap, nothing after the last. The header is read entry by entry
//! with every length bounded, so that what is allocated stays in proportion to the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Dtype, RawTensor};
use crate::file::{Bytes, quoted};
use crate::{Error, Result};

/// The longest header believed; a thousand layers need a tenth of it.
const LONGEST_HEADER: usize = 16 << 20;
/// More tensors than any file has.
const MOST_TENSORS: usize = 1 << 16;
/// The longest tensor name believed.
pub(super) const LONGEST_NAME: usize = 512;
/// More dimensions than any tensor has.
const MOST_DIMENSIONS: usize = 8;

/// What the header says of one tensor.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

/// Parses the bytes of a file, which errors call `file`.
pub(super) fn parse(file: &str, bytes: &Bytes) -> Result<BTreeMap<String, RawTensor>> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Error::malformed(
            file,
            "the header length",
            "8 bytes",
            format_args!("a file of {}", bytes.len()),
        ));
    };
    let length = u64::from_le_bytes(*length);
    let most = rest.len().min(LONGEST_HEADER);
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= most)
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| {
            Error::malformed(
                file,
                "the header length",
                format_args!("at most {most}"),
                length,
            )
        })?;
    let data = bytes.slice(8 + header.len()..);

    let mut json = serde_json::Deserializer::from_slice(header);
    let mut entries = Header
        .deserialize(&mut json)
        .and_then(|entries| json.end().map(|()| entries))
        .map_err(|error| Error::malformed(file, "the header", "a JSON table of tensors", error))?;

    entries.sort_unstable_by_key(|entry| (entry.begin, entry.end));
    let mut at = 0;
    let mut tensors = BTreeMap::new();
    for entry in entries {
        let Entry {
            name,
            dtype,
            shape,
            begin,
            end,
        } = entry;
        let wrong = |expected: String, found: String| Error::tensor(file, &name, expected, found);
        let size = size_of(dtype, &shape);
        if begin != at || end < begin || end > data.len() {
            return Err(wrong(
                format!("data from byte {at} on, inside {} bytes", data.len()),
                format!("bytes {begin} to {end}"),
            ));
        }
        if size != Some(end - begin) {
            return Err(wrong(
                match size {
                    Some(size) => format!("{size} bytes for {dtype} {shape:?}"),
                    None => "a shape whose size can be addressed".to_owned(),
                },
                format!("{} bytes for {dtype} {shape:?}", end - begin),
            ));
        }
        at = end;
        let tensor = RawTensor {
            name: name.clone(),
            dtype,
            shape,
            data: data.slice(begin..end),
        };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(Error::malformed(
                file,
                "the header",
                "every tensor once",
                format_args!("{name} twice"),
            ));
        }
    }
    if at != data.len() {
        return Err(Error::malformed(
            file,
            "the data",
            format_args!("{at} bytes, all of them described by the header"),
            data.len(),
        ));
    }
    Ok(tensors)
}

/// Bytes of a tensor; `None` if that overflows or is no whole number.
pub(super) fn size_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, n| product.checked_mul(*n))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Reads the table of the header.
struct Header;

impl<'de> DeserializeSeed<'de> for Header {
    type Value = Vec<Entry>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.len() == MOST_TENSORS {
                return Err(A::Error::custom(format_args!(
                    "more than {MOST_TENSORS} tensors"
                )));
            }
            entries.push(map.next_value_seed(Tensor(name.into_owned()))?);
        }
        Ok(entries)
    }
}

/// Reads a tensor's name, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of 1 to {LONGEST_NAME} bytes")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
        checked_name(name).map(Cow::Borrowed)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        checked_name(name).map(|name| Cow::Owned(name.to_owned()))
    }
}

fn checked_name<E: serde::de::Error>(name: &str) -> Result<&str, E> {
    if (1..=LONGEST_NAME).contains(&name.len()) {
        Ok(name)
    } else {
        Err(E::custom(format_args!(
            "a tensor name of {} bytes: {}",
            name.len(),
            quoted(name.as_bytes())
        )))
    }
}

/// Reads the description of the tensor it names.
struct Tensor(String);

impl<'de> DeserializeSeed<'de> for Tensor {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dtype, shape and data_offsets of {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key_seed(Name)? {
            match &*field {
                "dtype" => dtype = Some(map.next_value::<Dtype>()?),
                "shape" => shape = Some(map.next_value_seed(Numbers(MOST_DIMENSIONS))?),
                "data_offsets" => offsets = Some(map.next_value_seed(Numbers(2))?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (dtype, shape, offsets.as_deref()) {
            (Some(dtype), Some(shape), Some(&[begin, end])) => Ok(Entry {
                name: self.0,
                dtype,
                shape,
                begin,
                end,
            }),
            _ => Err(A::Error::custom(format_args!(
                "tensor {} lacks dtype, shape or two data_offsets",
                quoted(self.0.as_bytes())
            ))),
        }
    }
}

/// Reads an array of at most so many numbers.
struct Numbers(usize);

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Vec<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} numbers", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element()? {
            if numbers.len() == self.0 {
                return Err(A::Error::invalid_length(self.0 + 1, &self));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}
