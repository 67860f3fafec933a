//! The int8 multiply-accumulates that this machine can do, out of registers: the roof over a ternary matrix product.
//!
//! Twelve accumulators hide the latency of the instruction; nothing is loaded or stored inside the loop.

use bitnet_core::cpu::Isa;

/// The roof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// The instruction that was timed.
    pub instruction: &'static str,
    /// Multiply-accumulates per second of all threads together.
    pub rate: f64,
}

/// The int8 peak of `threads` with the best instruction there is; `None` where there is no loop for it.
pub fn int8_peak(threads: usize) -> Option<Peak> {
    let mut sets = Isa::ALL.into_iter().rev();
    sets.find_map(|isa| int8_peak_of(isa, threads))
}

/// The int8 peak of `threads` with the instructions of one set; `None` where there is no loop for it or this machine does
/// not have them.
pub fn int8_peak_of(isa: Isa, threads: usize) -> Option<Peak> {
    #[cfg(target_arch = "x86_64")]
    {
        x86::Loop::of(isa).map(|it| it.peak(threads))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // The loops are for x86-64 alone.
        let _ = (isa, threads);
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Peak;
    use bitnet_core::cpu::Isa;
    use std::arch::x86_64::*;
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

    /// A loop over one way of multiplying.
    #[derive(Clone, Copy)]
    pub(super) struct Loop {
        instruction: &'static str,
        /// Multiply-accumulates of one turn and sum.
        width: u32,
        run: fn(u32),
    }

    impl Loop {
        /// What the kernels of `isa` multiply with.
        pub(super) fn of(isa: Isa) -> Option<Self> {
            if !isa.is_available() {
                return None;
            }
            let (instruction, width, run): (_, _, fn(u32)) = match isa {
                // SAFETY: the features are there, as the set is available.
                Isa::Ssse3 => ("pmaddubsw + paddw, 128 bits", 16, |n| unsafe { ssse3(n) }),
                // SAFETY: as above.
                Isa::Avx2 => ("vpmaddubsw + vpaddw, 256 bits", 32, |n| unsafe { avx2(n) }),
                // SAFETY: as above.
                Isa::AvxVnni => ("vpdpbusd, 256 bits", 32, |n| unsafe { avx_vnni(n) }),
                // SAFETY: as above.
                Isa::Avx512 => ("vpmaddubsw + vpaddw, 512 bits", 64, |n| unsafe {
                    avx512(n);
                }),
                // SAFETY: as above.
                Isa::Avx512Vnni => ("vpdpbusd, 512 bits", 64, |n| unsafe { avx512_vnni(n) }),
                _ => return None,
            };
            Some(Self {
                instruction,
                width,
                run,
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

    /// A loop that begins with `SUMS` numbers of `$splat` and makes each of them anew, `turns` times, from itself and a
    /// register of ones.
    macro_rules! turns {
        ($name:ident, $features:literal, $splat:ident, |$sum:ident, $ones:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            fn $name(turns: u32) {
                // Sums that begin alike would be computed once.
                let mut sums: [_; SUMS] =
                    std::array::from_fn(|index| $splat(black_box(index as i8)));
                let $ones = $splat(black_box(1));
                for _ in 0..turns {
                    for sum in &mut sums {
                        let $sum = *sum;
                        *sum = $step;
                    }
                }
                black_box(sums);
            }
        };
    }

    // Where products are added by an instruction of their own, the sum itself is multiplied: a product that stays the
    // same would leave the loop. To widen sums to i32 is left out, as kernels do it once in many turns.
    turns!(ssse3, "ssse3", _mm_set1_epi8, |sum, ones| {
        _mm_add_epi16(sum, _mm_maddubs_epi16(sum, ones))
    });
    turns!(avx2, "avx2", _mm256_set1_epi8, |sum, ones| {
        _mm256_add_epi16(sum, _mm256_maddubs_epi16(sum, ones))
    });
    turns!(avx512, "avx512bw", _mm512_set1_epi8, |sum, ones| {
        _mm512_add_epi16(sum, _mm512_maddubs_epi16(sum, ones))
    });
    turns!(avx_vnni, "avx2,avxvnni", _mm256_set1_epi8, |sum, ones| {
        _mm256_dpbusd_avx_epi32(sum, ones, ones)
    });
    turns!(
        avx512_vnni,
        "avx512f,avx512bw,avx512vnni",
        _mm512_set1_epi8,
        |sum, ones| _mm512_dpbusd_epi32(sum, ones, ones)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_run_where_there_are_some() {
        let (peaks, best) = (Isa::ALL.map(|isa| int8_peak_of(isa, 1)), int8_peak(1));
        for peak in peaks.iter().flatten().chain(&best) {
            let rate = peak.rate;
            assert!(rate.is_finite() && rate > 0.0, "{}", peak.instruction);
        }
        // Where one set multiplies, the best does.
        assert_eq!(best.is_some(), peaks.iter().any(|peak| peak.is_some()));
    }
}
