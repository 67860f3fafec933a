//! Counting: tensors by type, ternary weights, and how many of them are zero.

use bitnet::file::{Dtype, GgmlType, Gguf, GgufTensor, SafeTensorsModel};
use bitnet::{Hybrid, I2sLayout};
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Tensors of one type.
#[derive(Serialize)]
pub(super) struct TypeCount {
    #[serde(rename = "type")]
    pub(super) name: String,
    pub(super) tensors: usize,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
}

/// What the tensors of a file are.
#[derive(Default)]
pub(super) struct Census {
    pub(super) types: Vec<TypeCount>,
    pub(super) parameters: u64,
    pub(super) bytes: u64,
    pub(super) ternary: u64,
    pub(super) ternary_bytes: u64,
    /// Ternary weights whose values were looked at, and the zeros among them.
    pub(super) counted: u64,
    pub(super) zeros: u64,
    /// Bytes that running the model keeps in memory for weights.
    pub(super) resident_bytes: u64,
    /// Tensors that are not run.
    pub(super) left_out: usize,
    pub(super) warnings: Vec<String>,
}

/// Zeros among ternary weights, or why they cannot be counted.
type Zeros = Result<u64, String>;

impl Census {
    /// Of a file for `hybrid` models, some tensors of which may be left out.
    pub(super) fn of_gguf(file: &Gguf, hybrid: Option<&Hybrid>) -> Self {
        let mut census = Self::default();
        for tensor in file.tensors() {
            let bytes = tensor.data.len() as u64;
            census.keep(&tensor.name, bytes, hybrid);
            census.add(tensor.kind.name(), tensor.elements() as u64, bytes);
            if is_ternary(tensor.kind) {
                census.ternary += tensor.elements() as u64;
                census.ternary_bytes += bytes;
            }
        }
        let ternary: Vec<&GgufTensor> = file
            .tensors()
            .iter()
            .filter(|tensor| is_ternary(tensor.kind))
            .collect();
        census.count(&ternary, |tensor| {
            (
                tensor.elements() as u64,
                &tensor.name,
                gguf_zeros(tensor, file.name()),
            )
        });
        census
    }

    /// As [`of_gguf`](Self::of_gguf), of a checkpoint.
    pub(super) fn of_checkpoint(file: &SafeTensorsModel, hybrid: Option<&Hybrid>) -> Self {
        let mut census = Self::default();
        // Hybrid models are trained as others are, too; those that are not say how they are rounded.
        let is_master = hybrid.is_none() || file.config().get("quantization_config").is_some();
        let mut packed = Vec::new();
        for tensor in file.tensors() {
            let bytes = tensor.data.len() as u64;
            let elements: u64 = tensor.shape.iter().map(|extent| *extent as u64).product();
            let has_scale = || file.tensor(&format!("{}_scale", tensor.name)).is_some();
            if tensor.dtype == Dtype::U8 && has_scale() {
                // Four weights in a byte.
                census.add("U8 packed", elements * 4, bytes);
                census.ternary += elements * 4;
                census.ternary_bytes += bytes;
                census.keep(&tensor.name, bytes, hybrid);
                packed.push(tensor);
            } else {
                census.add(&format!("{:?}", tensor.dtype), elements, bytes);
                // Master weights of projections are packed into two bits when they are loaded.
                let projection = tensor.name.contains("_proj") && tensor.shape.len() == 2;
                let kept = if projection && is_master {
                    elements / 4
                } else {
                    bytes
                };
                census.keep(&tensor.name, kept, hybrid);
            }
        }
        census.count(&packed, |tensor| {
            let zeros = tensor
                .data
                .iter()
                .map(|byte| u64::from(zeros_in(*byte)))
                .sum();
            (tensor.data.len() as u64 * 4, &tensor.name, Ok(zeros))
        });
        census
    }

    /// Counts `bytes` of a tensor that stay in memory, unless it is left out.
    fn keep(&mut self, name: &str, bytes: u64, hybrid: Option<&Hybrid>) {
        if hybrid.is_some_and(|hybrid| hybrid.leaves_out(name)) {
            self.left_out += 1;
        } else {
            self.resident_bytes += bytes;
        }
    }

    fn add(&mut self, name: &str, parameters: u64, bytes: u64) {
        self.parameters += parameters;
        self.bytes += bytes;
        match self.types.iter_mut().find(|kind| kind.name == name) {
            Some(kind) => {
                kind.tensors += 1;
                kind.parameters += parameters;
                kind.bytes += bytes;
            }
            None => self.types.push(TypeCount {
                name: name.to_owned(),
                tensors: 1,
                parameters,
                bytes,
            }),
        }
    }

    /// Counts the zeros of `tensors` on every core.
    fn count<'t, T: Sync>(
        &mut self,
        tensors: &'t [T],
        zeros: impl Fn(&'t T) -> (u64, &'t String, Zeros) + Sync,
    ) {
        let (next, census) = (AtomicUsize::new(0), Mutex::new(self));
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(tensors.len());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(tensor) = tensors.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (elements, name, zeros) = zeros(tensor);
                        let mut census = census.lock().unwrap_or_else(PoisonError::into_inner);
                        match zeros {
                            Ok(zeros) => {
                                census.counted += elements;
                                census.zeros += zeros;
                                if zeros == elements {
                                    census
                                        .warnings
                                        .push(format!("{name}: every weight is zero"));
                                }
                            }
                            Err(why) => census.warnings.push(why),
                        }
                    }
                });
            }
        });
        let census = census.into_inner().unwrap_or_else(PoisonError::into_inner);
        census.warnings.sort();
    }
}

fn is_ternary(kind: GgmlType) -> bool {
    matches!(
        kind,
        GgmlType::I2_S
            | GgmlType::TQ1_0
            | GgmlType::TQ2_0
            | GgmlType::Q2_0
            | GgmlType::PQ2_0
            | GgmlType::PTQ1_0
    )
}

/// How many of the four two-bit codes of a byte are 1, which stands for zero.
fn zeros_in(byte: u8) -> u32 {
    let differs = byte ^ 0b0101_0101;
    ((!differs >> 1) & !differs & 0b0101_0101).count_ones()
}

fn gguf_zeros(tensor: &GgufTensor, file: &str) -> Zeros {
    // Both layouts put the same codes into the same bytes of a row, so either serves to count.
    let format = tensor
        .format(I2sLayout::A, file)
        .map_err(|error| error.to_string())?;
    let row_bytes = format
        .row_bytes(tensor.cols())
        .map_err(|error| error.to_string())?;
    let mut codes = vec![0_i8; tensor.cols()];
    let mut zeros = 0;
    for row in tensor.row_data().chunks_exact(row_bytes.max(1)) {
        format
            .decode_codes(row, &mut codes)
            .map_err(|error| format!("{}: {error}", tensor.name))?;
        zeros += codes.iter().filter(|code| **code == 0).count() as u64;
    }
    Ok(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_every_byte() {
        for byte in 0..=u8::MAX {
            let expected = (0..4)
                .filter(|field| (byte >> (2 * field)) & 3 == 1)
                .count();
            assert_eq!(zeros_in(byte) as usize, expected, "{byte:08b}");
        }
    }
}
