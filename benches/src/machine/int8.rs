//! The int8 multiply-accumulates that this machine can do, out of registers: the roof over a ternary matrix product.
//!
//! Twelve accumulators hide the latency of the instruction; nothing is loaded or stored inside the loop.

/// The roof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// The instruction that was timed.
    pub instruction: &'static str,
    /// Multiply-accumulates per second of all threads together.
    pub rate: f64,
}

/// The int8 peak of `threads`; `None` where there is no loop for this instruction set.
pub fn int8_peak(threads: usize) -> Option<Peak> {
    #[cfg(target_arch = "x86_64")]
    {
        x86::Loop::best().map(|it| it.peak(threads))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // The loops are for x86-64 alone.
        let _ = threads;
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Peak;
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    };
    use std::hint::black_box;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Instant;

    /// Independent sums.
    const SUMS: usize = 12;
    /// Turns of the loop in one pass: some 15 milliseconds.
    const TURNS: u32 = 4_000_000;
    /// Passes; the best counts.
    const PASSES: usize = 5;

    /// A loop over one instruction.
    #[derive(Clone, Copy)]
    pub(super) struct Loop {
        instruction: &'static str,
        /// Multiply-accumulates of one execution of the instruction.
        width: u32,
        run: fn(u32),
    }

    impl Loop {
        /// The widest that this machine has.
        pub(super) fn best() -> Option<Self> {
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f") {
                return Some(Self {
                    instruction: "vpdpbusd, 512 bits",
                    width: 64,
                    // SAFETY: the features were detected on the line above.
                    run: |turns| unsafe { avx512vnni(turns) },
                });
            }
            if is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2") {
                return Some(Self {
                    instruction: "vpdpbusd, 256 bits",
                    width: 32,
                    // SAFETY: the features were detected on the line above.
                    run: |turns| unsafe { avxvnni(turns) },
                });
            }
            is_x86_feature_detected!("avx2").then_some(Self {
                instruction: "vpmaddubsw + vpmaddwd + vpaddd, 256 bits",
                width: 32,
                // SAFETY: the feature was detected on the line above.
                run: |turns| unsafe { avx2(turns) },
            })
        }

        pub(super) fn peak(self, threads: usize) -> Peak {
            let threads = threads.max(1);
            let mut best = f64::MAX;
            for _ in 0..PASSES {
                let start = Barrier::new(threads);
                let timed = || {
                    start.wait();
                    let begin = Instant::now();
                    (self.run)(black_box(TURNS));
                    begin.elapsed().as_secs_f64()
                };
                // As slow as the slowest; a thread that could not be joined has told no time.
                let slowest = thread::scope(|scope| {
                    let threads: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
                    let times = threads.into_iter().map(|t| t.join().unwrap_or(f64::MAX));
                    times.fold(0.0, f64::max)
                });
                best = best.min(slowest);
            }
            let products = f64::from(TURNS) * f64::from(self.width) * SUMS as f64;
            Peak {
                instruction: self.instruction,
                rate: products * threads as f64 / best,
            }
        }
    }

    /// `SUMS` sums, `turns` times each.
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512vnni(turns: u32) {
        // Sums that begin alike would be computed once.
        let mut sums: [_; SUMS] =
            std::array::from_fn(|index| _mm512_set1_epi32(black_box(index as i32)));
        let (a, b) = (
            _mm512_set1_epi8(black_box(3)),
            _mm512_set1_epi8(black_box(1)),
        );
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    fn avxvnni(turns: u32) {
        let mut sums = starts();
        let (a, b) = (
            _mm256_set1_epi8(black_box(3)),
            _mm256_set1_epi8(black_box(1)),
        );
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2")]
    fn avx2(turns: u32) {
        let mut sums = starts();
        let (weights, ones) = (_mm256_set1_epi8(black_box(1)), _mm256_set1_epi16(1));
        for _ in 0..turns {
            for sum in &mut sums {
                // The sum itself is multiplied: a constant product would leave the loop.
                let pairs = _mm256_maddubs_epi16(*sum, weights);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2")]
    fn starts() -> [__m256i; SUMS] {
        std::array::from_fn(|index| _mm256_set1_epi32(black_box(index as i32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_runs_where_there_is_one() {
        if let Some(peak) = int8_peak(1) {
            assert!(
                peak.rate.is_finite() && peak.rate > 0.0,
                "{}",
                peak.instruction
            );
        }
    }
}
