//! The contract of Hadamard-rotated weights: the keys `prism.hadamard.*` of GGUF files.
//!
//! A file names the matrices whose columns were rotated; each multiplies rows that are rotated likewise. Nothing is taken for
//! granted: a key that says something else than what is run here is refused by its name and value.
//!
//! Source: the keys as the published files have them, in versions 1 and 2 of the contract. Version 2 is that of files whose head is
//! the rotated table of the embedding.

use crate::file::Gguf;
use crate::file::gguf::{Array, GgufWriter};
use crate::file::synth::Random;
use crate::{Error, Result};
use bitnet_core::{Regroup, Rotation};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

const PREFIX: &str = "prism.hadamard.";
const TABLE: &str = "token_embd.weight";
/// The longest block.
const MOST_BLOCK: usize = 1 << 20;
/// Parts of layers whose matrices may be rotated.
const FOLDABLE: [&str; 14] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_gate",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ssm_out",
    "ssm_alpha",
    "ssm_beta",
    // Drafts of a next token, which are not loaded.
    "nextn.eh_proj",
    "nextn.shared_head_head",
];

/// What a file says of its rotated matrices.
#[derive(Debug)]
pub(crate) struct Contract {
    block: usize,
    /// By the columns of a matrix; empty where there are none.
    signs: HashMap<usize, Vec<f32>>,
    rotated: HashSet<String>,
    table: bool,
    /// Whether the heads that `ssm_out` multiplies are grouped by their key head.
    pub(super) grouped: bool,
    /// Rotations so far, so that matrices share them.
    made: Mutex<HashMap<(usize, bool), Arc<Rotation>>>,
}

/// The keys of a contract that is to be written.
#[derive(Debug)]
pub(crate) struct ContractKeys {
    /// Columns of a block.
    pub(crate) block: usize,
    /// ±1 for each column, by their number.
    pub(crate) signs: BTreeMap<usize, Vec<f32>>,
    /// The rotated matrices of projections.
    pub(crate) names: Vec<String>,
    /// Whether the embedding is rotated, too.
    pub(crate) table: bool,
    /// Whether the rotated embedding is the head.
    pub(crate) tied: bool,
    /// Whether the heads that `ssm_out` multiplies are grouped by their key head.
    pub(crate) grouped: bool,
}

impl ContractKeys {
    /// Signs for rows of `width` columns.
    pub(crate) fn random_signs(seed: u64, width: usize) -> Vec<f32> {
        let mut values = vec![0f32; width];
        Random::of(seed, u64::MAX, width as u64).normal(0.0, 1.0, &mut values);
        let sign = |value: f32| if value < 0.0 { -1.0 } else { 1.0 };
        values.into_iter().map(sign).collect()
    }

    /// Writes them.
    pub(crate) fn write(&self, file: &mut GgufWriter) {
        let signs: Vec<i32> = self.signs.values().flatten().map(|x| *x as i32).collect();
        let widths: Vec<i32> = self.signs.keys().map(|width| *width as i32).collect();
        file.entry(key("version"), if self.tied { 2u32 } else { 1 })
            .entry(key("tied_output"), self.tied)
            .entry(key("block_size"), self.block as u32)
            .entry(key("transform"), "normalized-sylvester-walsh-hadamard")
            .entry(key("axis"), "input-last-dimension")
            .entry(key("sign_mode"), "explicit")
            .entry(key("sign_widths"), Array::from_i32s(&widths))
            .entry(key("sign_values"), Array::from_i32s(&signs))
            .entry(key("weight_names"), Array::from_strings(&self.names));
        if self.table {
            let table = Array::from_strings([TABLE]);
            file.entry(key("inverse_weight_names"), table);
        }
        if self.grouped {
            file.entry(key("gdn_v_grouped"), true);
        }
    }
}

impl PartialEq for Contract {
    fn eq(&self, other: &Self) -> bool {
        (self.block, &self.signs, &self.rotated) == (other.block, &other.signs, &other.rotated)
            && (self.table, self.grouped) == (other.table, other.grouped)
    }
}

impl Contract {
    /// Whether a file has keys of the contract.
    pub(crate) fn is_in(file: &Gguf) -> bool {
        let mut metadata = file.metadata().iter();
        metadata.any(|(key, _)| key.starts_with(PREFIX))
    }

    /// The contract of a file; `None` if its weights are plain.
    ///
    /// # Errors
    /// If a key is missing, or says what this runtime does not do.
    pub(super) fn read(file: &Gguf) -> Result<Option<Self>> {
        if !Self::is_in(file) {
            return Ok(None);
        }
        let version = file.usize(&key("version"))?;
        let tied = file.bool(&key("tied_output"))?.unwrap_or(false);
        match version {
            Some(1) if !tied => {}
            Some(2) if tied => {}
            Some(version @ (1 | 2)) => {
                let expected = format!("{}, as in version {version}", version == 2);
                return Err(Error::malformed(
                    file.name(),
                    key("tied_output"),
                    expected,
                    tied,
                ));
            }
            Some(other) => return Err(unsupported(file, "version", other, "1 or 2")),
            None => {
                let expected = "a version, as rotated weights have";
                return Err(Error::malformed(
                    file.name(),
                    key("version"),
                    expected,
                    "no such key",
                ));
            }
        }
        text(file, "transform", &["normalized-sylvester-walsh-hadamard"])?;
        text(file, "axis", &["input-last-dimension"])?;
        let explicit = text(file, "sign_mode", &["explicit", "identity"])? == "explicit";
        let block = file
            .usize(&key("block_size"))?
            .ok_or_else(|| missing(file, "block_size"))?;
        if !block.is_power_of_two() || block > MOST_BLOCK {
            let expected = format!("a power of two up to {MOST_BLOCK}");
            return Err(Error::malformed(
                file.name(),
                key("block_size"),
                expected,
                block,
            ));
        }
        let rotated = names(file, "weight_names")?.ok_or_else(|| missing(file, "weight_names"))?;
        if rotated.is_empty() {
            let expected = "at least one matrix";
            return Err(Error::malformed(
                file.name(),
                key("weight_names"),
                expected,
                "none",
            ));
        }
        let inverse = names(file, "inverse_weight_names")?.unwrap_or_default();
        if let Some(other) = inverse.iter().find(|name| *name != TABLE) {
            let what = key("inverse_weight_names");
            return Err(Error::malformed(file.name(), what, TABLE, other));
        }
        let contract = Self {
            block,
            signs: if explicit {
                signs(file, block)?
            } else {
                HashMap::new()
            },
            rotated,
            table: !inverse.is_empty(),
            grouped: file.bool(&key("gdn_v_grouped"))?.unwrap_or(false),
            made: Mutex::default(),
        };
        contract.check(file, explicit, tied)?;
        Ok(Some(contract))
    }

    /// Refuses names and tensors that do not fit each other.
    fn check(&self, file: &Gguf, explicit: bool, tied: bool) -> Result<()> {
        let has_head = file.tensor("output.weight").is_some();
        if tied && (has_head || !self.table) {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: format!(
                    "{} with {}",
                    key("tied_output"),
                    if has_head {
                        "a head of its own"
                    } else {
                        "a plain table"
                    }
                ),
                advice: "use a file whose head is its rotated embedding".into(),
            });
        }
        if self.table && !tied && !has_head {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: "a rotated embedding that is the head, in version 1 of the contract".into(),
                advice: "use a file of version 2".into(),
            });
        }
        let table = self.table.then(|| TABLE.to_owned());
        for name in self.rotated.iter().chain(&table) {
            if self.rotated.contains(name) && !is_foldable(name) {
                let expected = "matrices of projections";
                return Err(Error::malformed(
                    file.name(),
                    key("weight_names"),
                    expected,
                    name,
                ));
            }
            let Some(tensor) = file.tensor(name) else {
                let expected = "tensors of the file";
                return Err(Error::malformed(
                    file.name(),
                    key("weight_names"),
                    expected,
                    name,
                ));
            };
            let width = tensor.cols();
            if !width.is_multiple_of(self.block) {
                let expected = format!("a divisor of the {width} columns of {name}");
                return Err(Error::malformed(
                    file.name(),
                    key("block_size"),
                    expected,
                    self.block,
                ));
            }
            if explicit && !self.signs.contains_key(&width) {
                let expected = format!("signs for the {width} columns of {name}");
                return Err(Error::malformed(
                    file.name(),
                    key("sign_widths"),
                    expected,
                    "none",
                ));
            }
        }
        Ok(())
    }

    /// The rotation of the rows that a matrix multiplies, if it was rotated; `regroup` is the other order of its columns.
    pub(super) fn rotation(
        &self,
        name: &str,
        width: usize,
        regroup: Option<Regroup>,
    ) -> Option<Arc<Rotation>> {
        if !self.rotated.contains(name) {
            return None;
        }
        Some(self.shared(width, regroup))
    }

    /// The rotation of the rows of the embedding, if its table was rotated.
    pub(super) fn table_rotation(&self, width: usize) -> Option<Arc<Rotation>> {
        self.table.then(|| self.shared(width, None))
    }

    fn shared(&self, width: usize, regroup: Option<Regroup>) -> Arc<Rotation> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let rotation = made.entry((width, regroup.is_some())).or_insert_with(|| {
            Arc::new(Rotation {
                block: self.block,
                signs: self.signs.get(&width).cloned().unwrap_or_default(),
                regroup,
            })
        });
        Arc::clone(rotation)
    }
}

/// The longest block that divides rows of all these widths.
pub(crate) fn widest_block(widths: &[usize]) -> usize {
    let shared = widths.iter().fold(MOST_BLOCK, |bits, width| bits | width);
    1 << shared.trailing_zeros()
}

/// Whether a tensor is a matrix whose columns may be rotated.
fn is_foldable(name: &str) -> bool {
    if name == "output.weight" {
        return true;
    }
    let part = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = part else {
        return false;
    };
    let part = part.strip_suffix(".weight").unwrap_or_default();
    layer.parse::<usize>().is_ok() && FOLDABLE.contains(&part)
}

/// The signs of each width.
fn signs(file: &Gguf, block: usize) -> Result<HashMap<usize, Vec<f32>>> {
    let what = key("sign_widths");
    let widths = file
        .i32s(&what)?
        .ok_or_else(|| missing(file, "sign_widths"))?;
    let values = file
        .i32s(&key("sign_values"))?
        .ok_or_else(|| missing(file, "sign_values"))?;
    let mut signs = HashMap::new();
    let mut rest = &values[..];
    for width in &widths {
        let wrong = |expected: String| Error::malformed(file.name(), &what, expected, width);
        let count = usize::try_from(*width).unwrap_or(0);
        if count == 0 || !count.is_multiple_of(block) {
            return Err(wrong(format!("multiples of the block size {block}")));
        }
        let Some((own, others)) = rest.split_at_checked(count) else {
            let sum: i128 = widths.iter().map(|width| i128::from(*width)).sum();
            let expected = format!("{sum} signs, for all widths");
            return Err(Error::malformed(
                file.name(),
                key("sign_values"),
                expected,
                values.len(),
            ));
        };
        rest = others;
        if let Some(wrong) = own.iter().find(|sign| sign.abs() != 1) {
            return Err(Error::malformed(
                file.name(),
                key("sign_values"),
                "1 or -1",
                wrong,
            ));
        }
        let own = own.iter().map(|sign| *sign as f32).collect();
        if signs.insert(count, own).is_some() {
            return Err(wrong("each width once".into()));
        }
    }
    if widths.is_empty() || !rest.is_empty() {
        let expected = "as many signs as the widths say, and at least one";
        return Err(Error::malformed(
            file.name(),
            key("sign_values"),
            expected,
            values.len(),
        ));
    }
    Ok(signs)
}

/// The names of a list, none of them twice.
fn names(file: &Gguf, name: &str) -> Result<Option<HashSet<String>>> {
    let Some(list) = file.strings(&key(name))? else {
        return Ok(None);
    };
    let mut names = HashSet::new();
    for bytes in list.iter() {
        let found = String::from_utf8_lossy(bytes).into_owned();
        if names.contains(&found) {
            return Err(Error::malformed(
                file.name(),
                key(name),
                "each name once",
                found,
            ));
        }
        names.insert(found);
    }
    Ok(Some(names))
}

/// The text of a key, which must be one of `known`.
fn text<'a>(file: &Gguf, name: &str, known: &[&'a str]) -> Result<&'a str> {
    let found = file
        .string(&key(name))?
        .ok_or_else(|| missing(file, name))?;
    match known.iter().find(|known| **known == found) {
        Some(known) => Ok(known),
        None => Err(unsupported(file, name, found, &known.join(" or "))),
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn missing(file: &Gguf, name: &str) -> Error {
    Error::malformed(
        file.name(),
        key(name),
        "a value, as rotated weights have",
        "no such key",
    )
}

fn unsupported(file: &Gguf, name: &str, found: impl std::fmt::Display, known: &str) -> Error {
    Error::Unsupported {
        file: file.name().into(),
        what: format!("{} {found}", key(name)),
        advice: format!("supported is {known}"),
    }
}
