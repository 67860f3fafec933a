//! Inputs of the benchmarks: the same numbers in every run.

/// `len` numbers, evenly spread over −4 … 4 in a scrambled order.
pub fn floats(len: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..len)
        .map(|_| {
            // Knuth's linear congruential generator; its upper bits are good enough here.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 21) as f32 - 4.0
        })
        .collect()
}

/// `len` ternary codes −1, 0, +1.
pub fn ternary(len: usize) -> Vec<i8> {
    floats(len)
        .into_iter()
        .map(|x| (x / 2.7).round() as i8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_in_range_and_of_every_kind() {
        let x = floats(10_000);
        assert!(x.iter().all(|x| (-4.0..4.0).contains(x)));
        assert!(x.iter().any(|x| *x < -3.9) && x.iter().any(|x| *x > 3.9));
        let codes = ternary(10_000);
        for code in [-1, 0, 1] {
            let count = codes.iter().filter(|c| **c == code).count();
            assert!(count > 2_000, "{count} of {code}");
        }
        assert!(codes.iter().all(|c| (-1..=1).contains(c)));
    }
}
