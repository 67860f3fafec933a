//! Another program, run to its end and watched: what it printed, how long it took, how much memory it held.

use anyhow::{Context, Result, bail};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the memory of a running process.
const LOOK: Duration = Duration::from_millis(5);

/// A program that ended well.
#[derive(Debug)]
pub struct Finished {
    /// What it printed.
    pub stdout: Vec<u8>,
    /// From its start to its end.
    pub time: Duration,
    /// The high-water mark of its resident memory in bytes, file pages included; `None` where the system has no
    /// /proc.
    pub peak: Option<u64>,
}

/// Runs `command`, which errors call `name`.
///
/// # Errors
/// If it cannot be started or does not exit with 0; the message ends with what it wrote to its standard error.
pub fn run(command: &mut Command, name: &str) -> Result<Finished> {
    let finished = run_within(command, name, None)?;
    finished.with_context(|| format!("{name} was ended without a limit"))
}

/// As [`run`], but a program that has not ended after `limit` is ended, and `None` returned.
///
/// # Errors
/// As [`run`].
pub fn run_within(
    command: &mut Command,
    name: &str,
    limit: Option<Duration>,
) -> Result<Option<Finished>> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name} ({})", command.get_program().display()))?;
    let id = child.id();
    let ended = AtomicBool::new(false);
    let (output, peak) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(id, &ended));
        let output = collect(&mut child, begin, limit);
        ended.store(true, Ordering::Relaxed);
        (output, watcher.join().ok().flatten())
    });
    let Some(output) = output.with_context(|| format!("cannot wait for {name}"))? else {
        return Ok(None);
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.trim().lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{name} failed ({}): {}", output.status, tail.join("; "));
    }
    Ok(Some(Finished {
        stdout: output.stdout,
        time: output.time,
        peak,
    }))
}

struct Output {
    status: ExitStatus,
    time: Duration,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Reads both outputs until they end, so that the process never waits for a full pipe, then waits for it. `None` if it was ended
/// after `limit`.
fn collect(
    child: &mut Child,
    begin: Instant,
    limit: Option<Duration>,
) -> std::io::Result<Option<Output>> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let (stdout, stderr) = (scope.spawn(|| read(out)), scope.spawn(|| read(err)));
        let status = wait(child, begin, limit)?;
        let time = begin.elapsed();
        let text = |reader: thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            reader.join().unwrap_or_else(|_| Ok(Vec::new()))
        };
        let (stdout, stderr) = (text(stdout)?, text(stderr)?);
        Ok(status.map(|status| Output {
            status,
            time,
            stdout,
            stderr,
        }))
    })
}

/// Waits for the end of a process, or ends it after `limit`.
fn wait(
    child: &mut Child,
    begin: Instant,
    limit: Option<Duration>,
) -> std::io::Result<Option<ExitStatus>> {
    let Some(limit) = limit else {
        return child.wait().map(Some);
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn read(pipe: Option<impl std::io::Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The largest high-water mark seen until the process has `ended`.
fn watch(id: u32, ended: &AtomicBool) -> Option<u64> {
    let status = format!("/proc/{id}/status");
    let mut peak = None;
    while !ended.load(Ordering::Relaxed) {
        let seen = std::fs::read_to_string(&status).ok();
        peak = peak.max(seen.and_then(|text| high_water(&text)));
        thread::sleep(LOOK);
    }
    peak
}

/// Resident bytes of this process that are no pages of files; `None` where the system does not tell.
pub fn unshared() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let (own, shared) = (bytes(&status, "RssAnon:"), bytes(&status, "RssShmem:"));
    own?.checked_add(shared?)
}

/// `VmHWM` of /proc/…/status in bytes.
fn high_water(status: &str) -> Option<u64> {
    bytes(status, "VmHWM:")
}

/// A number of /proc/…/status in bytes.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_found() {
        let status = "Name:\tx\nVmPeak:\t  200 kB\nVmHWM:\t    12 kB\nVmRSS:\t 8 kB\n";
        assert_eq!(high_water(status), Some(12 * 1024));
        assert_eq!(high_water("Name:\tx\n"), None);
        assert_eq!(high_water("VmHWM:\t lots\n"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_is_run_to_its_end() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(&mut command, "the script")
        };
        let finished = shell("echo hello; sleep 0.05").unwrap();
        assert_eq!(finished.stdout, b"hello\n");
        assert!(finished.time >= Duration::from_millis(50));
        let mut slow = Command::new("sleep");
        let limit = Some(Duration::from_millis(20));
        let ended = run_within(slow.arg("60"), "sleep", limit).unwrap();
        assert!(ended.is_none(), "{ended:?}");
        let error = shell("echo why >&2; exit 3").unwrap_err().to_string();
        assert!(
            error.contains("the script failed") && error.ends_with("why"),
            "{error}"
        );
    }
}
