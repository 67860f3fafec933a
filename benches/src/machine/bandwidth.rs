//! How fast memory is read: a buffer that no cache holds, in four sequential streams for each thread, prefetched.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Bytes that are read in one pass: more than any cache holds.
pub const BUFFER: usize = 512 << 20;
/// Passes over the buffer; the best counts.
pub const PASSES: usize = 5;

/// One cache line.
type Line = [u64; 8];

/// Bytes per second that `threads` together read from memory.
pub fn read_bandwidth(threads: usize) -> f64 {
    // Not zeros: those might all be one page.
    let buffer: Vec<u64> = (0..BUFFER as u64 / 8).collect();
    let (lines, _) = buffer.as_chunks::<8>();
    let part = lines.len().div_ceil(threads.max(1)).max(1);
    let mut best = f64::MAX;
    for _ in 0..PASSES {
        let begin = Instant::now();
        thread::scope(|scope| {
            for part in lines.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        best = best.min(begin.elapsed().as_secs_f64());
    }
    BUFFER as f64 / best
}

/// Adds all up in eight lanes for each of four streams, so that reading is what takes the time.
fn sum(lines: &[Line]) -> u64 {
    let (first, second) = lines.split_at(lines.len() / 2);
    let (a, b) = first.split_at(first.len() / 2);
    let (c, d) = second.split_at(second.len() / 2);
    let mut lanes = [[0u64; 8]; 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (lanes, line) in lanes.iter_mut().zip([a, b, c, d]) {
            prefetch(line);
            for (lane, value) in lanes.iter_mut().zip(line) {
                *lane = lane.wrapping_add(*value);
            }
        }
    }
    let lanes = lanes.as_flattened().iter();
    lanes.fold(0, |sum, value| sum.wrapping_add(*value))
}

/// Asks for a line that is due soon.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(line: &Line) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let soon = std::ptr::from_ref(line).wrapping_add(24).cast::<i8>();
    // SAFETY: prefetching reads nothing and never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(soon) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch(_line: &Line) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_streams_are_read() {
        let lines: Vec<Line> = (0..64).map(|n| [n; 8]).collect();
        assert_eq!(sum(&lines), 8 * (0..64).sum::<u64>());
    }
}
