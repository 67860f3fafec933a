//! Rotary position embedding: cos and sin of position × frequency, times a magnitude, computed in f64 by a portable
//! library so that every machine rotates by the same bits.

use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::{Result, Rope, RopePairs};

/// The rotations of the rows of a batch.
#[derive(Debug)]
pub(crate) struct Rotations {
    pairs: RopePairs,
    /// cos and sin, times the magnitude: `rows × dims/2 × 2`.
    table: Buffer<[f32; 2]>,
    half: usize,
}

impl Rotations {
    /// The rotations of `count` rows, of which row `i` is at `position(i)`, in memory of `pool`.
    ///
    /// # Errors
    /// If memory is short.
    pub(crate) fn new(
        pool: &HybridMemoryPool,
        rope: &Rope,
        count: usize,
        position: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let half = rope.dims / 2;
        let frequencies = pool.buffer_from_fn(half, Tag::Scratch, |i| rope.frequency(i))?;
        let magnitude = f64::from(rope.magnitude);
        let len = count.saturating_mul(half);
        let table = pool.buffer_from_fn(len, Tag::Scratch, |i| {
            let angle = position(i / half) as f64 * frequencies[i % half];
            [libm::cos(angle), libm::sin(angle)].map(|turn| (turn * magnitude) as f32)
        })?;
        Ok(Self {
            pairs: rope.pairs,
            table,
            half,
        })
    }

    /// cos and sin, `rows × dims/2`.
    #[cfg(any(
        feature = "wgpu",
        all(feature = "metal", target_os = "macos"),
        all(feature = "metal-shim", target_os = "linux")
    ))]
    pub(crate) fn table(&self) -> &[[f32; 2]] {
        &self.table
    }

    /// Rotates one head of row `index`.
    pub(super) fn apply(&self, index: usize, head: &mut [f32]) {
        let turns = &self.table[index * self.half..][..self.half];
        match self.pairs {
            RopePairs::HalfSplit => {
                let (first, second) = head[..2 * self.half].split_at_mut(self.half);
                for ((x, y), turn) in first.iter_mut().zip(second).zip(turns) {
                    rotate(x, y, turn);
                }
            }
            RopePairs::Interleaved => {
                for ([x, y], turn) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                    rotate(x, y, turn);
                }
            }
        }
    }
}

/// Rotates two elements by an angle of which cos and sin are given.
#[inline(always)]
fn rotate(x: &mut f32, y: &mut f32, [cos, sin]: &[f32; 2]) {
    (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(pairs: RopePairs) -> Vec<f32> {
        let rope = Rope {
            pairs,
            dims: 4,
            base: 500_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        };
        let mut head = vec![1.0, 2.0, 3.0, 4.0, 5.0];
        let rotations = Rotations::new(HybridMemoryPool::global(), &rope, 1, |_| 1).unwrap();
        rotations.apply(0, &mut head);
        head
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 2e-6, "{found:?} != {expected:?}");
        }
    }

    #[test]
    fn rotates_as_the_references_do() {
        let expected = [-1.984_111, 1.994_341, 2.462_378, 4.002_824, 5.0];
        assert_close(&rotated(RopePairs::HalfSplit), &expected);
        let expected = [-1.142_64, 1.922_076, 2.994_34, 4.004_239, 5.0];
        assert_close(&rotated(RopePairs::Interleaved), &expected);
    }

    #[test]
    fn a_magnitude_multiplies_what_rotates_and_nothing_else() {
        for pairs in [RopePairs::HalfSplit, RopePairs::Interleaved] {
            let rope = Rope {
                pairs,
                dims: 4,
                base: 500_000.0,
                divisors: Vec::new(),
                magnitude: 1.5,
            };
            let mut head = vec![1.0, 2.0, 3.0, 4.0, 5.0];
            let rotations = Rotations::new(HybridMemoryPool::global(), &rope, 1, |_| 1).unwrap();
            rotations.apply(0, &mut head);
            let mut expected = rotated(pairs);
            expected[..4].iter_mut().for_each(|x| *x *= 1.5);
            assert_close(&head, &expected);
            assert_eq!(head[4], 5.0);
        }
    }

    #[test]
    fn far_positions_keep_their_angle() {
        let rope = Rope {
            pairs: RopePairs::HalfSplit,
            dims: 128,
            base: 500_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        };
        let rotations = Rotations::new(HybridMemoryPool::global(), &rope, 1, |_| 1000).unwrap();
        let [cos, sin] = rotations.table[1];
        assert!(
            (cos + 0.585_956).abs() < 2e-6 && (sin + 0.810_343).abs() < 2e-6,
            "{cos} {sin}"
        );
    }
}
