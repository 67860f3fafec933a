//! Commands on their way into one command buffer.
//!
//! All dispatches between two copies go into one compute pass, in which the device runs them one after the other where one
//! reads what another wrote.

use super::marks::Marks;
use super::readback::Readback;
use super::timings::Span;
use super::{Compiled, WgpuDriver};
use crate::gpu::driver::{Batch, Command};
use crate::gpu::kernel::Work;
use crate::{Pending, Result};
use std::collections::BTreeMap;

/// The fewest dispatches of one kernel that are timed together.
const LEAST_CHAIN: usize = 16;

/// A command buffer that is being put together.
pub(super) struct Encoding<'a> {
    driver: &'a WgpuDriver,
    encoder: wgpu::CommandEncoder,
    reads: Vec<Readback>,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(driver: &'a WgpuDriver) -> Self {
        Self {
            driver,
            encoder: driver.device.create_command_encoder(&Default::default()),
            reads: Vec::new(),
        }
    }

    /// Puts `commands` together and sends them.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused), [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub(super) fn run(
        mut self,
        commands: &[Command],
        batch: Batch,
    ) -> Result<Vec<Pending<Vec<u8>>>> {
        let marks = Marks::new(self.driver);
        let start = marks
            .as_ref()
            .and_then(|marks| marks.mark(&mut self.encoder));
        self.encode(commands)?;
        let marks = match marks {
            None => None,
            Some(mut marks) => {
                let dispatches = commands.iter().filter(|command| command.is_dispatch());
                let span = Span::batch(dispatches.count());
                marks.end(&mut self.encoder, start, span);
                self.repeat(commands, batch, &mut marks)?;
                Some(marks.read(self.driver, &mut self.encoder))
            }
        };
        let driver = self.driver;
        let submission = driver.queue.submit([self.encoder.finish()]);
        driver.failures.check()?;
        if let Some((spans, readback)) = marks {
            let bytes = readback.map(driver, submission.clone());
            let tick = f64::from(driver.queue.get_timestamp_period()) / 1e9;
            let read_back = commands.iter().map(Command::read_back).sum();
            driver.timings.keep(spans, read_back, (bytes, tick));
        }
        Ok(self
            .reads
            .into_iter()
            .map(|read| read.map(driver, submission.clone()))
            .collect())
    }

    fn encode(&mut self, commands: &[Command]) -> Result<()> {
        let mut rest = commands;
        while let Some(command) = rest.first() {
            match command {
                Command::Dispatch { .. } => {
                    let count = rest.iter().take_while(|c| c.is_dispatch()).count();
                    self.pass(&rest[..count])?;
                    rest = &rest[count..];
                    continue;
                }
                Command::Copy { from, to, bytes } => {
                    let source: &wgpu::Buffer = from.0.raw()?.object.get()?;
                    let target = to.0.raw()?.object.get()?;
                    let (at, to_at) = (from.1 as u64, to.1 as u64);
                    let bytes = *bytes as u64;
                    let encoder = &mut self.encoder;
                    encoder.copy_buffer_to_buffer(source, at, target, to_at, bytes);
                }
                Command::Read { from, bytes } => {
                    let from = from.raw()?.object.get()?;
                    let bytes = *bytes as u64;
                    let read = Readback::record(self.driver, &mut self.encoder, from, bytes);
                    self.reads.push(read);
                }
            }
            rest = &rest[1..];
        }
        Ok(())
    }

    /// Runs the dispatches of each kernel again, nothing else between them, marked before and after.
    fn repeat(&mut self, commands: &[Command], batch: Batch, marks: &mut Marks) -> Result<()> {
        let mut chains: BTreeMap<String, (Vec<&Command>, Work)> = BTreeMap::new();
        for command in commands {
            if let Command::Dispatch { pipeline, .. } = command
                && pipeline.kernel.repeats()
            {
                let (chain, work) = chains.entry(pipeline.kernel.label()).or_default();
                chain.push(command);
                let more = pipeline.kernel.work(batch);
                work.bytes += more.bytes;
                work.products += more.products;
            }
        }
        for (label, (chain, work)) in chains {
            // A few times, so that the marks themselves do not count.
            let times = LEAST_CHAIN.div_ceil(chain.len());
            let dispatches = times * chain.len();
            let all = chain.iter().copied().cycle().take(dispatches);
            let start = marks.mark(&mut self.encoder);
            self.pass(all)?;
            let span = Span::kernel(label, (chain.len(), times), work);
            marks.end(&mut self.encoder, start, span);
        }
        Ok(())
    }

    fn pass<'c>(&mut self, commands: impl IntoIterator<Item = &'c Command>) -> Result<()> {
        let mut pass = self.encoder.begin_compute_pass(&Default::default());
        let mut current = None;
        for command in commands {
            if let Command::Dispatch {
                pipeline,
                bindings,
                groups: [x, y, z],
            } = command
            {
                if current != Some(pipeline.id) {
                    let compiled: &Compiled = pipeline.object.get()?;
                    pass.set_pipeline(&compiled.pipeline);
                    current = Some(pipeline.id);
                }
                let group: &wgpu::BindGroup = bindings.object.get()?;
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(*x, *y, *z);
            }
        }
        Ok(())
    }
}
