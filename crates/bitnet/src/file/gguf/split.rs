//! Models split into several files, as llama.cpp's `gguf-split` writes them.
//!
//! ```text
//! NAME-00001-of-00003.gguf   split.no 0   split.count 3   split.tensors.count   all metadata, perhaps tensors
//! NAME-00002-of-00003.gguf   split.no 1   split.count 3   split.tensors.count   tensors
//! NAME-00003-of-00003.gguf   split.no 2   split.count 3   split.tensors.count   tensors
//! ```
//!
//! The keys decide; the names say where the other parts are. Source: `llama_split_path`, `llama_split_prefix` and
//! `llama_model_loader` of llama.cpp, which wants the first part. Here any part stands for the model.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Gguf, Load};
use crate::{Error, Result};

const EXTENSION: &[u8] = b".gguf";

/// What the name of a part says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName<'a> {
    /// What the names of all parts begin with.
    pub(crate) prefix: &'a [u8],
    /// Which part it is, from 1 on.
    pub(crate) number: u32,
    /// How many there are, at least 2.
    pub(crate) count: u32,
}

impl<'a> PartName<'a> {
    /// Reads `PREFIX-00001-of-00003.gguf`; `None` for other names.
    pub(crate) fn parse(name: &'a OsStr) -> Option<Self> {
        let stem = name.as_encoded_bytes().strip_suffix(EXTENSION)?;
        let (stem, count) = number_behind(stem, b"-of-")?;
        let (prefix, number) = number_behind(stem, b"-")?;
        (count > 1 && (1..=count).contains(&number)).then_some(Self {
            prefix,
            number,
            count,
        })
    }

    /// The name of part `number`, as errors say it.
    fn shown(self, number: u32) -> String {
        let prefix = String::from_utf8_lossy(self.prefix);
        format!("{prefix}-{number:05}-of-{:05}.gguf", self.count)
    }
}

/// The five digits at the end of `text` as a number, and what stands before them and `mark`.
fn number_behind<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], u32)> {
    let (before, digits) = text.split_at_checked(text.len().checked_sub(5)?)?;
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((before.strip_suffix(mark)?, number))
}

/// The model of which `file`, at `path`, is a part, the bytes of the others loaded by `load`; `file` itself if it is whole.
///
/// # Errors
/// As [`Gguf::open`].
pub(super) fn assemble(path: &Path, file: Gguf, load: Load<'_>) -> Result<Gguf> {
    let (number, count) = match file.part()? {
        None => return Ok(file),
        Some(part) => part,
    };
    let named = path.file_name().and_then(PartName::parse);
    let Some(named) = named.filter(|name| (name.number, name.count) == (number, count)) else {
        return Err(Error::malformed(
            file.name(),
            "its name",
            format_args!(
                "an end of -{number:05}-of-{count:05}.gguf, as split.no and split.count say"
            ),
            "another; give every part the name that it was made with",
        ));
    };
    let mut parts: Vec<Option<PathBuf>> = vec![None; count as usize];
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    for entry in std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))? {
        let name = entry.map_err(|e| Error::io(directory, e))?.file_name();
        if let Some(other) = PartName::parse(&name)
            && (other.prefix, other.count) == (named.prefix, count)
        {
            // Links count, as in the cache of Hugging Face's tools.
            let other = (other.number as usize - 1, directory.join(&name));
            parts[other.0] = Some(other.1);
        }
    }
    let missing: Vec<String> = (1..=count)
        .zip(&parts)
        .filter(|(_, part)| part.is_none())
        .map(|(number, _)| named.shown(number))
        .collect();
    if let Some(first) = missing.first() {
        let more = match missing.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(Error::malformed(
            file.name(),
            "the parts of the model",
            format_args!("all {count} of them in one directory"),
            format_args!("no {first}{more}; download what is missing"),
        ));
    }
    let parts: Vec<PathBuf> = parts.into_iter().flatten().collect();
    let (own, mut file) = (number, Some(file));
    let mut read = |number: u32| -> Result<Gguf> {
        let part = match file.take_if(|_| number == own) {
            Some(file) => file,
            None => {
                let path = &parts[number as usize - 1];
                Gguf::read(path.display().to_string(), load(path)?.into())?
            }
        };
        match part.part()? {
            found if found == Some((number, count)) => Ok(part),
            found => Err(Error::malformed(
                part.name(),
                "split.no and split.count",
                format_args!("{} and {count}, as its name says", number - 1),
                match found {
                    Some((number, count)) => format!("{} and {count}", number - 1),
                    None => "no part of a split model".to_owned(),
                },
            )),
        }
    };
    let mut whole = read(1)?;
    for number in 2..=count {
        whole.append(read(number)?)?;
    }
    if let Some(expected) = whole.usize("split.tensors.count")?
        && expected != whole.tensors().len()
    {
        return Err(Error::malformed(
            whole.name(),
            "split.tensors.count",
            format_args!("{} tensors, as its parts have", whole.tensors().len()),
            expected,
        ));
    }
    Ok(whole)
}

impl Gguf {
    /// Which part of how many this file is, from 1 on; `None` if it is a whole model.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the keys contradict each other.
    pub(crate) fn part(&self) -> Result<Option<(u32, u32)>> {
        // Both are u16 where they are written.
        let key = |name| -> Result<u32> {
            let number = self.u32(name)?.unwrap_or(0);
            match number {
                0..=0xffff => Ok(number),
                _ => Err(Error::malformed(self.name(), name, "at most 65535", number)),
            }
        };
        match (key("split.no")?, key("split.count")?) {
            (0, 0 | 1) => Ok(None),
            (number, count) if number < count => Ok(Some((number + 1, count))),
            (number, count) => Err(Error::malformed(
                self.name(),
                "split.no",
                format_args!("less than split.count, which is {count}"),
                number,
            )),
        }
    }

    /// Refuses one part of several, where the others cannot be found.
    pub(super) fn refuse_part(&self) -> Result<()> {
        match self.part()? {
            None => Ok(()),
            Some((number, count)) => Err(Error::Unsupported {
                file: self.name().to_owned(),
                what: format!("part {number} of a model split into {count} files, by itself,"),
                advice: "merge them into one file first (llama-gguf-split --merge FIRST OUT), or open them by their path"
                    .to_owned(),
            }),
        }
    }

    /// Adds the tensors of another part.
    fn append(&mut self, part: Gguf) -> Result<()> {
        self.tensors.extend(part.tensors);
        self.by_name = super::sorted_by(&self.tensors, |tensor| &tensor.name).map_err(|name| {
            Error::malformed(
                &part.name,
                "the tensors",
                "every name once in all parts",
                format_args!("{name} twice"),
            )
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Bytes, GgufWriter, ModelFile};
    use bitnet_quant::Format;

    #[test]
    fn names_say_which_part() {
        let parse = |name: &'static str| PartName::parse(OsStr::new(name));
        let part = parse("model-q4-00002-of-00012.gguf").unwrap();
        assert_eq!(
            (part.prefix, part.number, part.count),
            (&b"model-q4"[..], 2, 12)
        );
        assert_eq!(part.shown(11), "model-q4-00011-of-00012.gguf");
        for whole in [
            "m.gguf",
            "m-00001-of-00001.gguf",
            "m-00003-of-00002.gguf",
            "m-00000-of-00002.gguf",
            "m-1-of-2.gguf",
            "one-of-00003.gguf",
            "m-00001-of-00002.safetensors",
            "-of-00002.gguf",
            ".gguf",
            "",
        ] {
            assert_eq!(parse(whole), None, "{whole}");
        }
    }

    /// A part with the tensors `names`, of which each has its own first number.
    fn part(no: u16, count: u16, all: i32, names: &[&str]) -> Vec<u8> {
        let mut writer = GgufWriter::new("memory");
        writer.entry("general.name", format!("part {no}"));
        writer.entry("split.no", no).entry("split.count", count);
        writer.entry("split.tensors.count", all);
        for name in names {
            writer.tensor(*name, &[2], Format::F32).unwrap();
        }
        let mut data = writer.begin(Vec::new()).unwrap();
        for name in names {
            data.push(name, &[name.as_bytes()[0]; 8]).unwrap();
        }
        data.finish().unwrap()
    }

    fn refused(path: &Path, message: &str) {
        let error = ModelFile::open(path).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn any_part_opens_all_and_what_is_wrong_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number: u32| {
            directory
                .path()
                .join(format!("m-{number:05}-of-00003.gguf"))
        };
        let write = |number: u32, bytes: Vec<u8>| std::fs::write(path(number), bytes).unwrap();
        write(1, part(0, 3, 3, &[]));
        refused(&path(1), "no m-00002-of-00003.gguf and 1 more");
        write(3, part(2, 3, 3, &["c"]));
        refused(&path(3), "no m-00002-of-00003.gguf; download");
        refused(directory.path(), "no m-00002-of-00003.gguf; download");
        write(2, part(1, 3, 3, &["b", "a"]));
        // Another model with the same beginning, and another count of parts.
        let other = directory.path().join("m-00001-of-00002.gguf");
        std::fs::write(&other, part(0, 2, 1, &["x"])).unwrap();
        for number in 1..4 {
            let ModelFile::Gguf(file) = ModelFile::open(&path(number)).unwrap() else {
                panic!("not GGUF")
            };
            assert_eq!(file.name(), path(1).display().to_string());
            assert_eq!(file.string("general.name").unwrap(), Some("part 0"));
            let names: Vec<_> = file.tensors().iter().map(|t| t.name.as_str()).collect();
            assert_eq!(names, ["b", "a", "c"]);
            assert_eq!(&file.tensor("a").unwrap().data[..], [b'a'; 8]);
        }
        refused(
            directory.path(),
            "found several: m-00001-of-00002.gguf, m-00001-of-00003.gguf",
        );
        std::fs::remove_file(&other).unwrap();
        assert!(ModelFile::open(directory.path()).is_ok());

        write(2, part(1, 3, 3, &["b", "c"]));
        refused(&path(1), "c twice");
        write(2, part(1, 3, 3, &["b"]));
        refused(&path(1), "expected 2 tensors, as its parts have, found 3");
        write(2, part(0, 3, 3, &["b", "a"]));
        refused(
            &path(1),
            "m-00002-of-00003.gguf: split.no and split.count: expected 1 and 3",
        );
        write(2, part(1, 4, 3, &["b", "a"]));
        refused(&path(1), "found 1 and 4");
        refused(&path(2), "-00002-of-00004.gguf");
        write(2, part(0, 0, 3, &["b", "a"]));
        refused(&path(1), "found no part of a split model");
        let renamed = directory.path().join("renamed.gguf");
        std::fs::rename(path(1), &renamed).unwrap();
        refused(
            &renamed,
            "-00001-of-00003.gguf, as split.no and split.count say",
        );
        refused(
            &path(3),
            "no m-00001-of-00003.gguf and 0 more".trim_end_matches(" and 0 more"),
        );
    }

    #[test]
    fn a_part_in_memory_is_refused_with_advice() {
        let error = ModelFile::parse("memory", Bytes::from(part(1, 3, 1, &["a"])));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("part 2 of a model split into 3 files") && error.contains("--merge"),
            "{error}"
        );
        let error = Gguf::parse("memory", Bytes::from(part(3, 3, 1, &["a"]))).unwrap_err();
        assert!(
            error.to_string().contains("less than split.count"),
            "{error}"
        );
    }
}
