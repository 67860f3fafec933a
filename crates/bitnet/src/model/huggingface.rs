//! Tensors of a Hugging Face checkpoint (safetensors with config.json).
//!
//! Ternary projections come packed (U8, with a `weight_scale`), as floats that are ternary, or as master weights that
//! are made so by absmean; all become I2_S rows in memory. Embedding, head and norms stay where the file is mapped.

use super::pack::pack;
use super::weights::{Source, lies_in};
use crate::Result;
use crate::file::names;
use crate::file::quantization::{Projection, Quantization, scale_name};
use crate::file::{RawTensor, SafeTensorsModel};
use bitnet_core::{HybridMemoryPool, WeightMatrix};
use std::collections::HashSet;

/// A checkpoint as a source of tensors.
pub(crate) struct CheckpointSource<'a> {
    file: &'a SafeTensorsModel,
    quantization: Quantization,
    used: HashSet<String>,
}

impl<'a> CheckpointSource<'a> {
    pub(crate) fn new(file: &'a SafeTensorsModel) -> Result<Self> {
        Ok(Self {
            quantization: Quantization::read(file)?,
            file,
            used: HashSet::new(),
        })
    }

    /// The tensor of a role under the first of its names that the file has.
    fn take(&mut self, role: &str) -> Option<RawTensor> {
        let tensor = names::to_checkpoint(&gguf_name(role))
            .into_iter()
            .filter(|name| !names::is_redundant(name, self.file.config()))
            .find_map(|name| self.file.tensor(&name))?;
        self.used.insert(tensor.name.clone());
        Some(tensor)
    }
}

impl Source for CheckpointSource<'_> {
    fn file(&self) -> &str {
        self.file.name()
    }

    fn matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
        pool: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>> {
        let Some(tensor) = self.take(role) else {
            return Ok(None);
        };
        let rows = rows.or(tensor.shape.first().copied()).unwrap_or_default();
        let shape = (rows, cols);
        let format = if names::is_projection(&gguf_name(role)) {
            self.used.insert(scale_name(&tensor.name));
            match self.quantization.projection(self.file, &tensor, shape)? {
                Projection::Ternary { weights, .. } => {
                    let place = (self.file.name(), tensor.name.as_str());
                    return pack(place, &weights, shape, pool).map(Some);
                }
                Projection::Floats(format) => format,
            }
        } else {
            tensor.expect_shape(self.file.name(), &[rows, cols])?;
            tensor.float_format(self.file.name())?
        };
        let shape = (rows, cols, cols);
        let matrix = WeightMatrix::new(&tensor.name, format, shape, 1.0, tensor.data)?;
        Ok(Some(matrix))
    }

    fn experts(
        &mut self,
        _: &str,
        _: [usize; 3],
        _: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>> {
        // Mixtures are read from GGUF alone.
        Ok(None)
    }

    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.take(role) else {
            return Ok(None);
        };
        tensor.expect_shape(self.file.name(), &[len])?;
        tensor.floats(self.file.name()).map(Some)
    }

    /// No class of transformers that is run here has such tensors.
    fn floats(&mut self, _: &str, _: &[usize]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    fn is_borrowed(&self, matrix: &WeightMatrix) -> bool {
        let tensor = self.file.tensor(matrix.name());
        tensor.is_some_and(|tensor| lies_in(matrix, &tensor.data))
    }

    fn tensor_name(&self, role: &str) -> String {
        let names = names::to_checkpoint(&gguf_name(role));
        names.into_iter().next().unwrap_or_else(|| role.into())
    }

    fn unused(&self) -> Vec<String> {
        let names = self.file.names().filter(|name| {
            !self.used.contains(*name) && !names::is_redundant(name, self.file.config())
        });
        names.map(str::to_owned).collect()
    }
}

/// What a GGUF file calls the tensor of a role.
fn gguf_name(role: &str) -> String {
    format!("{role}.weight")
}
