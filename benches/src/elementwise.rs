//! Elementwise, transcendental, reduction and quantization kernels in the second-level cache: our SIMD kernels, the
//! same arithmetic one element at a time, and candle's operation.
//!
//! A candle operation returns a new tensor. Where there is one, it is compared with the operation of `BitNetTensor`,
//! which does so too; the kernels on slices are compared with each other.

use crate::candle_ops;
use crate::comparison::{Comparison, Contender};
use crate::inputs;
use bitnet_core::simd::{self, scalar};
use bitnet_core::{Device, HybridMemoryPool};
use bitnet_tensor::BitNetTensor;
use candle_core::{Device as CandleDevice, Tensor};

/// Elements of an operand. Three operands are 384 KiB: past the first-level cache and within the second; and candle
/// starts threads only for more.
pub const LEN: usize = 32 * 1024;
/// Width of a row, where rows are worked on.
const WIDTH: usize = 4096;
const EPS: f32 = 1e-5;

/// Labels of the contenders.
pub const SIMD: &str = "simd";
/// See [`SIMD`].
pub const SCALAR: &str = "scalar";
/// See [`SIMD`].
pub const TENSOR: &str = "tensor";
/// See [`SIMD`].
pub const CANDLE: &str = "candle";

/// Work whose speedup over scalar code has a target of its own.
pub const DEMANDING: [&str; 5] = ["exp", "gelu", "silu", "softmax", "quantize_int8"];

type OfOne = fn(&[f32], &mut [f32]);
type OfTwo = fn(&[f32], &[f32], &mut [f32]);
type InPlace = fn(&mut [f32]);
type Reduction = fn(&[f32]) -> f32;
type MakeInPlace = fn() -> Box<dyn FnMut(&mut [f32])>;
type CandleOfOne = fn(&Tensor) -> candle_core::Result<Tensor>;
type CandleOfTwo = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;
type TensorOfOne = fn(&BitNetTensor) -> bitnet_core::Result<BitNetTensor>;
type TensorOfTwo = fn(&BitNetTensor, &BitNetTensor) -> bitnet_core::Result<BitNetTensor>;

/// Everything that is compared.
pub fn all() -> Vec<Comparison> {
    let mut all = of_two();
    all.extend(of_one());
    all.extend(of_rows());
    all.extend(reductions());
    all.extend(quantization());
    all
}

/// Arithmetic of two operands.
pub fn of_two() -> Vec<Comparison> {
    let functions: [(&str, OfTwo, OfTwo, TensorOfTwo, CandleOfTwo); 4] = [
        (
            "add",
            simd::add,
            scalar::add,
            BitNetTensor::add,
            Tensor::add,
        ),
        (
            "sub",
            simd::sub,
            scalar::sub,
            BitNetTensor::sub,
            Tensor::sub,
        ),
        (
            "mul",
            simd::mul,
            scalar::mul,
            BitNetTensor::mul,
            Tensor::mul,
        ),
        (
            "div",
            simd::div,
            scalar::div,
            BitNetTensor::div,
            Tensor::div,
        ),
    ];
    let comparison =
        |(name, fast, slow, ours, theirs): (&str, OfTwo, OfTwo, TensorOfTwo, CandleOfTwo)| {
            let kernel = |label, kernel: OfTwo| {
                Contender::new(label, move || {
                    let (a, b) = pair();
                    let mut out = vec![0.0; LEN];
                    Ok(move || kernel(&a, &b, &mut out))
                })
            };
            Comparison::new(name)
                .elements(LEN)
                .with(kernel(SIMD, fast))
                .with(kernel(SCALAR, slow))
                .with(Contender::new(TENSOR, move || {
                    let (a, b) = pair();
                    let (a, b) = (tensor(&a, &[LEN])?, tensor(&b, &[LEN])?);
                    Ok(move || ours(&a, &b))
                }))
                .with(Contender::new(CANDLE, move || {
                    let (a, b) = pair();
                    let (a, b) = (candle(&a, &[LEN])?, candle(&b, &[LEN])?);
                    Ok(move || theirs(&a, &b))
                }))
        };
    functions.map(comparison).into()
}

/// The elements of one slice copied to another: as fast as this cache allows two slices to be moved.
pub fn copy() -> Comparison {
    Comparison::new("copy")
        .elements(LEN)
        .with(Contender::new("copy", || {
            let (x, mut out) = (inputs::floats(LEN), vec![0.0; LEN]);
            Ok(move || out.copy_from_slice(&x))
        }))
}

/// Functions of one operand.
pub fn of_one() -> Vec<Comparison> {
    let functions: [(&str, OfOne, OfOne, TensorOfOne, CandleOfOne); 10] = [
        (
            "exp",
            simd::exp,
            scalar::exp,
            BitNetTensor::exp,
            Tensor::exp,
        ),
        (
            "gelu",
            simd::gelu,
            scalar::gelu,
            BitNetTensor::gelu,
            Tensor::gelu,
        ),
        (
            "gelu_erf",
            simd::gelu_erf,
            scalar::gelu_erf,
            BitNetTensor::gelu_erf,
            Tensor::gelu_erf,
        ),
        (
            "silu",
            simd::silu,
            scalar::silu,
            BitNetTensor::silu,
            Tensor::silu,
        ),
        (
            "tanh",
            simd::tanh,
            scalar::tanh,
            BitNetTensor::tanh,
            Tensor::tanh,
        ),
        (
            "sigmoid",
            simd::sigmoid,
            scalar::sigmoid,
            BitNetTensor::sigmoid,
            candle_ops::sigmoid,
        ),
        (
            "relu",
            simd::relu,
            scalar::relu,
            BitNetTensor::relu,
            Tensor::relu,
        ),
        (
            "relu2",
            simd::relu2,
            scalar::relu2,
            BitNetTensor::relu2,
            |x| x.relu()?.sqr(),
        ),
        (
            "sqr",
            simd::sqr,
            scalar::sqr,
            BitNetTensor::sqr,
            Tensor::sqr,
        ),
        (
            "sqrt",
            simd::sqrt,
            scalar::sqrt,
            BitNetTensor::sqrt,
            Tensor::sqrt,
        ),
    ];
    let comparison =
        |(name, fast, slow, ours, theirs): (&str, OfOne, OfOne, TensorOfOne, CandleOfOne)| {
            let kernel = |label, kernel: OfOne| {
                Contender::new(label, move || {
                    let x = inputs::floats(LEN);
                    let mut out = vec![0.0; LEN];
                    Ok(move || kernel(&x, &mut out))
                })
            };
            Comparison::new(name)
                .elements(LEN)
                .with(kernel(SIMD, fast))
                .with(kernel(SCALAR, slow))
                .with(Contender::new(TENSOR, move || {
                    let x = tensor(&inputs::floats(LEN), &[LEN])?;
                    Ok(move || ours(&x))
                }))
                .with(Contender::new(CANDLE, move || {
                    let x = candle(&inputs::floats(LEN), &[LEN])?;
                    Ok(move || theirs(&x))
                }))
        };
    functions.map(comparison).into()
}

/// Softmax and norms of rows.
pub fn of_rows() -> Vec<Comparison> {
    let gain = || inputs::floats(WIDTH);
    let kernel = |label: &str, make: MakeInPlace| {
        Contender::new(label, move || {
            let (mut x, mut row) = (inputs::floats(LEN), make());
            Ok(move || x.chunks_exact_mut(WIDTH).for_each(&mut row))
        })
    };
    let shape = [LEN / WIDTH, WIDTH];
    let softmax = |label, softmax: InPlace| {
        Contender::new(label, move || {
            let mut x = inputs::floats(LEN);
            Ok(move || x.chunks_exact_mut(WIDTH).for_each(softmax))
        })
    };
    vec![
        Comparison::new("softmax")
            .elements(LEN)
            .with(softmax(SIMD, simd::softmax_in_place))
            .with(softmax(SCALAR, scalar::softmax_in_place))
            .with(Contender::new(TENSOR, move || {
                let x = tensor(&inputs::floats(LEN), &shape)?;
                Ok(move || x.softmax(-1))
            }))
            .with(Contender::new(CANDLE, move || {
                let x = candle(&inputs::floats(LEN), &shape)?;
                Ok(move || candle_ops::softmax(&x))
            })),
        Comparison::new("layer_norm")
            .elements(LEN)
            .with(kernel(SIMD, || {
                let gain = inputs::floats(WIDTH);
                Box::new(move |x| simd::layer_norm_in_place(x, Some(&gain), Some(&gain), EPS))
            }))
            .with(kernel(SCALAR, || {
                let gain = inputs::floats(WIDTH);
                Box::new(move |x| scalar::layer_norm_in_place(x, &gain, &gain, EPS))
            }))
            .with(Contender::new(TENSOR, move || {
                let x = tensor(&inputs::floats(LEN), &shape)?;
                let gain = tensor(&gain(), &[WIDTH])?;
                Ok(move || x.layer_norm(&[WIDTH], Some(&gain), Some(&gain), EPS))
            }))
            .with(Contender::new(CANDLE, move || {
                let x = candle(&inputs::floats(LEN), &shape)?;
                let gain = candle(&gain(), &[WIDTH])?;
                Ok(move || {
                    candle_ops::layer_norm(&x, &[WIDTH], Some(&gain), Some(&gain), EPS.into())
                })
            })),
        Comparison::new("rms_norm")
            .elements(LEN)
            .with(kernel(SIMD, || {
                let gain = inputs::floats(WIDTH);
                Box::new(move |x| simd::rms_norm_in_place(x, &gain, EPS))
            }))
            .with(kernel(SCALAR, || {
                let gain = inputs::floats(WIDTH);
                Box::new(move |x| scalar::rms_norm_in_place(x, &gain, EPS))
            }))
            .with(Contender::new(TENSOR, move || {
                let x = tensor(&inputs::floats(LEN), &shape)?;
                let gain = tensor(&gain(), &[WIDTH])?;
                Ok(move || x.rms_norm(&gain, EPS))
            }))
            .with(Contender::new(CANDLE, move || {
                let x = candle(&inputs::floats(LEN), &shape)?;
                let gain = candle(&gain(), &[WIDTH])?;
                Ok(move || candle_ops::rms_norm(&x, &gain, EPS.into()))
            })),
    ]
}

/// One number of many.
pub fn reductions() -> Vec<Comparison> {
    let kernel = |label, kernel: Reduction| {
        Contender::new(label, move || {
            let x = inputs::floats(LEN);
            Ok(move || kernel(&x))
        })
    };
    let functions: [(&str, Reduction, Reduction, TensorOfOne, CandleOfOne); 2] = [
        (
            "sum",
            simd::sum,
            scalar::sum,
            |x| x.sum(-1, false),
            |x| x.sum(0),
        ),
        (
            "max",
            simd::max,
            scalar::max,
            |x| x.max(-1, false),
            |x| x.max(0),
        ),
    ];
    let mut all = Vec::new();
    for (name, fast, slow, ours, theirs) in functions {
        all.push(
            Comparison::new(name)
                .elements(LEN)
                .with(kernel(SIMD, fast))
                .with(kernel(SCALAR, slow))
                .with(Contender::new(TENSOR, move || {
                    let x = tensor(&inputs::floats(LEN), &[LEN])?;
                    Ok(move || ours(&x))
                }))
                .with(Contender::new(CANDLE, move || {
                    let x = candle(&inputs::floats(LEN), &[LEN])?;
                    Ok(move || theirs(&x))
                })),
        );
    }
    let dot = |label, dot: fn(&[f32], &[f32]) -> f32| {
        Contender::new(label, move || {
            let (a, b) = pair();
            Ok(move || dot(&a, &b))
        })
    };
    all.push(
        Comparison::new("dot")
            .elements(LEN)
            .with(dot(SIMD, simd::dot))
            .with(dot(SCALAR, scalar::dot)),
    );
    all
}

/// f32 to int8 by the largest magnitude, and back. candle has this for blocks of 32 alone (Q8_0).
pub fn quantization() -> Vec<Comparison> {
    let quantize = |label, quantize: fn(&[f32], &mut [i8]) -> f32| {
        Contender::new(label, move || {
            let (x, mut q) = (inputs::floats(LEN), vec![0; LEN]);
            Ok(move || quantize(&x, &mut q))
        })
    };
    let dequantize = |label, dequantize: fn(&[i8], f32, &mut [f32])| {
        Contender::new(label, move || {
            let (q, mut x) = (inputs::ternary(LEN), vec![0.0; LEN]);
            Ok(move || dequantize(&q, 31.75, &mut x))
        })
    };
    vec![
        Comparison::new("quantize_int8")
            .elements(LEN)
            .with(quantize(SIMD, simd::quantize))
            .with(quantize(SCALAR, scalar::quantize))
            .with(Contender::new(CANDLE, || {
                let x = candle(&inputs::floats(LEN), &[LEN])?;
                Ok(move || {
                    use candle_core::quantized::{GgmlDType, QTensor};
                    QTensor::quantize(&x, GgmlDType::Q8_0)
                })
            })),
        Comparison::new("dequantize_int8")
            .elements(LEN)
            .with(dequantize(SIMD, simd::dequantize))
            .with(dequantize(SCALAR, scalar::dequantize)),
    ]
}

/// Two operands without zeros, so that they can be divided.
fn pair() -> (Vec<f32>, Vec<f32>) {
    let a = inputs::floats(LEN);
    let b = a.iter().rev().map(|x| x.abs() + 0.5).collect();
    (a, b)
}

fn tensor(values: &[f32], shape: &[usize]) -> bitnet_core::Result<BitNetTensor> {
    BitNetTensor::from_slice(values, shape, &Device::Cpu, HybridMemoryPool::global())
}

fn candle(values: &[f32], shape: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, shape, &CandleDevice::Cpu)
}
