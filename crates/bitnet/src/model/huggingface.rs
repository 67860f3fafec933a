//! Tensors of a Hugging Face checkpoint (safetensors with config.json).
//!
//! Ternary projections come packed (U8, with a `weight_scale`), as floats that are ternary, or as master weights that
//! are made so by absmean; all become I2_S rows in memory. Embedding, head and norms stay where the file is mapped.
//!
//! Checkpoints of hybrid models (Qwen3.5) hold some tensors in another way than GGUF files, which is how everything else here
//! knows them: gains of norms are less by 1, decays are logarithms, and value heads have [another order](super::value_heads).

use super::architecture::Architecture;
use super::pack::{Order, pack, reorder};
use super::value_heads::ValueHeads;
use super::weights::{Source, lies_in};
use crate::Result;
use crate::file::names;
use crate::file::quantization::{Projection, Quantization, scale_name};
use crate::file::{RawTensor, SafeTensorsModel};
use bitnet_core::{DeltaHeads, HybridMemoryPool, WeightMatrix};
use std::collections::HashSet;

/// A checkpoint as a source of tensors.
pub(crate) struct CheckpointSource<'a> {
    file: &'a SafeTensorsModel,
    quantization: Quantization,
    used: HashSet<String>,
    /// Of hybrid models.
    delta: Option<DeltaHeads>,
}

impl<'a> CheckpointSource<'a> {
    pub(crate) fn new(file: &'a SafeTensorsModel, architecture: &Architecture) -> Result<Self> {
        Ok(Self {
            quantization: Quantization::read(file)?,
            file,
            used: HashSet::new(),
            delta: architecture.hybrid.as_ref().map(|hybrid| hybrid.delta),
        })
    }

    /// The names that the tensor of a GGUF name may have, the usual one first.
    fn names(&self, gguf: &str) -> Vec<String> {
        if self.delta.is_none() {
            return names::to_checkpoint(gguf);
        }
        let Some(name) = names::to_hybrid_checkpoint(gguf) else {
            return Vec::new();
        };
        let within = names::within_language_model(&name);
        // Models that also see are more frequent, and errors tell the first.
        match self.file.config().get("text_config") {
            Some(_) => vec![within, name],
            None => vec![name, within],
        }
    }

    /// The tensor of a GGUF name under the first of its names that the file has.
    fn take(&mut self, gguf: &str) -> Option<RawTensor> {
        let tensor = self
            .names(gguf)
            .into_iter()
            .filter(|name| !names::is_redundant(name, self.file.config()))
            .find_map(|name| self.file.tensor(&name))?;
        self.used.insert(tensor.name.clone());
        Some(tensor)
    }

    /// The order of a tensor of a GGUF name in the file.
    fn order(&self, gguf: &str) -> Order {
        let Some(heads) = self.delta else {
            return Order::default();
        };
        let (first, dim) = match part(gguf) {
            "attn_qkv.weight" | "ssm_conv1d.weight" => (2 * heads.key_width(), heads.value_dim),
            "attn_gate.weight" | "ssm_out.weight" => (0, heads.value_dim),
            "ssm_alpha.weight" | "ssm_beta.weight" | "ssm_a" | "ssm_dt.bias" => (0, 1),
            _ => return Order::default(),
        };
        let heads = ValueHeads::of(heads, first, dim);
        match part(gguf) {
            "ssm_out.weight" => Order {
                columns: heads,
                ..Order::default()
            },
            _ => Order {
                rows: heads,
                ..Order::default()
            },
        }
    }

    /// Whether a tensor is a projection to which a quantization applies. In hybrid models these are all, as in transformers.
    fn is_projection(&self, gguf: &str) -> bool {
        let is_rate = matches!(part(gguf), "ssm_alpha.weight" | "ssm_beta.weight");
        names::is_projection(gguf) || self.delta.is_some() && is_rate
    }
}

/// The name of a GGUF tensor within its layer, or of one outside the layers.
fn part(gguf: &str) -> &str {
    let layer = gguf.strip_prefix("blk.");
    let part = layer.and_then(|rest| rest.split_once('.'));
    part.map_or(gguf, |(_, part)| part)
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
        let gguf = gguf_name(role);
        let Some(tensor) = self.take(&gguf) else {
            return Ok(None);
        };
        let order = self.order(&gguf);
        let rows = rows.or(tensor.shape.first().copied()).unwrap_or_default();
        let shape = (rows, cols);
        let format = if self.is_projection(&gguf) {
            self.used.insert(scale_name(&tensor.name));
            match self.quantization.projection(self.file, &tensor, shape)? {
                Projection::Ternary { weights, .. } => {
                    let place = (self.file.name(), tensor.name.as_str());
                    return pack(place, &weights, shape, order, pool).map(Some);
                }
                Projection::Floats(format) => format,
            }
        } else {
            tensor.expect_shape(self.file.name(), &[rows, cols])?;
            tensor.float_format(self.file.name())?
        };
        let data = if order == Order::default() {
            tensor.data
        } else {
            reorder(&tensor.data, (rows, format.block_bytes()), order, pool)?
        };
        let shape = (rows, cols, cols);
        let matrix = WeightMatrix::new(&tensor.name, format, shape, 1.0, data)?;
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
        let gguf = gguf_name(role);
        let Some(tensor) = self.take(&gguf) else {
            return Ok(None);
        };
        tensor.expect_shape(self.file.name(), &[len])?;
        let mut values = tensor.floats(self.file.name())?;
        if self.delta.is_some() && part(&gguf) != "ssm_norm.weight" {
            values.iter_mut().for_each(|gain| *gain += 1.0);
        }
        Ok(Some(values))
    }

    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.take(name) else {
            return Ok(None);
        };
        let file = self.file.name();
        let shape: Vec<usize> = match (part(name), shape) {
            // A convolution of channels, each by itself.
            ("ssm_conv1d.weight", &[taps, channels]) => vec![channels, 1, taps],
            _ => shape.to_vec(),
        };
        tensor.expect_shape(file, &shape)?;
        let mut values = tensor.floats(file)?;
        if part(name) == "ssm_a" {
            // f64 as in GGUF files, whose numbers are converted.
            let decay = |log: &f32| -libm::exp(f64::from(*log)) as f32;
            values = values.iter().map(decay).collect();
        }
        if let Some(rows) = self.order(name).rows {
            values = rows.reordered(&values, shape.iter().skip(1).product());
        }
        Ok(Some(values))
    }

    fn is_borrowed(&self, matrix: &WeightMatrix) -> bool {
        let tensor = self.file.tensor(matrix.name());
        tensor.is_some_and(|tensor| lies_in(matrix, &tensor.data))
    }

    fn own_name(&self, name: &str) -> String {
        let names = self.names(name);
        names.into_iter().next().unwrap_or_else(|| name.into())
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
