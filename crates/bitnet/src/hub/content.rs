//! Which files of a repository are its model.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files that a folder model is made of, beside its tensors; only the first is indispensable.
const DESCRIPTIONS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
/// The file that says which shard holds which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What makes up the model of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// One GGUF file.
    Single(String),
    /// A folder of safetensors: the files to have before the shards are known, and whether an index names more.
    Folder { files: Vec<String>, indexed: bool },
}

/// Which of a repository's files, given by their names, are its model; the error says what to ask for instead.
pub(super) fn choose(names: &BTreeSet<String>) -> Result<Content, String> {
    let gguf: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".gguf"))
        .collect();
    if let [single] = gguf[..] {
        return Ok(Content::Single(single.clone()));
    }
    let tensors: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors") && !name.contains('/'))
        .collect();
    let indexed = names.contains(INDEX);
    let weights: Option<&str> = if indexed {
        Some(INDEX)
    } else if names.contains("model.safetensors") {
        Some("model.safetensors")
    } else if let [single] = tensors[..] {
        Some(single)
    } else {
        None
    };
    match weights {
        Some(weights) if names.contains("config.json") => {
            let mut files: Vec<String> = DESCRIPTIONS
                .iter()
                .filter(|name| names.contains(**name))
                .map(|name| (*name).to_owned())
                .collect();
            files.push(weights.to_owned());
            Ok(Content::Folder { files, indexed })
        }
        _ if !gguf.is_empty() => {
            let list: Vec<&str> = gguf.iter().map(|name| name.as_str()).collect();
            Err(format!(
                "the repository has several GGUF files; add the name of one: {}",
                list.join(", ")
            ))
        }
        Some(_) => Err("the repository has safetensors but no config.json".to_owned()),
        None => Err("the repository has neither a GGUF file nor safetensors".to_owned()),
    }
}

/// The names of the files below `folder`, with `/` between the parts.
pub(super) fn files_in(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let path = entry.path();
            if path.is_file() {
                names.insert(name);
            } else if path.is_dir() && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                open.push((path, format!("{name}/")));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn chooses_the_model() {
        assert_eq!(
            choose(&names(&[
                "README.md",
                "m.gguf",
                "config.json",
                "model.safetensors"
            ]))
            .unwrap(),
            Content::Single("m.gguf".to_owned())
        );
        assert_eq!(
            choose(&names(&[
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "x.py"
            ]))
            .unwrap(),
            Content::Folder {
                files: ["config.json", "tokenizer.json", "model.safetensors"]
                    .map(str::to_owned)
                    .to_vec(),
                indexed: false
            }
        );
        assert!(matches!(
            choose(&names(&[
                "config.json",
                INDEX,
                "model-00001-of-00002.safetensors"
            ]))
            .unwrap(),
            Content::Folder { indexed: true, .. }
        ));
        let several = choose(&names(&["a.gguf", "b.gguf"])).unwrap_err();
        assert!(several.contains("a.gguf, b.gguf"), "{several}");
        assert!(
            choose(&names(&["model.safetensors"]))
                .unwrap_err()
                .contains("config.json")
        );
        assert!(choose(&names(&["pytorch_model.bin"])).is_err());
    }
}
