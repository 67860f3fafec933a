//! One benchmark for every kind of tensor operation, on a medium size, beside candle.

use crate::comparison::{Comparison, Contender};
use crate::{candle_ops, inputs};
use bitnet_core::{Device, HybridMemoryPool};
use bitnet_tensor::{BitNetDType, BitNetTensor, Conv1d};
use candle_core::{DType, Device as CandleDevice, Tensor};

/// The shape of most operands: 128 Ki elements.
const SHAPE: [usize; 2] = [256, 512];
const EPS: f32 = 1e-5;

type Ours = fn(&Operands<BitNetTensor>) -> bitnet_core::Result<BitNetTensor>;
type Theirs = fn(&Operands<Tensor>) -> candle_core::Result<Tensor>;

/// The tensors that the operations work on.
struct Operands<T> {
    /// `[256, 512]`
    x: T,
    /// `[256, 512]`, no zeros.
    y: T,
    /// `[512]`
    row: T,
    /// `[256, 1]`
    column: T,
    /// `[4, 32, 1024]`
    signal: T,
    /// `[32, 32, 3]`
    window: T,
    /// `[32]`
    bias: T,
}

impl<T> Operands<T> {
    fn new<E>(make: impl Fn(&[f32], &[usize]) -> Result<T, E>) -> Result<Self, E> {
        let of = |shape: &[usize]| make(&inputs::floats(shape.iter().product()), shape);
        let positive: Vec<f32> = inputs::floats(SHAPE[0] * SHAPE[1])
            .iter()
            .rev()
            .map(|y| y.abs() + 0.5)
            .collect();
        Ok(Self {
            x: of(&SHAPE)?,
            y: make(&positive, &SHAPE)?,
            row: of(&[SHAPE[1]])?,
            column: of(&[SHAPE[0], 1])?,
            signal: of(&[4, 32, 1024])?,
            window: of(&[32, 32, 3])?,
            bias: of(&[32])?,
        })
    }
}

/// Every operation.
pub fn all() -> Vec<Comparison> {
    let mut all = Vec::new();
    for operations in [views(), arithmetic(), layers()] {
        all.extend(operations.into_iter().map(|(name, ours, theirs)| {
            Comparison::new(name)
                .with(Contender::new("bitnet", move || {
                    let operands = Operands::new(|values, shape| {
                        let pool = HybridMemoryPool::global();
                        BitNetTensor::from_slice(values, shape, &Device::Cpu, pool)
                    })?;
                    Ok(move || ours(&operands))
                }))
                .with(Contender::new("candle", move || {
                    let operands = Operands::new(|values, shape| {
                        Tensor::from_slice(values, shape, &CandleDevice::Cpu)
                    })?;
                    Ok(move || theirs(&operands))
                }))
        }));
    }
    all
}

/// Other shapes over the same elements, and copies into row-major order.
fn views() -> Vec<(&'static str, Ours, Theirs)> {
    vec![
        (
            "reshape",
            |o| o.x.reshape(&[512, 256]),
            |o| o.x.reshape((512, 256)),
        ),
        (
            "transpose",
            |o| o.x.transpose(0, 1),
            |o| o.x.transpose(0, 1),
        ),
        (
            "slice",
            |o| o.x.narrow(1, 100, 300),
            |o| o.x.narrow(1, 100, 300),
        ),
        (
            "broadcast",
            |o| o.row.broadcast_to(&SHAPE),
            |o| o.row.broadcast_as(&SHAPE),
        ),
        (
            "unsqueeze_squeeze",
            |o| o.x.unsqueeze(0)?.squeeze(0),
            |o| o.x.unsqueeze(0)?.squeeze(0),
        ),
        (
            "transpose_contiguous",
            |o| o.x.transpose(0, 1)?.contiguous(),
            |o| o.x.transpose(0, 1)?.contiguous(),
        ),
        (
            "to_f16",
            |o| o.x.to_dtype(BitNetDType::F16),
            |o| o.x.to_dtype(DType::F16),
        ),
        (
            "to_i64",
            |o| o.x.to_dtype(BitNetDType::I64),
            |o| o.x.to_dtype(DType::I64),
        ),
    ]
}

/// Arithmetic with and without broadcasting, comparison, functions.
fn arithmetic() -> Vec<(&'static str, Ours, Theirs)> {
    vec![
        ("add", |o| o.x.add(&o.y), |o| o.x.add(&o.y)),
        ("mul", |o| o.x.mul(&o.y), |o| o.x.mul(&o.y)),
        ("div", |o| o.x.div(&o.y), |o| o.x.div(&o.y)),
        (
            "add_row",
            |o| o.x.add(&o.row),
            |o| o.x.broadcast_add(&o.row),
        ),
        (
            "mul_column",
            |o| o.x.mul(&o.column),
            |o| o.x.broadcast_mul(&o.column),
        ),
        (
            "add_transposed",
            |o| o.x.transpose(0, 1)?.add(&o.y.transpose(0, 1)?),
            |o| o.x.t()?.add(&o.y.t()?),
        ),
        ("mul_scalar", |o| o.x.mul_scalar(1.5), |o| &o.x * 1.5),
        ("maximum", |o| o.x.maximum(&o.y), |o| o.x.maximum(&o.y)),
        (
            "clamp",
            |o| o.x.clamp(-1.0, 1.0),
            |o| o.x.clamp(-1f32, 1f32),
        ),
        ("less", |o| o.x.lt(&o.y), |o| o.x.lt(&o.y)),
        ("exp", |o| o.x.exp(), |o| o.x.exp()),
        ("ln", |o| o.y.ln(), |o| o.y.log()),
        ("tanh", |o| o.x.tanh(), |o| o.x.tanh()),
    ]
}

/// Reductions, products, norms, activations.
fn layers() -> Vec<(&'static str, Ours, Theirs)> {
    vec![
        ("sum_rows", |o| o.x.sum(1, false), |o| o.x.sum(1)),
        ("sum_columns", |o| o.x.sum(0, false), |o| o.x.sum(0)),
        ("mean_rows", |o| o.x.mean(1, true), |o| o.x.mean_keepdim(1)),
        ("max_rows", |o| o.x.max(1, false), |o| o.x.max(1)),
        ("argmax_rows", |o| o.x.argmax(1, false), |o| o.x.argmax(1)),
        ("var_rows", |o| o.x.var(1, 1, false), |o| o.x.var(1)),
        (
            "matmul",
            |o| o.x.matmul(&o.y.transpose(0, 1)?),
            |o| o.x.matmul(&o.y.t()?),
        ),
        (
            "softmax",
            |o| o.x.softmax(-1),
            |o| candle_ops::softmax(&o.x),
        ),
        (
            "layer_norm",
            |o| o.x.layer_norm(&[SHAPE[1]], Some(&o.row), Some(&o.row), EPS),
            |o| candle_ops::layer_norm(&o.x, &[SHAPE[1]], Some(&o.row), Some(&o.row), EPS.into()),
        ),
        (
            "rms_norm",
            |o| o.x.rms_norm(&o.row, EPS),
            |o| candle_ops::rms_norm(&o.x, &o.row, EPS.into()),
        ),
        ("gelu", |o| o.x.gelu(), |o| o.x.gelu()),
        ("silu", |o| o.x.silu(), |o| o.x.silu()),
        ("relu", |o| o.x.relu(), |o| o.x.relu()),
        (
            "conv1d",
            |o| o.signal.conv1d(&o.window, Some(&o.bias), Conv1d::default()),
            |o| {
                candle_ops::conv1d(
                    &o.signal,
                    &o.window,
                    Some(&o.bias),
                    candle_ops::Conv1d::default(),
                )
            },
        ),
    ]
}
