//! The Hadamard transform of blocks of a row, and the signs before or behind it.
//!
//! `H[r][c] = (−1)^popcount(r AND c) / √block` (Sylvester's order): symmetric, and its own inverse. The bits are fixed: butterflies
//! `(a, b) → (a + b, a − b)` at distances 1, 2, 4, … block / 2, then one multiplication by the f32 nearest to 1 / √block.

use super::lanes;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// Elements whose butterflies at the first distances are done together.
const NEAR: usize = 16;

/// H of each block of `row`, between the two multiplications by `signs` that are asked for. The length of `row` is a multiple of
/// `block`, which is a power of two.
pub(crate) struct Hadamard<'a> {
    pub(crate) row: &'a mut [f32],
    pub(crate) block: usize,
    /// ±1 for each element, or none.
    pub(crate) signs: &'a [f32],
    /// Whether the signs come behind the transform instead of before it.
    pub(crate) inverse: bool,
}

impl SimdOp for Hadamard<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self {
            row,
            block,
            signs,
            inverse,
        } = self;
        let ops = isa.f32();
        if !inverse {
            lanes::zip_in_place(
                isa,
                row,
                signs,
                #[inline(always)]
                |x, sign| ops.mul(x, sign),
            );
        }
        let factor = ops.splat(1.0 / (block as f32).sqrt());
        for block in row.chunks_exact_mut(block) {
            near(block);
            let mut distance = NEAR;
            while distance < block.len() {
                for pair in block.chunks_exact_mut(2 * distance) {
                    let (a, b) = pair.split_at_mut(distance);
                    far(isa, a, b);
                }
                distance *= 2;
            }
            lanes::map_in_place(
                isa,
                block,
                #[inline(always)]
                |x| ops.mul(x, factor),
            );
        }
        if inverse {
            lanes::zip_in_place(
                isa,
                row,
                signs,
                #[inline(always)]
                |x, sign| ops.mul(x, sign),
            );
        }
    }
}

/// Butterflies of `a` and `b`, whose length is a multiple of [`NEAR`].
#[inline(always)]
fn far<I: Isa>(isa: I, a: &mut [f32], b: &mut [f32]) {
    let ops = isa.f32();
    let width = ops.len();
    for (a, b) in a.chunks_exact_mut(width).zip(b.chunks_exact_mut(width)) {
        let (x, y) = (ops.load(a), ops.load(b));
        ops.store(ops.add(x, y), a);
        ops.store(ops.sub(x, y), b);
    }
}

/// Butterflies at distances below [`NEAR`]. Loops of fixed length, of which the compiler makes shuffles of registers.
#[inline(always)]
fn near(block: &mut [f32]) {
    let (groups, rest) = block.as_chunks_mut::<NEAR>();
    for group in groups {
        butterflies::<1>(group);
        butterflies::<2>(group);
        butterflies::<4>(group);
        butterflies::<8>(group);
    }
    // A block shorter than a group.
    let mut distance = 1;
    while distance < rest.len() {
        for pair in rest.chunks_exact_mut(2 * distance) {
            let (a, b) = pair.split_at_mut(distance);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance *= 2;
    }
}

#[inline(always)]
fn butterflies<const DISTANCE: usize>(group: &mut [f32; NEAR]) {
    let old = *group;
    for (index, out) in group.iter_mut().enumerate() {
        let partner = old[index ^ DISTANCE];
        *out = if index & DISTANCE == 0 {
            old[index] + partner
        } else {
            partner - old[index]
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transform(row: &mut [f32], block: usize, signs: &[f32], inverse: bool) {
        Hadamard {
            row,
            block,
            signs,
            inverse,
        }
        .dispatch();
    }

    /// As the definition says, element by element.
    fn reference(row: &mut [f32], signs: &[f32], inverse: bool) {
        let sign = |row: &mut [f32]| row.iter_mut().zip(signs).for_each(|(x, s)| *x *= s);
        if !inverse {
            sign(row);
        }
        let mut distance = 1;
        while distance < row.len() {
            let old = row.to_vec();
            for (index, out) in row.iter_mut().enumerate() {
                let (a, b) = (old[index & !distance], old[index | distance]);
                *out = if index & distance == 0 { a + b } else { a - b };
            }
            distance *= 2;
        }
        let factor = 1.0 / (row.len() as f32).sqrt();
        row.iter_mut().for_each(|x| *x *= factor);
        if inverse {
            sign(row);
        }
    }

    #[test]
    fn known_values() {
        let signs = [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0];
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut row = x;
        transform(&mut row, 4, &signs, false);
        assert_eq!(row, [3.0, 1.0, -4.0, 2.0, 0.0, 2.0, 1.0, -13.0]);
        let mut row = x;
        transform(&mut row, 8, &signs, false);
        let expected = [3.0f32, 3.0, -3.0, -11.0, 3.0, -1.0, -5.0, 15.0].map(|x| x / 2.0f32.sqrt());
        for (found, expected) in row.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{row:?}");
        }
        let mut row = x;
        transform(&mut row, 4, &signs, true);
        assert_eq!(row, [5.0, 1.0, -2.0, 0.0, -13.0, -1.0, -2.0, 0.0]);
    }

    proptest! {
        #[test]
        fn bits_are_those_of_the_definition(
            power in 0u32..12,
            blocks in 1usize..4,
            inverse: bool,
            seed: u64,
        ) {
            let block = 1 << power;
            let mut state = seed | 1;
            let mut number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / 8_388_608.0 - 1.0
            };
            let mut row: Vec<f32> = (0..block * blocks).map(|_| number()).collect();
            let signs: Vec<f32> = (0..block * blocks).map(|_| number().signum()).collect();
            let mut expected = row.clone();
            for (row, signs) in expected.chunks_exact_mut(block).zip(signs.chunks_exact(block)) {
                reference(row, signs, inverse);
            }
            transform(&mut row, block, &signs, inverse);
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&row), bits(&expected));
        }
    }
}
