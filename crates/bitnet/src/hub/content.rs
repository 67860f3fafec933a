//! Which files of a repository are its model.

use crate::chat::NAMED_TEMPLATES;
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
    /// One GGUF file, or the first part of one.
    Single(String),
    /// A folder of safetensors: the files to have before the shards are known, and whether an index names more.
    Folder { files: Vec<String>, indexed: bool },
}

/// Which of a repository's files, given by their names, are its model; the error says what to ask for instead.
pub(super) fn choose(names: &BTreeSet<String>) -> Result<Content, String> {
    // Of a file in parts, the first stands for all.
    let gguf: BTreeSet<String> = names
        .iter()
        .filter(|name| name.ends_with(".gguf"))
        .map(|name| parts(name).swap_remove(0))
        .collect();
    if gguf.len() == 1
        && let Some(single) = gguf.first()
    {
        return Ok(Content::Single(single.clone()));
    }
    let tensors: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors") && !name.contains('/'))
        .collect();
    // A whole file goes before an index, as where the folder is opened.
    let whole = names.contains("model.safetensors");
    let indexed = names.contains(INDEX) && !whole;
    let weights: Option<&str> = if whole {
        Some("model.safetensors")
    } else if indexed {
        Some(INDEX)
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
            let templates = names.iter().filter(|name| is_named_template(name));
            files.extend(templates.cloned());
            files.push(weights.to_owned());
            Ok(Content::Folder { files, indexed })
        }
        _ if !gguf.is_empty() => {
            let list: Vec<String> = gguf.into_iter().collect();
            Err(format!(
                "the repository has several GGUF files; add the name of one: {}",
                list.join(", ")
            ))
        }
        Some(_) => Err("the repository has safetensors but no config.json".to_owned()),
        None => Err("the repository has neither a GGUF file nor safetensors".to_owned()),
    }
}

/// Whether `name` is `additional_chat_templates/NAME.jinja`.
fn is_named_template(name: &str) -> bool {
    let inside = name
        .strip_prefix(NAMED_TEMPLATES)
        .and_then(|rest| rest.strip_prefix('/'));
    inside.is_some_and(|file| file.ends_with(".jinja") && !file.contains(['/', '\\']))
}

/// The files that `name` is one of: all parts of a GGUF file that was split (`x-00001-of-00003.gguf`), in their order, or
/// the file alone.
pub(super) fn parts(name: &str) -> Vec<String> {
    let split = || {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, part) = rest.rsplit_once('-')?;
        let number = |text: &str| -> Option<u32> {
            let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok())?
        };
        let (part, count) = (number(part)?, number(count)?);
        (1..=count).contains(&part).then(|| {
            (1..=count)
                .map(|part| format!("{stem}-{part:05}-of-{count:05}.gguf"))
                .collect()
        })
    };
    split().unwrap_or_else(|| vec![name.to_owned()])
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
        assert_eq!(
            choose(&names(&[
                "additional_chat_templates/rag.jinja",
                "additional_chat_templates/old/rag.jinja",
                "config.json",
                "model.safetensors",
                INDEX,
            ]))
            .unwrap(),
            Content::Folder {
                files: [
                    "config.json",
                    "additional_chat_templates/rag.jinja",
                    "model.safetensors"
                ]
                .map(str::to_owned)
                .to_vec(),
                indexed: false
            },
            "an index beside a whole file is stale"
        );
        let several = choose(&names(&["a.gguf", "b.gguf"])).unwrap_err();
        assert!(several.contains("a.gguf, b.gguf"), "{several}");
        assert!(
            choose(&names(&["model.safetensors"]))
                .unwrap_err()
                .contains("config.json")
        );
        assert!(choose(&names(&["pytorch_model.bin"])).is_err());
    }

    #[test]
    fn parts_stand_for_one_file() {
        let all = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"];
        for name in all {
            assert_eq!(parts(name), all);
        }
        for whole in [
            "m.gguf",
            "m-1-of-2.gguf",
            "m-00003-of-00002.gguf",
            "m-00000-of-00002.gguf",
            "m-00001-of-00002.safetensors",
            "m-+0001-of-00002.gguf",
        ] {
            assert_eq!(parts(whole), [whole]);
        }
        let single = Content::Single(all[0].to_owned());
        assert_eq!(choose(&names(&all)).unwrap(), single);
        let several = choose(&names(&[all[0], all[1], "n.gguf"])).unwrap_err();
        assert!(
            several.ends_with("n.gguf, q/m-00001-of-00002.gguf"),
            "{several}"
        );
    }
}
