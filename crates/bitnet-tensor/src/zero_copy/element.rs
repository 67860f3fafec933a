//! One element after the other from one type to another.
//!
//! Floats round to the nearest (ties to even); to integers they truncate toward zero and saturate, NaN gives 0. Integers wrap
//! in smaller ones. To bool, everything but 0 is true.

use crate::{BitNetDType, Element};
use half::{bf16, f16};

/// An element of whatever type.
#[derive(Clone, Copy)]
enum Value {
    Float(f64),
    Integer(i64),
}

/// The first element of `bytes`, which hold at least one.
#[inline]
fn read(dtype: BitNetDType, bytes: &[u8]) -> Value {
    fn first<T: Element>(bytes: &[u8]) -> T {
        bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
    }
    match dtype {
        BitNetDType::F32 => Value::Float(first::<f32>(bytes).to_f64()),
        BitNetDType::F16 => Value::Float(first::<f16>(bytes).to_f64()),
        BitNetDType::BF16 => Value::Float(first::<bf16>(bytes).to_f64()),
        BitNetDType::I8 => Value::Integer(first::<i8>(bytes).to_i64()),
        BitNetDType::U8 | BitNetDType::Bool => Value::Integer(first::<u8>(bytes).to_i64()),
        BitNetDType::I32 => Value::Integer(first::<i32>(bytes).to_i64()),
        BitNetDType::I64 => Value::Integer(first::<i64>(bytes)),
    }
}

/// Writes the first element of `out`, which has room for one.
#[inline]
fn write(value: Value, dtype: BitNetDType, out: &mut [u8]) {
    fn put<T: Element>(value: Value, out: &mut [u8]) {
        let element = match value {
            Value::Float(value) => T::from_f64(value),
            Value::Integer(value) => T::from_i64(value),
        };
        out[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&element));
    }
    match dtype {
        BitNetDType::F32 => put::<f32>(value, out),
        BitNetDType::F16 => put::<f16>(value, out),
        BitNetDType::BF16 => put::<bf16>(value, out),
        BitNetDType::I8 => put::<i8>(value, out),
        BitNetDType::U8 => put::<u8>(value, out),
        BitNetDType::I32 => put::<i32>(value, out),
        BitNetDType::I64 => put::<i64>(value, out),
        BitNetDType::Bool => {
            out[0] = u8::from(match value {
                Value::Float(value) => value != 0.0,
                Value::Integer(value) => value != 0,
            });
        }
    }
}

/// Converts as many elements as `out` has room for.
pub(super) fn convert(data: &[u8], from: BitNetDType, to: BitNetDType, out: &mut [u8]) {
    if from == to {
        let len = data.len().min(out.len());
        return out[..len].copy_from_slice(&data[..len]);
    }
    let elements = data.chunks_exact(from.size());
    for (element, out) in elements.zip(out.chunks_exact_mut(to.size())) {
        write(read(from, element), to, out);
    }
}

/// Converts whole elements where they lie; the new ones, no wider, are packed at the front.
pub(super) fn convert_in_place(data: &mut [u8], from: BitNetDType, to: BitNetDType) {
    for index in 0..data.len() / from.size() {
        let value = read(from, &data[index * from.size()..]);
        write(value, to, &mut data[index * to.size()..]);
    }
}
