//! Tensors and tokenizer of a GGUF file. Matrices stay where the file is mapped.

use super::weights::Source;
use crate::file::{Gguf, GgufTensor};
use crate::tokenizer::{Tokenizer, TokenizerSpec};
use crate::{Error, Result};
use bitnet_core::WeightMatrix;
use bitnet_quant::{Format, I2sLayout};
use std::collections::HashSet;

/// A GGUF file as a source of tensors.
pub(crate) struct GgufSource<'a> {
    file: &'a Gguf,
    layout: I2sLayout,
    used: HashSet<String>,
}

impl<'a> GgufSource<'a> {
    pub(crate) fn new(file: &'a Gguf, layout: I2sLayout) -> Self {
        Self {
            file,
            layout,
            used: HashSet::new(),
        }
    }

    fn take(&mut self, name: &str) -> Option<&'a GgufTensor> {
        let tensor = self.file.tensor(name)?;
        self.used.insert(name.to_owned());
        Some(tensor)
    }

    fn expect_shape(&self, tensor: &GgufTensor, expected: &[usize]) -> Result<()> {
        let mut found: Vec<usize> = tensor.ne.iter().map(|&n| n as usize).collect();
        while found.len() > expected.len() && found.last() == Some(&1) {
            found.pop();
        }
        if found == expected {
            return Ok(());
        }
        let expected = format!("shape {expected:?}");
        Err(Error::tensor(
            self.file.name(),
            &tensor.name,
            expected,
            format!("{:?}", tensor.ne),
        ))
    }

    fn floats(&self, tensor: &GgufTensor, len: usize) -> Result<Vec<f32>> {
        self.expect_shape(tensor, &[len])?;
        let format = tensor.format(self.layout, self.file.name())?;
        if !matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
            let name = self.file.name();
            return Err(Error::tensor(
                name,
                &tensor.name,
                "F32, F16 or BF16",
                format,
            ));
        }
        let mut values = vec![0.0; len];
        format.decode_row(&tensor.data, 1.0, &mut values)?;
        Ok(values)
    }
}

impl Source for GgufSource<'_> {
    fn file(&self) -> &str {
        self.file.name()
    }

    fn matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<Option<WeightMatrix>> {
        let Some(tensor) = self.take(&self.tensor_name(role)) else {
            return Ok(None);
        };
        let rows = rows.unwrap_or_else(|| tensor.rows());
        self.expect_shape(tensor, &[cols, rows])?;
        let file = self.file.name();
        let format = tensor.format(self.layout, file)?;
        let scale = match format {
            Format::I2s(_) => tensor.i2s_scale(file)?,
            _ => 1.0,
        };
        let shape = (rows, cols, cols);
        let matrix = WeightMatrix::new(&tensor.name, format, shape, scale, tensor.row_data())?;
        match self.take(&format!("{role}.scale")) {
            None => Ok(Some(matrix)),
            Some(tensor) => {
                let factor = self.floats(tensor, 1)?[0];
                if !factor.is_finite() {
                    return Err(Error::tensor(file, &tensor.name, "a finite scale", factor));
                }
                Ok(Some(matrix.with_output_scale(factor)?))
            }
        }
    }

    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        match self.take(&self.tensor_name(role)) {
            None => Ok(None),
            Some(tensor) => self.floats(tensor, len).map(Some),
        }
    }

    fn is_borrowed(&self, _: &WeightMatrix) -> bool {
        true
    }

    fn tensor_name(&self, role: &str) -> String {
        format!("{role}.weight")
    }

    fn unused(&self) -> Vec<String> {
        let names = self.file.tensors().iter().map(|tensor| &tensor.name);
        names
            .filter(|name| !self.used.contains(*name))
            .cloned()
            .collect()
    }
}

/// Builds the tokenizer that the metadata describes.
///
/// # Errors
/// If a key has the wrong type or the description is no tokenizer.
pub(crate) fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let none = || Error::malformed(file.name(), key("model"), "a tokenizer", "no such key");
    let model = file.string(&key("model"))?.ok_or_else(none)?;
    let tokens = file.strings(&key("tokens"))?.ok_or_else(none)?;
    let merges = file.strings(&key("merges"))?;
    // An id that is negative or no integer counts as absent.
    let id = |name: &str| {
        file.get(&key(name))
            .and_then(|value| value.integer())
            .and_then(|id| u32::try_from(id).ok())
    };
    Tokenizer::from_spec(TokenizerSpec {
        file: file.name(),
        model,
        pre: file.string(&key("pre"))?,
        architecture: file.string("general.architecture")?.unwrap_or_default(),
        tokens: tokens.iter().collect(),
        scores: file.f32s(&key("scores"))?,
        token_types: file.i32s(&key("token_type"))?,
        merges: merges.iter().flat_map(|merges| merges.iter()).collect(),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        pad: id("padding_token_id"),
        unk: id("unknown_token_id"),
        add_bos: file.bool(&key("add_bos_token"))?,
        add_eos: file.bool(&key("add_eos_token"))?,
        add_space_prefix: file.bool(&key("add_space_prefix"))?,
    })
}
