//! Cores shared out, so that several files are measured at the same time on a machine with many.

use anyhow::{Context, Result, ensure};
use bitnet_benchmarks::machine;

/// Shares of the cores that this program may use.
pub(crate) struct Lanes {
    /// The cores of each; empty where there is one, which has them all.
    shares: Vec<Vec<usize>>,
    threads: Vec<usize>,
}

impl Lanes {
    /// `count` shares of the same size.
    pub(crate) fn new(count: usize) -> Result<Self> {
        if count <= 1 {
            return Ok(Self {
                shares: vec![Vec::new()],
                threads: machine::thread_counts(),
            });
        }
        let cores = allowed()?;
        let each = cores.len() / count;
        ensure!(
            each > 0,
            "--lanes {count}: this program may use {} cores, and each lane needs one",
            cores.len()
        );
        let mut threads = vec![1, each];
        threads.dedup();
        let shares = cores.chunks_exact(each).take(count);
        Ok(Self {
            shares: shares.map(<[usize]>::to_vec).collect(),
            threads,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.shares.len()
    }

    /// The numbers of threads to measure: one, and the cores of a lane.
    pub(crate) fn threads(&self) -> &[usize] {
        &self.threads
    }

    /// A sentence for the report.
    pub(crate) fn describe(&self) -> String {
        let each = self.threads.last().copied().unwrap_or(1);
        format!(
            "{} files at the same time, each on {each} cores of its own, so memory is shared: its bandwidth was measured \
             likewise, before each file.",
            self.count()
        )
    }

    /// Puts the calling thread, and the processes and threads that it starts, on the cores of lane `index`.
    pub(crate) fn enter(&self, index: usize) -> Result<()> {
        match &self.shares[index][..] {
            [] => Ok(()),
            cores => pin(cores).with_context(|| format!("cannot run on the cores {cores:?}")),
        }
    }
}

#[cfg(target_os = "linux")]
fn allowed() -> Result<Vec<usize>> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).context("the cores of this program")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect())
}

#[cfg(target_os = "linux")]
fn pin(cores: &[usize]) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Result<Vec<usize>> {
    anyhow::bail!("--lanes: a program can only be kept to some cores on Linux")
}

#[cfg(not(target_os = "linux"))]
fn pin(_: &[usize]) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_has_all_cores() {
        let lanes = Lanes::new(1).expect("one");
        assert_eq!(
            (lanes.count(), lanes.threads()),
            (1, &machine::thread_counts()[..])
        );
        lanes.enter(0).expect("no cores are chosen");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lanes_share_no_core() {
        let cores = machine::cores();
        let lanes = Lanes::new(cores).expect("a core each");
        assert_eq!((lanes.count(), lanes.threads()), (cores, &[1][..]));
        let mut all = lanes.shares.concat();
        all.dedup();
        assert_eq!(all.len(), cores);
        let error = Lanes::new(cores + 1).err().expect("too many").to_string();
        assert!(error.contains("each lane needs one"), "{error}");
        std::thread::spawn(move || {
            lanes.enter(0).expect("its own core");
            assert_eq!(machine::cores(), 1);
        })
        .join()
        .expect("a thread on one core");
    }
}
