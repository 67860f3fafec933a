//! Comparisons, to bytes 1 (true) and 0 (false); every comparison with NaN is false but `NotEqual`.

use rten_simd::ops::{BitOps, NarrowSaturate, NumOps};
use rten_simd::{Isa, SimdOp};

/// Which comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// a = b.
    Equal,
    /// a ≠ b.
    NotEqual,
    /// a < b.
    Less,
    /// a ≤ b.
    LessEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterEqual,
}

impl Comparison {
    /// The comparison of two numbers.
    #[inline(always)]
    pub fn holds(self, a: f32, b: f32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterEqual => a >= b,
        }
    }
}

/// outᵢ = 1 if aᵢ compares so with bᵢ, else 0.
pub fn compare(comparison: Comparison, a: &[f32], b: &[f32], out: &mut [u8]) {
    Compare(comparison, a, Other::Slice(b), out).dispatch();
}

/// outᵢ = 1 if aᵢ compares so with `b`, else 0.
pub fn compare_scalar(comparison: Comparison, a: &[f32], b: f32, out: &mut [u8]) {
    Compare(comparison, a, Other::Number(b), out).dispatch();
}

#[derive(Clone, Copy)]
pub(super) enum Other<'a> {
    Slice(&'a [f32]),
    Number(f32),
}

pub(super) struct Compare<'a>(
    pub(super) Comparison,
    pub(super) &'a [f32],
    pub(super) Other<'a>,
    pub(super) &'a mut [u8],
);

impl SimdOp for Compare<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(comparison, a, b, out) = self;
        let ops = isa.f32();
        // One loop for each, so that none decides inside it.
        match comparison {
            Comparison::Equal => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    1,
                    #[inline(always)]
                    |a, b| ops.eq(a, b),
                );
            }
            Comparison::NotEqual => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    0,
                    #[inline(always)]
                    |a, b| ops.eq(a, b),
                );
            }
            Comparison::Less => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    1,
                    #[inline(always)]
                    |a, b| ops.lt(a, b),
                );
            }
            Comparison::LessEqual => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    1,
                    #[inline(always)]
                    |a, b| ops.le(a, b),
                );
            }
            Comparison::Greater => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    1,
                    #[inline(always)]
                    |a, b| ops.gt(a, b),
                );
            }
            Comparison::GreaterEqual => {
                to_bytes(
                    isa,
                    a,
                    b,
                    out,
                    1,
                    #[inline(always)]
                    |a, b| ops.ge(a, b),
                );
            }
        }
    }
}

/// The most bytes in a register.
const WIDEST: usize = 64;

impl<'a> Other<'a> {
    #[inline(always)]
    fn part(self, start: usize, len: usize) -> Self {
        match self {
            Self::Slice(b) => Self::Slice(&b[start..start + len]),
            number => number,
        }
    }
}

/// `yes` where the test holds, else 1 − `yes`, over the shortest length.
#[inline(always)]
fn to_bytes<I: Isa>(
    isa: I,
    a: &[f32],
    b: Other<'_>,
    out: &mut [u8],
    yes: i32,
    test: impl Fn(I::F32, I::F32) -> I::M32 + Copy,
) {
    let step = isa.u8().len();
    let n = match b {
        Other::Slice(b) => a.len().min(b.len()),
        Other::Number(_) => a.len(),
    };
    let n = n.min(out.len());
    let whole = n - n % step;
    for start in (0..whole).step_by(step) {
        let out = &mut out[start..start + step];
        register(
            isa,
            &a[start..start + step],
            b.part(start, step),
            out,
            yes,
            test,
        );
    }
    if whole < n {
        let (mut a_last, mut b_last, mut last) = ([0.0; WIDEST], [0.0; WIDEST], [0; WIDEST]);
        a_last[..n - whole].copy_from_slice(&a[whole..n]);
        let b = match b {
            Other::Slice(b) => {
                b_last[..n - whole].copy_from_slice(&b[whole..n]);
                Other::Slice(&b_last)
            }
            number => number,
        };
        register(isa, &a_last, b, &mut last, yes, test);
        out[whole..n].copy_from_slice(&last[..n - whole]);
    }
}

/// One register of bytes.
#[inline(always)]
fn register<I: Isa>(
    isa: I,
    a: &[f32],
    b: Other<'_>,
    out: &mut [u8],
    yes: i32,
    test: impl Fn(I::F32, I::F32) -> I::M32 + Copy,
) {
    let (ops, int, width) = (isa.f32(), isa.i32(), isa.f32().len());
    let mut parts = [int.splat(0); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        let a = ops.load(&a[i * width..][..width]);
        let b = match b {
            Other::Slice(b) => ops.load(&b[i * width..][..width]),
            Other::Number(b) => ops.splat(b),
        };
        *part = int.select(int.splat(yes), int.splat(1 - yes), test(a, b));
    }
    let low = int.narrow_saturate(parts[0], parts[1]);
    let high = int.narrow_saturate(parts[2], parts[3]);
    isa.u8().store(isa.i16().narrow_saturate(low, high), out);
}
