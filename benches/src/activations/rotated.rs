//! The demo model with its matrices rotated as those of Bonsai 2 are, and rounded to ternary groups of 128 again.

use anyhow::{Context, Result};
use bitnet::file::gguf::Array;
use bitnet::file::{Bytes, Gguf, GgufTensor, GgufWriter, Value};
use bitnet_quant::{Format, I2sLayout};

/// Columns that are rotated together: the largest power of two that divides all widths of the demo model.
pub(crate) const BLOCK: usize = 256;

/// The demo model's architecture. Its matrices are rotated under the name of one whose files may be, and which is otherwise the same
/// forward pass.
const FROM: &str = "bitnet-b1.58";
const TO: &str = "qwen3";

/// Signs of the columns of a matrix, the same for all of a width.
pub(crate) fn signs(width: usize) -> Vec<f32> {
    let mut state = width as u64;
    (0..width)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if state >> 63 == 0 { 1.0 } else { -1.0 }
        })
        .collect()
}

/// The transform of each block: its own inverse.
pub(crate) fn transform(row: &mut [f32]) {
    for block in row.chunks_exact_mut(BLOCK) {
        let mut distance = 1;
        while distance < BLOCK {
            for pair in block.chunks_exact_mut(2 * distance) {
                let (a, b) = pair.split_at_mut(distance);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            distance *= 2;
        }
        let factor = 1.0 / (BLOCK as f32).sqrt();
        block.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Signs, then the transform.
pub(crate) fn rotate(row: &mut [f32], signs: &[f32]) {
    row.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
    transform(row);
}

/// Undoes [`rotate`].
pub(crate) fn unrotate(row: &mut [f32], signs: &[f32]) {
    transform(row);
    row.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
}

/// The rows of a matrix as floats.
pub(crate) fn rows(tensor: &GgufTensor) -> Result<Vec<Vec<f32>>> {
    let format = tensor.format(I2sLayout::A, "demo")?;
    let scale = match format {
        Format::I2s(_) => tensor.i2s_scale("demo")?,
        _ => 1.0,
    };
    let bytes = format.row_bytes(tensor.cols())?;
    let decode = |row: &[u8]| {
        let mut values = vec![0.0; tensor.cols()];
        format.decode_row(row, scale, &mut values)?;
        Ok(values)
    };
    tensor.row_data().chunks(bytes).map(decode).collect()
}

/// The rotated model as a file.
pub(crate) fn file(demo: &Gguf) -> Result<Bytes> {
    let is_rotated = |tensor: &&GgufTensor| tensor.rows() > 1 && tensor.name.starts_with("blk.");
    let rotated: Vec<&GgufTensor> = demo.tensors().iter().filter(is_rotated).collect();
    let mut widths: Vec<usize> = rotated.iter().map(|tensor| tensor.cols()).collect();
    widths.sort_unstable();
    widths.dedup();

    let mut writer = GgufWriter::new("rotated demo");
    for (key, value) in demo.metadata() {
        if key == "general.architecture" {
            writer.entry(key, TO);
        } else {
            let key = match key.strip_prefix(FROM) {
                Some(rest) => format!("{TO}{rest}"),
                None => key.clone(),
            };
            writer.entry(key, value.clone());
        }
    }
    let all_signs = widths.iter().flat_map(|width| signs(*width));
    let all_signs: Vec<i32> = all_signs.map(|sign| sign as i32).collect();
    let integers = widths.iter().map(|width| i32::try_from(*width));
    let widths: Vec<i32> = integers.collect::<Result<_, _>>()?;
    writer.entry(format!("{TO}.hidden_activation"), "relu2");
    for (name, value) in [
        ("version", Value::from(1u32)),
        ("block_size", Value::from(BLOCK as u32)),
        ("transform", "normalized-sylvester-walsh-hadamard".into()),
        ("axis", "input-last-dimension".into()),
        ("sign_mode", "explicit".into()),
        ("sign_widths", Array::from_i32s(&widths).into()),
        ("sign_values", Array::from_i32s(&all_signs).into()),
        (
            "weight_names",
            Array::from_strings(rotated.iter().map(|tensor| &tensor.name)).into(),
        ),
    ] {
        writer.entry(format!("prism.hadamard.{name}"), value);
    }
    let format = |tensor: &GgufTensor| match is_rotated(&tensor) {
        true => Ok(Format::Q2_0Group128),
        false => tensor.format(I2sLayout::A, "demo"),
    };
    for tensor in demo.tensors() {
        writer.tensor(&tensor.name, &tensor.ne, format(tensor)?)?;
    }
    let mut data = writer.begin(Vec::new())?;
    for tensor in demo.tensors() {
        if is_rotated(&tensor) {
            let signs = signs(tensor.cols());
            for mut row in rows(tensor)? {
                rotate(&mut row, &signs);
                data.push(&tensor.name, &ternary(&row)?)?;
            }
        } else {
            data.push(&tensor.name, &tensor.row_data())?;
        }
    }
    Ok(data.finish().context("cannot finish the file")?.into())
}

/// The ternary row nearest to `row`, in groups of 128.
fn ternary(row: &[f32]) -> Result<Vec<u8>> {
    let format = Format::Q2_0Group128;
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for group in row.chunks(format.block_len()) {
        // With the k largest magnitudes on, their mean is the best scale, and what is left of the error is smallest where
        // (their sum)² / k is largest.
        let mut sorted: Vec<f32> = group.iter().map(|weight| weight.abs()).collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let (mut sum, mut best, mut scale, mut least) = (0.0, 0.0, 0.0, f32::INFINITY);
        for (index, weight) in sorted.iter().enumerate() {
            sum += weight;
            let count = (index + 1) as f32;
            if sum * sum / count > best {
                (best, scale, least) = (sum * sum / count, sum / count, *weight);
            }
        }
        scales.push(scale);
        codes.extend(group.iter().map(|weight| {
            let on = weight.abs() >= least;
            i8::from(on && *weight > 0.0) - i8::from(on && *weight < 0.0)
        }));
    }
    let mut packed = vec![0; format.row_bytes(row.len())?];
    format.encode_codes(&codes, &scales, &mut packed)?;
    Ok(packed)
}
