//! The machine that was measured, and how fast it reads memory.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Bytes that are read in one pass: more than any cache holds.
pub(crate) const BUFFER: usize = 512 << 20;
/// Passes over the buffer.
pub(crate) const PASSES: usize = 5;

/// Facts for the head of the report.
pub(crate) fn describe() -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut facts = vec![
        cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        format!("{cores} core{}", if cores == 1 { "" } else { "s" }),
        format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    ];
    let sets = bitnet_core::cpu::Isa::ALL
        .into_iter()
        .filter(|isa| isa.is_available())
        .map(|isa| isa.name());
    facts.push(format!("kernels: {}", sets.collect::<Vec<_>>().join(", ")));
    facts
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processes that ran or waited in the last minute, where the system says.
pub(crate) fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Bytes per second that all cores together read from memory.
pub(crate) fn read_bandwidth() -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Not zeros: those might all be one page.
    let buffer: Vec<u64> = (0..BUFFER as u64 / 8).collect();
    let part = buffer.len().div_ceil(cores);
    let mut best = f64::MAX;
    for _ in 0..PASSES {
        let begin = Instant::now();
        thread::scope(|scope| {
            for part in buffer.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        best = best.min(begin.elapsed().as_secs_f64());
    }
    BUFFER as f64 / best
}

/// Adds all up in eight lanes, so that reading is what takes the time.
fn sum(values: &[u64]) -> u64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0u64; 8];
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane = lane.wrapping_add(*value);
        }
    }
    let lanes = lanes.iter().chain(rest);
    lanes.fold(0, |sum, value| sum.wrapping_add(*value))
}
