//! How fast memory is read: a buffer that no cache holds, in a few sequential ways, of which the fastest counts. Which one
//! that is differs between processors and numbers of threads: a roof must not be lower than what runs under it.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Bytes that are read in one pass: more than any cache holds.
pub const BUFFER: usize = 512 << 20;
/// Passes over the buffer in each way; the best counts.
pub const PASSES: usize = 5;

/// Lines that are read as four streams before the next ones: 2 MiB.
const BLOCK: usize = 1 << 15;
/// How far ahead is prefetched, in lines, where that can be asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 24;

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
        for way in WAYS {
            let begin = Instant::now();
            thread::scope(|scope| {
                for part in lines.chunks(part) {
                    scope.spawn(move || black_box(way(part)));
                }
            });
            best = best.min(begin.elapsed().as_secs_f64());
        }
    }
    BUFFER as f64 / best
}

/// Ways of adding up all lines, so that reading is what takes the time.
const WAYS: [fn(&[Line]) -> u64; 3] = [
    |lines| total(&[lanes(lines)]),
    |lines| total(&streams::<false>(lines)),
    |lines| {
        let blocks = lines.chunks(BLOCK);
        blocks.fold(0, |sum, block| {
            sum.wrapping_add(total(&streams::<true>(block)))
        })
    },
];

/// One stream, in eight lanes.
fn lanes(lines: &[Line]) -> Line {
    let mut lanes = [0; 8];
    for line in lines {
        add(&mut lanes, line);
    }
    lanes
}

/// Four streams, in eight lanes each, each line asked for in advance if `PREFETCH`; then what is left over.
fn streams<const PREFETCH: bool>(lines: &[Line]) -> [Line; 5] {
    let quarter = lines.len() / 4;
    let (a, rest) = lines.split_at(quarter);
    let (b, rest) = rest.split_at(quarter);
    let (c, rest) = rest.split_at(quarter);
    let (d, rest) = rest.split_at(quarter);
    let mut sums = [[0; 8]; 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (lanes, line) in sums.iter_mut().zip([a, b, c, d]) {
            if PREFETCH {
                prefetch(line);
            }
            add(lanes, line);
        }
    }
    let [a, b, c, d] = sums;
    [a, b, c, d, lanes(rest)]
}

#[inline(always)]
fn add(lanes: &mut Line, line: &Line) {
    for (lane, value) in lanes.iter_mut().zip(line) {
        *lane = lane.wrapping_add(*value);
    }
}

fn total(sums: &[Line]) -> u64 {
    let lanes = sums.as_flattened().iter();
    lanes.fold(0, |sum, value| sum.wrapping_add(*value))
}

/// Asks for a line that is due soon.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(line: &Line) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let soon = std::ptr::from_ref(line).wrapping_add(AHEAD).cast::<i8>();
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
    fn every_way_reads_every_line() {
        for count in [0, 3, 64, BLOCK + 7] {
            let lines: Vec<Line> = (0..count as u64).map(|n| [n; 8]).collect();
            let expected = 8 * (0..count as u64).sum::<u64>();
            assert!(WAYS.iter().all(|way| way(&lines) == expected), "{count}");
        }
    }
}
