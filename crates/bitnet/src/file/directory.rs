//! Which file of a folder is the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::folder::Folder;
use super::gguf::split::PartName;
use super::safetensors::{INDEX, LONGEST_CONFIG, is_plain_name};
use crate::{Error, Result};

/// Names that an error lists.
const LISTED: usize = 8;

/// What a folder holds.
pub(super) enum Found {
    /// A GGUF file, or the first part of one that is split.
    Gguf(PathBuf),
    /// What [`find_safetensors`] finds.
    SafeTensors,
}

/// The model in `folder`.
///
/// # Errors
/// [`Error::Malformed`] if there is none, or several of which none comes first.
pub(super) fn find(folder: &Folder) -> Result<Found> {
    let listed = of_transformers(folder)?;
    let safetensors = folder.with_extension("", "safetensors")?;
    // Without its config.json a safetensors file is no model.
    if folder.has("config.json") && (listed.is_some() || safetensors.len() == 1) {
        return find_safetensors(folder).map(|_| Found::SafeTensors);
    }
    match &models(folder.with_extension("", "gguf")?)[..] {
        [one] => Ok(Found::Gguf(one.clone())),
        [] if listed.is_none() && safetensors.is_empty() => Err(none(
            folder,
            "a GGUF file, model.safetensors, its index, or one other .safetensors file",
        )),
        // Opening it says what is missing.
        [] => find_safetensors(folder).map(|_| Found::SafeTensors),
        several => Err(ambiguous(folder, several)),
    }
}

/// The name of the safetensors file in `folder`, or of the index of several.
///
/// # Errors
/// As [`find`].
pub(super) fn find_safetensors(folder: &Folder) -> Result<PathBuf> {
    if let Some(path) = of_transformers(folder)? {
        return Ok(path);
    }
    match &folder.with_extension("", "safetensors")?[..] {
        [] => Err(none(
            folder,
            "model.safetensors, its index, or one other .safetensors file",
        )),
        [one] => Ok(one.clone()),
        several => Err(ambiguous(folder, several)),
    }
}

/// The file that transformers takes, in the order of its `_get_resolved_checkpoint_files` (modeling_utils.py of 5.24): the one
/// that config.json names, one file, the index of several. An index beside `model.safetensors` is left from another download.
fn of_transformers(folder: &Folder) -> Result<Option<PathBuf>> {
    if folder.has("config.json") {
        let content: serde_json::Value = folder.json("config.json", LONGEST_CONFIG)?;
        if let Some(name) = content
            .get("transformers_weights")
            .and_then(|name| name.as_str())
        {
            let known = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
            if !known || !is_plain_name(name) || !folder.has(name) {
                return Err(Error::malformed(
                    folder.name_of("config.json"),
                    "transformers_weights",
                    "the name of a .safetensors file or of its index in the same directory",
                    super::quoted(name.as_bytes()),
                ));
            }
            return Ok(Some(name.into()));
        }
    }
    let names = ["model.safetensors", INDEX];
    let found = names.into_iter().find(|name| folder.has(name));
    Ok(found.map(PathBuf::from))
}

/// The models among GGUF files: of the parts of a split one, the first that is there.
fn models(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut models = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default();
        let model = match PartName::parse(name) {
            Some(part) => (part.prefix.to_vec(), part.count),
            None => (name.as_encoded_bytes().to_vec(), 1),
        };
        models.entry(model).or_insert(file);
    }
    models.into_values().collect()
}

fn none(folder: &Folder, expected: &str) -> Error {
    Error::malformed(folder.name(), "the directory", expected, "none of them")
}

fn ambiguous(folder: &Folder, files: &[PathBuf]) -> Error {
    let names = files.iter().filter_map(|file| file.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let mut list = names.join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    Error::malformed(
        folder.name(),
        "the directory",
        "one model; give the path of the file that you mean",
        format_args!("several: {list}"),
    )
}

#[cfg(test)]
mod tests {
    use crate::file::safetensors::SafeTensorsWriter;
    use crate::file::{Dtype, GgufWriter, ModelFile};
    use std::path::Path;

    fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(directory.join(name), content).unwrap();
    }

    /// A safetensors file with a tensor of that name.
    fn safetensors(tensor: &str) -> Vec<u8> {
        let mut writer = SafeTensorsWriter::new("memory");
        writer.tensor(tensor, Dtype::U8, &[1]).unwrap();
        let mut data = writer.begin(Vec::new()).unwrap();
        data.push(tensor, &[7]).unwrap();
        data.finish().unwrap()
    }

    /// What is opened: the name of the only tensor of a safetensors model, or that of a GGUF file.
    fn opened(directory: &Path) -> String {
        match ModelFile::open(directory) {
            Ok(ModelFile::SafeTensors(model)) => model.names().collect(),
            Ok(ModelFile::Gguf(file)) => {
                let name = file.name().rsplit(['/', '\\']).next();
                name.unwrap_or_default().to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_order_is_that_of_transformers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(path, "config.json", "{}");
        write(path, "other.safetensors", safetensors("other"));
        assert_eq!(opened(path), "other");
        write(path, "second.safetensors", safetensors("second"));
        let said = opened(path);
        assert!(
            said.contains("expected one model; give the path")
                && said.ends_with("several: other.safetensors, second.safetensors"),
            "{said}"
        );
        write(
            path,
            "model.safetensors.index.json",
            r#"{"weight_map": {"second": "second.safetensors"}}"#,
        );
        assert_eq!(opened(path), "second");
        write(path, "model.safetensors", safetensors("one file"));
        assert_eq!(opened(path), "one file");
        // An index that lists files which are gone is left from another download.
        write(
            path,
            "model.safetensors.index.json",
            r#"{"weight_map": {"gone": "model-00001-of-00002.safetensors"}}"#,
        );
        assert_eq!(opened(path), "one file");
        write(
            path,
            "model.gguf",
            GgufWriter::new("")
                .begin(Vec::new())
                .unwrap()
                .finish()
                .unwrap(),
        );
        assert_eq!(opened(path), "one file");
        for (name, said) in [
            ("other.safetensors", "other"),
            ("absent.safetensors", "transformers_weights"),
            ("../other.safetensors", "transformers_weights"),
            ("pytorch_model.bin", "transformers_weights"),
        ] {
            let config = serde_json::json!({"transformers_weights": name});
            write(path, "config.json", config.to_string());
            assert!(opened(path).contains(said), "{name}: {}", opened(path));
        }
    }

    #[test]
    fn a_directory_of_gguf_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let said = opened(path);
        assert!(
            said.contains("expected a GGUF file, model.safetensors"),
            "{said}"
        );
        let empty = || {
            GgufWriter::new("")
                .begin(Vec::new())
                .unwrap()
                .finish()
                .unwrap()
        };
        write(path, "README.md", "");
        write(path, "b.gguf", empty());
        assert_eq!(opened(path), "b.gguf");
        // Without its config.json a safetensors file is no model.
        write(path, "golden.safetensors", safetensors("golden"));
        assert_eq!(opened(path), "b.gguf");
        // A config.json stands beside many GGUF files.
        std::fs::remove_file(path.join("golden.safetensors")).unwrap();
        write(path, "config.json", "{}");
        assert_eq!(opened(path), "b.gguf");
        write(path, "a.gguf", empty());
        let said = opened(path);
        assert!(said.ends_with("several: a.gguf, b.gguf"), "{said}");
        for number in 0..20 {
            write(path, &format!("q{number:02}.gguf"), empty());
        }
        assert!(
            opened(path).ends_with("q05.gguf and 14 more"),
            "{}",
            opened(path)
        );
    }
}
