//! Rotary position embedding: cos and sin of position × frequency, computed in f64 by a portable library so that
//! every machine rotates by the same bits.

use crate::{Rope, RopePairs};

/// The rotations of a run of positions: `count × dims/2` pairs (cos, sin).
#[derive(Debug, Clone)]
pub struct Rotations {
    pairs: RopePairs,
    table: Vec<(f32, f32)>,
    half: usize,
}

impl Rotations {
    pub(super) fn new(rope: &Rope, first: usize, count: usize) -> Self {
        let half = rope.dims / 2;
        let frequencies: Vec<f64> = (0..half)
            .map(|i| {
                let exponent = -2.0 * i as f64 / rope.dims as f64;
                let divisor = rope.divisors.get(i).copied().unwrap_or(1.0);
                libm::pow(f64::from(rope.base), exponent) / f64::from(divisor)
            })
            .collect();
        let angles = (first..first + count)
            .flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let table = angles
            .map(|a| (libm::cos(a) as f32, libm::sin(a) as f32))
            .collect();
        Self {
            pairs: rope.pairs,
            table,
            half,
        }
    }

    /// Rotates one head of the `index`-th position of the run.
    pub(super) fn apply(&self, index: usize, head: &mut [f32]) {
        let turns = &self.table[index * self.half..][..self.half];
        for (i, (cos, sin)) in turns.iter().enumerate() {
            let (a, b) = match self.pairs {
                RopePairs::HalfSplit => (i, i + self.half),
                RopePairs::Interleaved => (2 * i, 2 * i + 1),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotate(pairs: RopePairs) -> Vec<f32> {
        let rope = Rope {
            pairs,
            dims: 4,
            base: 500_000.0,
            divisors: Vec::new(),
        };
        let mut head = vec![1.0, 2.0, 3.0, 4.0];
        Rotations::new(&rope, 1, 1).apply(0, &mut head);
        head
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 2e-6, "{found:?} != {expected:?}");
        }
    }

    #[test]
    fn rotates_as_the_references_do() {
        let expected = [-1.984_111, 1.994_341, 2.462_378, 4.002_824];
        assert_close(&rotate(RopePairs::HalfSplit), &expected);
        let expected = [-1.142_64, 1.922_076, 2.994_34, 4.004_239];
        assert_close(&rotate(RopePairs::Interleaved), &expected);
    }

    #[test]
    fn far_positions_keep_their_angle() {
        let rope = Rope {
            pairs: RopePairs::HalfSplit,
            dims: 128,
            base: 500_000.0,
            divisors: Vec::new(),
        };
        let (cos, sin) = Rotations::new(&rope, 1000, 1).table[1];
        assert!(
            (cos + 0.585_956).abs() < 2e-6 && (sin + 0.810_343).abs() < 2e-6,
            "{cos} {sin}"
        );
    }
}
