//! The driver for tests without a Mac: the kernels of `shaders-metal/` compiled as C++ and run on the processor.
//!
//! The texts are those that Metal gets. `shaders-metal/shim/` stands for Metal's standard library, with the threads of a
//! threadgroup as fibers. Every dispatch is run with copies of what it is bound to, several times at first, its threads in
//! another order each time: a barrier that is missing shows as results that differ. What lies beside the copies must stay as
//! it was, and nothing that was not written is zero: an index that is wrong shows as well.

mod memory;
#[cfg(test)]
mod of_mlx;
mod program;
#[cfg(test)]
mod tests;
mod translation;

use super::GpuOptions;
use super::driver::{
    Batch, Bindings, Command, Driver, Limits, Object, Opened, Part, Pipeline, RawBuffer,
};
use super::failure::Failures;
use super::kernel::{Access, Source};
use super::lanes::{INVOCATIONS, Lanes};
use crate::device::{Adapter, AdapterKind};
use crate::{Error, Pending, Result};
use memory::{Bytes, Copied};
use program::{Compiler, Program};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Orders in which the threads of a dispatch are run: upwards, downwards, at random.
const ORDERS: [u32; 3] = [0, 1, 2];
/// Dispatches of a kernel that are run in every order. Those after them are run in one, another one each time.
const THOROUGH: usize = 6;

/// What the largest vector of a kernel is aligned to.
const ALIGNMENT: usize = 16;

struct ShimDriver {
    compiler: Compiler,
    failures: Arc<Failures>,
    largest: usize,
}

/// A kernel compiled as C++.
struct Compiled {
    program: Program,
    bindings: &'static [Access],
    threads: u32,
    /// How often it was dispatched.
    dispatches: AtomicUsize,
}

/// A part of a buffer that a kernel is bound to.
struct Bound {
    buffer: Bytes,
    at: usize,
    bytes: usize,
}

/// Opens it.
///
/// # Errors
/// [`Error::Unavailable`] if there is no clang.
pub(super) fn open(options: &GpuOptions) -> Result<Opened> {
    let compiler = Compiler::find()?;
    let failures = Arc::<Failures>::default();
    let limits = Limits {
        buffer: usize::MAX / 2,
        binding: options.binding_limit.map_or(usize::MAX / 2, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX / 2)
        }),
        workgroups: u32::MAX,
        invocations: INVOCATIONS,
        workgroup_memory: 32 << 10,
    };
    Ok(Opened {
        summary: Adapter {
            name: "Metal's kernels as C++".into(),
            backend: "metal-shim".into(),
            kind: AdapterKind::Software,
            driver: compiler.version().into(),
        },
        driver: Arc::new(ShimDriver {
            compiler,
            failures: Arc::clone(&failures),
            largest: limits.buffer,
        }),
        lanes: Lanes::of_apple(options.subgroups),
        limits,
        failures,
    })
}

impl Driver for ShimDriver {
    fn name(&self) -> &'static str {
        "metal-shim"
    }

    fn reserve(&self, bytes: usize) -> Option<RawBuffer> {
        (bytes <= self.largest).then(|| RawBuffer {
            object: Object::new(Bytes::unwritten(bytes)),
            bytes,
        })
    }

    /// What Metal could see where it lies; here it is copied, as everything that a kernel is bound to.
    fn borrow(&self, bytes: &crate::Bytes) -> Option<RawBuffer> {
        if !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return None;
        }
        let buffer = self.reserve(bytes.len())?;
        self.write(&buffer, 0, bytes).ok()?;
        Some(buffer)
    }

    fn write(&self, buffer: &RawBuffer, at: usize, bytes: &[u8]) -> Result<()> {
        let buffer: &Bytes = buffer.object.get()?;
        buffer.write(at, bytes);
        Ok(())
    }

    fn flush(&self) {}

    fn compile(&self, source: &Source) -> Result<Object> {
        Ok(Object::new(Compiled {
            program: self.compiler.compile(source)?,
            bindings: source.bindings,
            threads: source.threads,
            dispatches: AtomicUsize::new(0),
        }))
    }

    fn bind(&self, _: &Pipeline, parts: &[Part<'_>]) -> Result<Object> {
        let bound = parts.iter().map(|part| {
            Ok(Bound {
                buffer: part.buffer.object.get::<Bytes>()?.clone(),
                at: part.at,
                bytes: part.bytes.min(part.buffer.bytes - part.at),
            })
        });
        Ok(Object::new(bound.collect::<Result<Vec<Bound>>>()?))
    }

    fn submit(&self, commands: &[Command], _: Batch) -> Result<Vec<Pending<Vec<u8>>>> {
        self.failures.check()?;
        let mut reads = Vec::new();
        for command in commands {
            match command {
                Command::Dispatch {
                    pipeline,
                    bindings,
                    groups,
                } => dispatch(pipeline, bindings, *groups)?,
                Command::Copy { from, to, bytes } => {
                    let source: &Bytes = from.0.raw()?.object.get()?;
                    let target: &Bytes = to.0.raw()?.object.get()?;
                    target.write(to.1, &source.read(from.1, *bytes));
                }
                Command::Read { from, bytes } => {
                    let from: &Bytes = from.raw()?.object.get()?;
                    reads.push(Pending::ready(from.read(0, *bytes)));
                }
            }
        }
        Ok(reads)
    }

    fn destroy(&self) {
        self.failures.lose("it was destroyed");
    }
}

/// Runs a kernel, the first times in every order, and stores what it wrote.
fn dispatch(pipeline: &Pipeline, bindings: &Bindings, groups: [u32; 3]) -> Result<()> {
    let compiled: &Compiled = pipeline.object.get()?;
    let bound: &Vec<Bound> = bindings.object.get()?;
    let refused = |why: &str| Error::Refused {
        why: format!(
            "the kernel {} for {groups:?}: {why}",
            pipeline.kernel.name()
        ),
    };
    let dispatches = compiled.dispatches.fetch_add(1, Ordering::Relaxed);
    let only = ORDERS[dispatches % ORDERS.len()];
    let mut outcome: Option<Vec<Copied>> = None;
    for order in ORDERS {
        if dispatches >= THOROUGH && order != only {
            continue;
        }
        let mut copies: Vec<Copied> = bound
            .iter()
            .map(|bound| Copied::of(&bound.buffer, bound.at, bound.bytes))
            .collect();
        let places = copies.iter_mut().map(Copied::place).collect();
        let run = compiled
            .program
            .run(places, groups, compiled.threads, order);
        run.map_err(|complaint| refused(&complaint))?;
        if !copies.iter().all(Copied::is_whole) {
            return Err(refused("it wrote beside a buffer"));
        }
        match &outcome {
            None => outcome = Some(copies),
            Some(first) => {
                let pairs = first.iter().zip(&copies);
                if let Some(binding) = pairs.into_iter().position(|(a, b)| a.bytes() != b.bytes()) {
                    return Err(refused(&format!(
                        "buffer {binding} depends on the order of its threads"
                    )));
                }
            }
        }
    }
    let written = outcome.iter().flatten().zip(bound).zip(compiled.bindings);
    for ((copy, bound), access) in written {
        if *access == Access::Write {
            bound.buffer.write(bound.at, copy.bytes());
        }
    }
    Ok(())
}
