//! What each kernel takes, by the device's own clock: of a decoded token, and of a prompt.

use crate::FILES;
use anyhow::{Context, Result};
use bitnet::file::ModelFile;
use bitnet::{LmHeadMode, LogitsFor, Model, ModelOptions, Session};
use bitnet_benchmarks::process;
use bitnet_benchmarks::report::{Report, Table};
use bitnet_core::gpu::{Floors, GpuOptions, KernelTime, Times, WgpuBackend};
use bitnet_core::pending;
use std::path::Path;

/// Tokens that are decoded, and before them some for the clock of the device to rise.
const DECODED: usize = 64;
/// Tokens of the prompt.
const PROMPT: usize = 512;
/// Bytes that are read to see how fast the device's memory is: several times any cache.
const STREAMED: usize = 1 << 30;

/// What was measured of the kernels.
pub(crate) struct Measured {
    pub(crate) layers: usize,
    /// Of [`DECODED`] tokens.
    pub(crate) decoded: Times,
    /// Of one prompt.
    pub(crate) prompt: Times,
    /// Of tokens whose head was read as a whole.
    pub(crate) full: Times,
    pub(crate) floors: Floors,
    /// The most bytes of memory of its own that the process had more while it loaded the model than before, where the
    /// system tells.
    pub(crate) loading: Option<u64>,
}

/// Measures the kernels on a file; `None`, and a note, if the device keeps no time.
pub(crate) fn measure(
    path: &Path,
    adapter: Option<&str>,
    report: &mut Report,
) -> Result<Option<Measured>> {
    let options = GpuOptions {
        adapter: adapter.map(str::to_owned),
        timed: true,
        half_cache: true,
        ..GpuOptions::default()
    };
    let backend = WgpuBackend::new(&options)?;
    let file = ModelFile::open(path)?;
    let before = process::unshared();
    let mut most = before;
    let model = Model::from_file_on(&file, backend.clone(), &ModelOptions::default(), |_, _| {
        most = most.max(process::unshared());
    })?;
    let loading = before.zip(most).map(|(before, most)| most - before);
    let mut session = model.session()?;
    let times = |backend: &WgpuBackend| pending::now(backend.times());

    decode(&mut session)?;
    session.reset();
    times(&backend)?;
    decode(&mut session)?;
    let decoded = times(&backend)?;
    if decoded.kernels.is_empty() {
        report.note("The device does not tell how long its kernels take.");
        return Ok(None);
    }
    let prompt: Vec<u32> = (0..PROMPT as u32).collect();
    session.reset();
    session.forward(&prompt, LogitsFor::Nothing)?;
    session.reset();
    times(&backend)?;
    session.forward(&prompt, LogitsFor::Nothing)?;
    let prompt = times(&backend)?;
    drop((session, model));
    let options = ModelOptions {
        head: LmHeadMode::Full,
        ..ModelOptions::default()
    };
    let model = Model::from_file_on(&file, backend.clone(), &options, |_, _| ())?;
    let mut session = model.session()?;
    times(&backend)?;
    decode(&mut session)?;
    let full = times(&backend)?;
    Ok(Some(Measured {
        layers: model.architecture().layers,
        decoded,
        prompt,
        full,
        floors: pending::now(backend.floors(STREAMED))?,
        loading,
    }))
}

fn decode(session: &mut Session) -> Result<()> {
    let mut next = 1;
    for _ in 0..DECODED {
        let top = session.forward_top(&[next], 1)?;
        next = top.first().context("no token is likeliest")?.id;
    }
    Ok(())
}

impl Measured {
    /// Writes the times into the report.
    pub(crate) fn tell(&self, report: &mut Report) {
        let Floors {
            read,
            copy,
            dispatch,
        } = self.floors;
        report.note(format!(
            "The device reads {:.0} GB/s, copies {:.0} GB/s (read and written), and a kernel with nothing to do that waits for the \
             one before takes {:.2} µs, all in this run.",
            read / 1e9,
            copy / 1e9,
            1e6 * dispatch
        ));
        let batches = self.decoded.batches as f64;
        let title = format!("Kernels of a decoded token, {}", FILES[0].0.name);
        let note = format!(
            "{:.1} dispatches a token of {} layers, which take {:.0} µs together; mean of {DECODED} tokens one after the other. {CHAINS}",
            self.decoded.dispatches as f64 / batches,
            self.layers,
            1e6 * self.decoded.seconds / batches
        );
        report.tables.push(self.table(title, note, &self.decoded));
        let title = format!(
            "Kernels of a prompt of {PROMPT} tokens, {}",
            FILES[0].0.name
        );
        let note = format!(
            "Run as one batch, which takes {:.0} µs. {CHAINS}",
            1e6 * self.prompt.seconds / self.prompt.batches as f64
        );
        report.tables.push(self.table(title, note, &self.prompt));
    }

    fn table(&self, title: String, note: String, times: &Times) -> Table {
        let mut table = Table::new(
            title,
            note,
            &[
                "kernel",
                "times",
                "µs each",
                "µs in all",
                "GB/s",
                "of copying",
                "of reading",
                "TMAC/s",
                "what limits it",
            ],
        );
        let batches = times.batches as f64;
        let all: f64 = times.kernels.iter().map(|time| time.seconds).sum();
        for time in &times.kernels {
            let rate = time.bytes as f64 / time.seconds;
            let percent = |floor: f64| share(rate / floor, time.bytes);
            table.row([
                time.kernel.clone(),
                format!("{:.0}", time.dispatches as f64 / batches),
                format!("{:.2}", 1e6 * time.seconds / time.dispatches as f64),
                format!("{:.1}", 1e6 * time.seconds / batches),
                shown(time.bytes, rate / 1e9, 0),
                percent(self.floors.copy),
                percent(self.floors.read),
                shown(time.products, time.products as f64 / time.seconds / 1e12, 1),
                self.limit(time),
            ]);
        }
        let others = (times.seconds - all) / batches;
        table.row([
            "all others, and the difference to the whole",
            "",
            "",
            &format!("{:.1}", 1e6 * others),
            "",
            "",
            "",
            "",
            "",
        ]);
        table
    }

    /// What takes most of a kernel's time: the two floors that are known, or what is left.
    fn limit(&self, time: &KernelTime) -> String {
        let each = time.seconds / time.dispatches as f64;
        let memory = time.bytes as f64 / time.dispatches as f64 / self.floors.read;
        let start = self.floors.dispatch;
        let [memory_share, start_share] = [memory, start].map(|part| 100.0 * part / each);
        let rest = (100.0 - memory_share - start_share).max(0.0);
        let parts =
            format!("memory {memory_share:.0} %, start {start_share:.0} %, rest {rest:.0} %");
        // More products for a byte than any device has for one.
        let many = time.products > 64 * time.bytes;
        let largest = if memory_share >= start_share.max(rest) {
            "memory"
        } else if start_share >= rest {
            "starting and waiting for the kernel before"
        } else if many {
            "arithmetic"
        } else {
            "latency: what its steps wait for in turn"
        };
        format!("{largest} ({parts})")
    }
}

/// How the times of a table were taken.
const CHAINS: &str = "Each kernel by itself, its dispatches of all layers one after the other, each waiting for the one before; \
    bytes: weights, keys and values, counted once.";

fn shown(amount: u64, rate: f64, decimals: usize) -> String {
    if amount == 0 {
        "–".into()
    } else {
        format!("{rate:.decimals$}")
    }
}

fn share(share: f64, amount: u64) -> String {
    if amount == 0 {
        "–".into()
    } else {
        format!("{:.0} %", 100.0 * share)
    }
}
