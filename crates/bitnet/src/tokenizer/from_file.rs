//! The tokenizer of a model file: in the metadata of a GGUF file, or in tokenizer.json beside a checkpoint.

use super::roles::RoleFiles;
use super::{Nfc, Tokenizer, TokenizerSpec, json};
use crate::file::{Gguf, ModelFile, SafeTensorsModel};
use crate::{Error, Result};
use std::sync::Arc;

impl Tokenizer {
    /// The tokenizer of a model file. None of the model's weights are touched.
    ///
    /// # Errors
    /// If the file has none, or it is not understood.
    pub fn from_file(file: &ModelFile) -> Result<Self> {
        match file {
            ModelFile::Gguf(file) => Self::from_gguf(file, None),
            ModelFile::SafeTensors(file) => Self::from_checkpoint(file),
        }
    }

    /// The tokenizer that the metadata describes, with the host's normal form C where there is one.
    ///
    /// # Errors
    /// If a key has the wrong type or the description is no tokenizer.
    pub(crate) fn from_gguf(file: &Gguf, nfc: Option<Nfc>) -> Result<Self> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let none = || Error::malformed(file.name(), key("model"), "a tokenizer", "no such key");
        let model = file.string(&key("model"))?.ok_or_else(none)?;
        let tokens = file.strings(&key("tokens"))?.ok_or_else(none)?;
        let merges = file.strings(&key("merges"))?;
        // Some writers give -1 for "none".
        let id = |name: &str| {
            let negative = file
                .get(&key(name))
                .and_then(|value| value.integer())
                .is_some_and(|id| id < 0);
            if negative {
                return Ok(None);
            }
            file.u32(&key(name))
        };
        let spec = TokenizerSpec {
            file: file.name(),
            model,
            pre: file.string(&key("pre"))?,
            architecture: file.string("general.architecture")?.unwrap_or_default(),
            tokens: tokens.iter().collect(),
            scores: file.f32s(&key("scores"))?,
            token_types: file.i32s(&key("token_type"))?,
            merges: merges.as_ref().map(|merges| merges.iter().collect()),
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            eot: id("eot_token_id")?,
            eom: id("eom_token_id")?,
            pad: id("padding_token_id")?,
            unk: id("unknown_token_id")?,
            add_bos: file.bool(&key("add_bos_token"))?,
            add_eos: file.bool(&key("add_eos_token"))?,
            add_space_prefix: file.bool(&key("add_space_prefix"))?,
        };
        Self::from_spec_with(spec, nfc)
    }

    /// The tokenizer beside a checkpoint.
    ///
    /// # Errors
    /// If tokenizer.json is missing or is no tokenizer.
    pub(crate) fn from_checkpoint(file: &SafeTensorsModel) -> Result<Self> {
        let Some(document) = file.sibling("tokenizer.json")? else {
            return Err(Error::tokenizer(
                file.name(),
                "no tokenizer.json beside the weights",
            ));
        };
        let files = RoleFiles::beside(file)?;
        let inner = json::read(&file.sibling_name("tokenizer.json"), &document, &files)?;
        Ok(Self(Arc::new(inner)))
    }
}
