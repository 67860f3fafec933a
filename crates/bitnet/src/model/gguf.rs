//! Tensors of a GGUF file. Matrices stay where the file is mapped, but for projections whose floats are ternary: those
//! become I2_S rows in memory, and run as such.

use super::pack::{Order, pack};
use super::weights::{Source, lies_in};
use crate::file::names::is_projection;
use crate::file::ternary::Ternary;
use crate::file::{GgmlType, Gguf, GgufTensor};
use crate::{Error, Result};
use bitnet_core::{HybridMemoryPool, WeightMatrix};
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

    /// All rows of the tensor of a role as one matrix.
    fn rows_of(
        &mut self,
        role: &str,
        tensor: &GgufTensor,
        (rows, cols): (usize, usize),
        pool: &HybridMemoryPool,
    ) -> Result<WeightMatrix> {
        let file = self.file.name();
        let format = tensor.format(self.layout, file)?;
        let scale = match format {
            Format::I2s(_) => tensor.i2s_scale(file)?,
            _ => 1.0,
        };
        let ternary = match format {
            Format::F32 | Format::F16 | Format::Bf16 if is_projection(&tensor.name) => {
                Ternary::of_floats(format, tensor.row_data(), cols, 1.0, false)?
            }
            _ => None,
        };
        let matrix = match ternary {
            Some((ternary, _)) => {
                let place = (file, tensor.name.as_str());
                pack(place, &ternary, (rows, cols), Order::default(), pool)?
            }
            None => {
                let shape = (rows, cols, cols);
                WeightMatrix::new(&tensor.name, format, shape, scale, tensor.row_data())?
            }
        };
        match self.take(&format!("{role}.scale")) {
            None => Ok(matrix),
            Some(tensor) => {
                let factor = self.floats_of(tensor, &[1])?[0];
                if !factor.is_finite() {
                    return Err(Error::tensor(file, &tensor.name, "a finite scale", factor));
                }
                Ok(matrix.with_output_scale(factor)?)
            }
        }
    }

    fn floats_of(&self, tensor: &GgufTensor, shape: &[usize]) -> Result<Vec<f32>> {
        self.expect_shape(tensor, shape)?;
        let len = shape.iter().product();
        if tensor.kind == GgmlType::F64 {
            let (values, _) = tensor.data.as_chunks::<8>();
            let values = values.iter().map(|value| f64::from_le_bytes(*value) as f32);
            return Ok(values.collect());
        }
        let format = tensor.format(self.layout, self.file.name())?;
        if !matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
            let name = self.file.name();
            return Err(Error::tensor(
                name,
                &tensor.name,
                "F64, F32, F16 or BF16",
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
        pool: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>> {
        let Some(tensor) = self.take(&self.tensor_name(role)) else {
            return Ok(None);
        };
        let rows = rows.unwrap_or_else(|| tensor.rows());
        self.expect_shape(tensor, &[cols, rows])?;
        self.rows_of(role, tensor, (rows, cols), pool).map(Some)
    }

    fn experts(
        &mut self,
        role: &str,
        [count, rows, cols]: [usize; 3],
        pool: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>> {
        let Some(tensor) = self.take(&self.tensor_name(role)) else {
            return Ok(None);
        };
        self.expect_shape(tensor, &[cols, rows, count])?;
        let shape = (tensor.rows(), cols);
        self.rows_of(role, tensor, shape, pool).map(Some)
    }

    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        match self.take(&self.tensor_name(role)) {
            None => Ok(None),
            Some(tensor) => self.floats_of(tensor, &[len]).map(Some),
        }
    }

    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        match self.take(name) {
            None => Ok(None),
            Some(tensor) => self.floats_of(tensor, shape).map(Some),
        }
    }

    fn is_borrowed(&self, matrix: &WeightMatrix) -> bool {
        let tensor = self.file.tensor(matrix.name());
        tensor.is_some_and(|tensor| lies_in(matrix, &tensor.data))
    }

    fn own_name(&self, name: &str) -> String {
        name.into()
    }

    fn unused(&self) -> Vec<String> {
        let names = self.file.tensors().iter().map(|tensor| &tensor.name);
        names
            .filter(|name| !self.used.contains(*name))
            .cloned()
            .collect()
    }
}
