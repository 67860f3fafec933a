//! Loops over slices by registers, and the lanes in which reductions run.
//!
//! Sixteen lanes are one AVX-512 register, two of AVX2, four of NEON, WebAssembly or the portable fallback: lane `i`
//! takes the elements `i, i + 16, …` on all of them. So run the reductions that are part of an operation of the
//! transformer: [`dot`] and [`map_and_sum`]. A sum by itself would wait for one addition after the other that way, and
//! runs in four times sixteen lanes.

use crate::math::tree_sum;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd};

/// Partial results of a reduction.
pub(crate) const LANES: usize = 16;
/// Registers that sixteen lanes fill at most.
const REGISTERS: usize = 4;
/// How many times sixteen lanes hide the time that an addition or a comparison takes.
const GROUPS: usize = 4;
/// Registers of one turn of a loop that does little more than move them.
const UNROLL: usize = 4;

/// The first elements of a register.
#[inline(always)]
fn store_front<V: Simd<Elem = f32>>(x: V, out: &mut [f32]) {
    out.copy_from_slice(&x.to_array().as_ref()[..out.len()]);
}

/// outᵢ = f(xᵢ) over whole registers.
#[inline(always)]
fn map_registers<I: Isa>(isa: I, x: &[f32], out: &mut [f32], f: impl Fn(I::F32) -> I::F32 + Copy) {
    let ops = isa.f32();
    for (x, out) in x
        .chunks_exact(ops.len())
        .zip(out.chunks_exact_mut(ops.len()))
    {
        ops.store(f(ops.load(x)), out);
    }
}

/// outᵢ = f(xᵢ) over the shorter length.
#[inline(always)]
pub(super) fn map<I: Isa>(isa: I, x: &[f32], out: &mut [f32], f: impl Fn(I::F32) -> I::F32 + Copy) {
    let ops = isa.f32();
    let n = x.len().min(out.len());
    let (x, x_rest) = x[..n].split_at(n - n % ops.len());
    let (out, out_rest) = out[..n].split_at_mut(x.len());
    let fours = x.len() - x.len() % (UNROLL * ops.len());
    let (x4, x) = x.split_at(fours);
    let (out4, out) = out.split_at_mut(fours);
    for (x, out) in x4
        .chunks_exact(UNROLL * ops.len())
        .zip(out4.chunks_exact_mut(UNROLL * ops.len()))
    {
        map_registers(isa, x, out, f);
    }
    map_registers(isa, x, out, f);
    if !x_rest.is_empty() {
        store_front(f(ops.load_pad(x_rest).0), out_rest);
    }
}

/// xᵢ = f(xᵢ).
#[inline(always)]
pub(super) fn map_in_place<I: Isa>(isa: I, x: &mut [f32], f: impl Fn(I::F32) -> I::F32 + Copy) {
    let ops = isa.f32();
    let (x, rest) = x.split_at_mut(x.len() - x.len() % ops.len());
    for x in x.chunks_exact_mut(ops.len()) {
        ops.store(f(ops.load(x)), x);
    }
    if !rest.is_empty() {
        store_front(f(ops.load_pad(rest).0), rest);
    }
}

/// outᵢ = f(aᵢ, bᵢ) over the shortest length.
#[inline(always)]
pub(super) fn zip<I: Isa>(
    isa: I,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    f: impl Fn(I::F32, I::F32) -> I::F32 + Copy,
) {
    let ops = isa.f32();
    let n = a.len().min(b.len()).min(out.len());
    let whole = n - n % ops.len();
    let (a, a_rest) = a[..n].split_at(whole);
    let (b, b_rest) = b[..n].split_at(whole);
    let (out, out_rest) = out[..n].split_at_mut(whole);
    for ((a, b), out) in a
        .chunks_exact(ops.len())
        .zip(b.chunks_exact(ops.len()))
        .zip(out.chunks_exact_mut(ops.len()))
    {
        ops.store(f(ops.load(a), ops.load(b)), out);
    }
    if whole < n {
        store_front(f(ops.load_pad(a_rest).0, ops.load_pad(b_rest).0), out_rest);
    }
}

/// aᵢ = f(aᵢ, bᵢ) over the shorter length.
#[inline(always)]
pub(super) fn zip_in_place<I: Isa>(
    isa: I,
    a: &mut [f32],
    b: &[f32],
    f: impl Fn(I::F32, I::F32) -> I::F32 + Copy,
) {
    let ops = isa.f32();
    let n = a.len().min(b.len());
    let whole = n - n % ops.len();
    let (a, a_rest) = a[..n].split_at_mut(whole);
    let (b, b_rest) = b[..n].split_at(whole);
    for (a, b) in a.chunks_exact_mut(ops.len()).zip(b.chunks_exact(ops.len())) {
        ops.store(f(ops.load(a), ops.load(b)), a);
    }
    if whole < n {
        store_front(f(ops.load_pad(a_rest).0, ops.load_pad(b_rest).0), a_rest);
    }
}

/// Sixteen lanes of partial results.
#[derive(Clone, Copy)]
struct Lanes<I: Isa>([I::F32; REGISTERS]);

impl<I: Isa> Lanes<I> {
    #[inline(always)]
    fn splat(isa: I, x: f32) -> Self {
        Self([isa.f32().splat(x); REGISTERS])
    }

    /// laneᵢ = f(laneᵢ, xᵢ).
    #[inline(always)]
    fn update(&mut self, isa: I, x: &[f32; LANES], f: impl Fn(I::F32, I::F32) -> I::F32 + Copy) {
        let ops = isa.f32();
        for (lane, x) in self.0.iter_mut().zip(x.chunks_exact(ops.len())) {
            *lane = f(*lane, ops.load(x));
        }
    }

    /// laneᵢ = f(laneᵢ, xᵢ, yᵢ).
    #[inline(always)]
    fn update2(
        &mut self,
        isa: I,
        (x, y): (&[f32; LANES], &[f32; LANES]),
        f: impl Fn(I::F32, I::F32, I::F32) -> I::F32 + Copy,
    ) {
        let ops = isa.f32();
        let values = x.chunks_exact(ops.len()).zip(y.chunks_exact(ops.len()));
        for (lane, (x, y)) in self.0.iter_mut().zip(values) {
            *lane = f(*lane, ops.load(x), ops.load(y));
        }
    }

    /// Adds the first `len` of the last elements. The others add 0, which changes no lane: none is ever −0.
    #[inline(always)]
    fn add_last(&mut self, isa: I, mut x: [f32; LANES], len: usize) {
        x[len..].fill(0.0);
        let ops = isa.f32();
        self.update(
            isa,
            &x,
            #[inline(always)]
            |lane, x| ops.add(lane, x),
        );
    }

    /// laneᵢ + otherᵢ.
    #[inline(always)]
    fn plus(mut self, isa: I, other: Self) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = isa.f32().add(*lane, other);
        }
        self
    }

    /// The greater of laneᵢ and otherᵢ.
    #[inline(always)]
    fn greater(mut self, isa: I, other: Self) -> Self {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = greater(isa, *lane, other);
        }
        self
    }

    #[inline(always)]
    fn to_array(self, isa: I) -> [f32; LANES] {
        let ops = isa.f32();
        let mut lanes = [0.0; LANES];
        for (lane, out) in self.0.iter().zip(lanes.chunks_exact_mut(ops.len())) {
            ops.store(*lane, out);
        }
        lanes
    }
}

/// The last elements of a slice, made sixteen by `pad`.
#[inline(always)]
pub(super) fn padded(rest: &[f32], pad: f32) -> [f32; LANES] {
    let mut x = [pad; LANES];
    x[..rest.len()].copy_from_slice(rest);
    x
}

/// Σ f(xᵢ) in sixty-four lanes and their tree: lane `i` takes the elements `i, i + 64, …`.
#[inline(always)]
pub(super) fn sum_of<I: Isa>(isa: I, x: &[f32], f: impl Fn(I::F32) -> I::F32 + Copy) -> f32 {
    let ops = isa.f32();
    let (x, rest) = x.as_chunks::<LANES>();
    let (x, last) = x.as_chunks::<GROUPS>();
    let mut groups = [Lanes::splat(isa, 0.0); GROUPS];
    for x in x {
        for (lanes, x) in groups.iter_mut().zip(x) {
            lanes.update(
                isa,
                x,
                #[inline(always)]
                |lane, x| ops.add(lane, f(x)),
            );
        }
    }
    for (lanes, x) in groups.iter_mut().zip(last) {
        lanes.update(
            isa,
            x,
            #[inline(always)]
            |lane, x| ops.add(lane, f(x)),
        );
    }
    if !rest.is_empty() {
        let mut padded = padded(rest, 0.0);
        map_in_place(isa, &mut padded, f);
        groups[last.len()].add_last(isa, padded, rest.len());
    }
    // The first two steps of the tree: 64 → 32 → 16.
    let [a, b, c, d] = groups;
    let sum = a.plus(isa, c).plus(isa, b.plus(isa, d));
    tree_sum(sum.to_array(isa))
}

/// Writes xᵢ = f(xᵢ) and returns Σ xᵢ in sixteen lanes and their tree.
#[inline(always)]
pub(super) fn map_and_sum<I: Isa>(
    isa: I,
    x: &mut [f32],
    f: impl Fn(I::F32) -> I::F32 + Copy,
) -> f32 {
    let ops = isa.f32();
    let (x, rest) = x.as_chunks_mut::<LANES>();
    let mut lanes = Lanes::splat(isa, 0.0);
    for x in x {
        map_in_place(isa, x, f);
        lanes.update(
            isa,
            x,
            #[inline(always)]
            |lane, x| ops.add(lane, x),
        );
    }
    if !rest.is_empty() {
        let mut last = padded(rest, 0.0);
        map_in_place(isa, &mut last, f);
        rest.copy_from_slice(&last[..rest.len()]);
        lanes.add_last(isa, last, rest.len());
    }
    tree_sum(lanes.to_array(isa))
}

/// Σ aᵢ·bᵢ over the shorter length in sixteen lanes and their tree.
#[inline(always)]
pub(crate) fn dot<I: Isa>(isa: I, a: &[f32], b: &[f32]) -> f32 {
    let ops = isa.f32();
    let n = a.len().min(b.len());
    let (a, a_rest) = a[..n].as_chunks::<LANES>();
    let (b, b_rest) = b[..n].as_chunks::<LANES>();
    let mut lanes = Lanes::splat(isa, 0.0);
    for x in a.iter().zip(b) {
        lanes.update2(
            isa,
            x,
            #[inline(always)]
            |lane, a, b| ops.add(lane, ops.mul(a, b)),
        );
    }
    let mut lanes = lanes.to_array(isa);
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += x * y;
    }
    tree_sum(lanes)
}

/// The greatest f(xᵢ), or `start` if none is greater; f(NaN) is NaN, which is passed over.
///
/// The order is free here.
#[inline(always)]
pub(super) fn greatest_of<I: Isa>(
    isa: I,
    x: &[f32],
    start: f32,
    f: impl Fn(I::F32) -> I::F32 + Copy,
) -> f32 {
    let (x, rest) = x.as_chunks::<LANES>();
    let (x, last) = x.as_chunks::<GROUPS>();
    let mut lanes = [Lanes::splat(isa, start); GROUPS];
    for x in x {
        for (lanes, x) in lanes.iter_mut().zip(x) {
            lanes.update(
                isa,
                x,
                #[inline(always)]
                |lane, x| greater(isa, f(x), lane),
            );
        }
    }
    for (lanes, x) in lanes.iter_mut().zip(last) {
        lanes.update(
            isa,
            x,
            #[inline(always)]
            |lane, x| greater(isa, f(x), lane),
        );
    }
    if !rest.is_empty() {
        lanes[3].update(
            isa,
            &padded(rest, f32::NAN),
            #[inline(always)]
            |lane, x| greater(isa, f(x), lane),
        );
    }
    let [a, b, c, d] = lanes;
    let mut lanes = a
        .greater(isa, c)
        .greater(isa, b.greater(isa, d))
        .to_array(isa);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            if lanes[i + width] > lanes[i] {
                lanes[i] = lanes[i + width];
            }
        }
        width /= 2;
    }
    lanes[0]
}

/// x where it is greater than `other`, else `other`.
#[inline(always)]
fn greater<I: Isa>(isa: I, x: I::F32, other: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(x, other, ops.gt(x, other))
}
