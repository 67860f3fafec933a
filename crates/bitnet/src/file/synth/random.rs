//! Random numbers that are the same on every machine: integers and single float operations only.

/// The xoshiro256++ generator.
pub(crate) struct Random {
    state: [u64; 4],
}

/// The standard deviation of a sum of four uniform 16-bit numbers, 65536·√(4/12).
const SUM_DEVIATION: f32 = 37_837.227;
/// The mean of that sum.
const SUM_MEAN: i32 = 131_070;

/// Ternary values by a random byte: 102 of 256 are 0, 77 each −1 and +1.
const TERNARY: [i8; 256] = {
    let mut table = [0; 256];
    let mut byte = 102;
    while byte < 256 {
        table[byte] = if byte < 179 { 1 } else { -1 };
        byte += 1;
    }
    table
};

/// One step of SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The generator of row `row` of tensor `tensor`: rows can be made in any order.
    pub(crate) fn of(seed: u64, tensor: u64, row: u64) -> Self {
        let mut mixed = seed;
        for part in [tensor, row] {
            mixed = split_mix(&mut mixed) ^ part;
        }
        Self {
            state: std::array::from_fn(|_| split_mix(&mut mixed)),
        }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Fills `codes` with −1, 0 and +1, about 40 % of them 0.
    pub(super) fn ternary(&mut self, codes: &mut [i8]) {
        for chunk in codes.chunks_mut(8) {
            for (code, byte) in chunk.iter_mut().zip(self.next().to_le_bytes()) {
                *code = TERNARY[usize::from(byte)];
            }
        }
    }

    /// Fills `values` with numbers of about a normal distribution, |x| < 3.5 deviations.
    pub(crate) fn normal(&mut self, mean: f32, deviation: f32, values: &mut [f32]) {
        let step = deviation / SUM_DEVIATION;
        for value in values {
            let bits = self.next();
            let sum: i32 = (0..4)
                .map(|part| ((bits >> (16 * part)) & 0xffff) as i32)
                .sum();
            *value = mean + (sum - SUM_MEAN) as f32 * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_and_independent() {
        let mut random = Random::of(1, 2, 3);
        let again = Random::of(1, 2, 3).next();
        assert_eq!(random.next(), again);
        assert_ne!(Random::of(1, 2, 4).next(), again);
        assert_ne!(Random::of(1, 3, 3).next(), again);
        assert_ne!(Random::of(2, 2, 3).next(), again);
    }

    #[test]
    fn distributions() {
        let mut random = Random::of(7, 0, 0);
        let mut codes = vec![0; 100_000];
        random.ternary(&mut codes);
        let zeros = codes.iter().filter(|code| **code == 0).count();
        assert!((39_000..41_000).contains(&zeros), "{zeros}");
        let sum: i64 = codes.iter().map(|code| i64::from(*code)).sum();
        assert!(sum.abs() < 1_500, "{sum}");

        let mut values = vec![0.0; 100_000];
        random.normal(1.0, 0.5, &mut values);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
        let variance = values
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / 1e5;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!((variance - 0.25).abs() < 0.01, "{variance}");
    }
}
