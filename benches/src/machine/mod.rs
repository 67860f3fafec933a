//! The machine that is measured: what it is, how busy, how fast it reads memory and multiplies int8.

mod bandwidth;
mod int8;
mod roofline;

pub use bandwidth::{BUFFER, PASSES, read_bandwidth};
pub use int8::{Peak, int8_peak, int8_peak_of};
pub use roofline::{Roofs, Work};

use std::thread;

/// Facts for the head of a report.
pub fn describe() -> Vec<String> {
    let cores = cores();
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

/// Cores that this program may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The numbers of threads to measure: one, and all cores.
pub fn thread_counts() -> Vec<usize> {
    let mut counts = vec![1, cores()];
    counts.dedup();
    counts
}

/// "2 threads".
pub fn with(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processes that ran or waited in the last minute, where the system says.
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
