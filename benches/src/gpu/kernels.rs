//! What each kernel takes, by the device's own clock: of a decoded token, and of a prompt.

use crate::FILES;
use anyhow::{Context, Result};
use bitnet::file::ModelFile;
use bitnet::{Model, ModelOptions, Session, Want};
use bitnet_benchmarks::report::{Report, Table};
use bitnet_core::gpu::{GpuOptions, KernelTime, WgpuBackend};
use bitnet_core::pending;
use std::path::Path;

/// Tokens that are decoded, and before them some for the clock of the device to rise.
const DECODED: usize = 64;
/// Tokens of the prompt.
const PROMPT: usize = 512;

/// Writes the times of the first file's kernels into the report; a note if the device keeps no time.
pub(crate) fn tell(path: &Path, adapter: Option<&str>, report: &mut Report) -> Result<()> {
    let options = GpuOptions {
        adapter: adapter.map(str::to_owned),
        timed: true,
        ..GpuOptions::default()
    };
    let backend = WgpuBackend::new(&options)?;
    let file = ModelFile::open(path)?;
    let model = Model::from_file_on(&file, backend.clone(), &ModelOptions::default(), |_, _| ())?;
    let layers = model.architecture().layers;
    let mut session = model.session()?;
    let times = |backend: &WgpuBackend| pending::now(backend.times());

    decode(&mut session)?;
    session.reset();
    times(&backend)?;
    decode(&mut session)?;
    let decoded = times(&backend)?;
    if decoded.is_empty() {
        report.note("The device does not tell how long its kernels take.");
        return Ok(());
    }
    let each: usize = decoded.iter().map(|time| time.dispatches).sum();
    let title = format!("Kernels of a decoded token, {}", FILES[0].0.name);
    let note = format!(
        "{:.1} dispatches a token, {layers} layers; mean of {DECODED} tokens one after the other, marks between the kernels \
         included, which slow them down.",
        each as f64 / DECODED as f64
    );
    report.tables.push(table(title, note, &decoded, DECODED));

    let prompt: Vec<u32> = (0..PROMPT as u32).collect();
    session.reset();
    session.forward(&prompt, Want::Nothing)?;
    session.reset();
    times(&backend)?;
    session.forward(&prompt, Want::Nothing)?;
    let read = times(&backend)?;
    let title = format!(
        "Kernels of a prompt of {PROMPT} tokens, {}",
        FILES[0].0.name
    );
    report
        .tables
        .push(table(title, "Run as one batch.".into(), &read, 1));
    Ok(())
}

fn decode(session: &mut Session) -> Result<()> {
    let mut next = 1;
    for _ in 0..DECODED {
        let top = session.forward_top(&[next], 1)?;
        next = top.first().context("no token is likeliest")?.id;
    }
    Ok(())
}

fn table(title: String, note: String, times: &[KernelTime], per: usize) -> Table {
    let mut table = Table::new(
        title,
        note,
        &["kernel and workgroups", "times", "µs", "µs each", "share"],
    );
    let all: f64 = times.iter().map(|time| time.seconds).sum();
    for time in times {
        let (seconds, count) = (
            time.seconds / per as f64,
            time.dispatches as f64 / per as f64,
        );
        table.row([
            time.kernel.clone(),
            format!("{count:.1}"),
            format!("{:.1}", 1e6 * seconds),
            format!("{:.2}", 1e6 * time.seconds / time.dispatches as f64),
            format!("{:.1} %", 100.0 * time.seconds / all),
        ]);
    }
    let microseconds = format!("{:.1}", 1e6 * all / per as f64);
    table.row(["all", "", &microseconds, "", "100 %"]);
    table
}
