//! The driver for Metal, with the kernels of `shaders-metal/`, compiled when they are first used.
//!
//! Memory is shared between processor and GPU. What the host writes goes through a buffer of its own and is copied by the
//! command buffer that is sent next, since batches that were sent before may still read what was there. A batch is one
//! command buffer with serial compute encoders: each kernel runs after those before it.

mod arriving;
mod encoding;
mod handles;

use super::GpuOptions;
use super::driver::{Batch, Command, Driver, Limits, Object, Opened, Part, Pipeline, RawBuffer};
use super::failure::Failures;
use super::kernel::Source;
use super::lanes::{INVOCATIONS, Lanes};
use crate::device::{Adapter, AdapterKind};
use crate::{Error, Pending, Result};
use encoding::Encoding;
use handles::{Buffer, Commands};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCommandQueue, MTLCompileOptions, MTLComputePipelineDescriptor, MTLComputePipelineState,
    MTLCopyAllDevices, MTLDevice, MTLGPUFamily, MTLLibrary, MTLPipelineOption, MTLSize,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads of a simdgroup, as the kernels take them for.
const LANES: usize = 32;
/// The most threadgroups along a dimension: Metal knows no limit of its own.
const WORKGROUPS: u32 = u32::MAX;

/// GPUs of Apple's own, from the M1 on: they have matrices of simdgroups.
const FAMILY: MTLGPUFamily = MTLGPUFamily::Apple7;

type Device = Retained<ProtocolObject<dyn MTLDevice>>;

/// A kernel compiled by Metal.
struct Compiled {
    state: Retained<ProtocolObject<dyn MTLComputePipelineState>>,
    threads: MTLSize,
    /// How many buffers it has.
    bindings: usize,
}

/// Bytes that wait to be copied by the next command buffer.
struct Write {
    from: Buffer,
    to: Buffer,
    at: usize,
}

/// Buffers of a kernel, in the order of its bindings, and where the part that it sees begins.
struct Bound(Vec<(Buffer, usize)>);

/// A device of Metal.
struct MetalDriver {
    device: Device,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    failures: Arc<Failures>,
    writes: Mutex<Vec<Write>>,
}

/// The devices of this machine that the kernels are written for.
pub(super) fn list() -> Vec<Adapter> {
    autoreleasepool(|_| {
        MTLCopyAllDevices()
            .iter()
            .filter(|device| device.supportsFamily(FAMILY))
            .map(|device| described(&device))
            .collect()
    })
}

fn described(device: &ProtocolObject<dyn MTLDevice>) -> Adapter {
    Adapter {
        name: device.name().to_string(),
        backend: "metal".into(),
        kind: if device.hasUnifiedMemory() {
            AdapterKind::Integrated
        } else {
            AdapterKind::Discrete
        },
        driver: String::new(),
    }
}

/// The device that `options` ask for: by its place, by a part of its name, or the first that has what the kernels need.
fn choose(options: &GpuOptions) -> Result<Device> {
    let devices: Vec<Device> = MTLCopyAllDevices().iter().collect();
    let wanted = options.adapter.as_deref();
    let fits = |(index, device): &(usize, &Device)| match wanted {
        None => device.supportsFamily(FAMILY),
        Some(wanted) => match wanted.parse::<usize>() {
            Ok(place) => place == *index,
            Err(_) => {
                let name = device.name().to_string().to_lowercase();
                name.contains(&wanted.to_lowercase())
            }
        },
    };
    let found = devices.iter().enumerate().find(fits);
    let unavailable = |why: String| Error::Unavailable {
        what: match wanted {
            Some(wanted) => format!("a GPU called {wanted:?} through Metal"),
            None => "a GPU through Metal".into(),
        },
        why,
    };
    match found {
        Some((_, device)) if device.supportsFamily(FAMILY) => Ok(device.clone()),
        Some((_, device)) => Err(unavailable(format!(
            "{} is no GPU of Apple's own, which the kernels are written for: use wgpu",
            device.name()
        ))),
        None => {
            let there: Vec<String> = devices.iter().map(|d| d.name().to_string()).collect();
            Err(unavailable(match there.as_slice() {
                [] => "Metal finds none".into(),
                _ => format!("there is {}", there.join(", ")),
            }))
        }
    }
}

/// Opens the device that `options` ask for.
///
/// # Errors
/// [`Error::Unavailable`] if there is none, or it is no GPU of Apple's.
pub(super) fn open(options: &GpuOptions) -> Result<Opened> {
    autoreleasepool(|_| {
        let device = choose(options)?;
        let summary = described(&device);
        let queue = device.newCommandQueue().ok_or_else(|| Error::Unavailable {
            what: summary.to_string(),
            why: "it gives no command queue".into(),
        })?;
        let failures = Arc::<Failures>::default();
        let largest = device.maxBufferLength();
        let binding = options.binding_limit.map_or(largest, |limit| {
            largest.min(usize::try_from(limit).unwrap_or(usize::MAX))
        });
        let memory = device.maxThreadgroupMemoryLength();
        Ok(Opened {
            driver: Arc::new(MetalDriver {
                device,
                queue,
                failures: Arc::clone(&failures),
                writes: Mutex::default(),
            }),
            summary,
            lanes: Lanes::of_apple(options.subgroups),
            limits: Limits {
                buffer: largest,
                binding,
                workgroups: WORKGROUPS,
                invocations: INVOCATIONS,
                workgroup_memory: u32::try_from(memory).unwrap_or(u32::MAX),
            },
            failures,
        })
    })
}

impl Driver for MetalDriver {
    fn name(&self) -> &'static str {
        "metal"
    }

    fn reserve(&self, bytes: usize) -> Option<RawBuffer> {
        let buffer = autoreleasepool(|_| Buffer::new(&self.device, bytes))?;
        Some(RawBuffer {
            object: Object::new(buffer),
            bytes,
        })
    }

    fn borrow(&self, bytes: &crate::Bytes) -> Option<RawBuffer> {
        let buffer = autoreleasepool(|_| Buffer::over(&self.device, bytes))?;
        Some(RawBuffer {
            object: Object::new(buffer),
            bytes: bytes.len(),
        })
    }

    fn write(&self, buffer: &RawBuffer, at: usize, bytes: &[u8]) -> Result<()> {
        let to: &Buffer = buffer.object.get()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let from = autoreleasepool(|_| Buffer::holding(&self.device, bytes));
        let Some(from) = from else {
            self.failures
                .out_of_memory(format!("{} bytes on their way", bytes.len()));
            return self.failures.check();
        };
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.push(Write {
            from,
            to: to.clone(),
            at,
        });
        Ok(())
    }

    fn flush(&self) {
        autoreleasepool(|_| {
            let outcome = self.begin().map(Encoding::send);
            match outcome {
                Ok(commands) => arriving::wait(&commands, &self.failures),
                Err(error) => self.failures.refuse(error.to_string()),
            }
        });
    }

    fn compile(&self, source: &Source) -> Result<Object> {
        let refused = |why: String| Error::Refused {
            why: format!("the kernel {} does not compile: {why}", source.name),
        };
        autoreleasepool(|_| {
            let options = MTLCompileOptions::new();
            // Its successor is not known to systems before macOS 15.
            #[expect(deprecated)]
            options.setFastMathEnabled(false);
            let text = NSString::from_str(&source.text);
            let library = self
                .device
                .newLibraryWithSource_options_error(&text, Some(&options))
                .map_err(|error| refused(error.localizedDescription().to_string()))?;
            let function = library
                .newFunctionWithName(&NSString::from_str(source.name))
                .ok_or_else(|| refused("there is no function of this name".into()))?;
            let threads = source.threads as usize;
            let descriptor = MTLComputePipelineDescriptor::new();
            descriptor.setComputeFunction(Some(&function));
            // Else a kernel that wants many registers may be given fewer threads.
            descriptor.setMaxTotalThreadsPerThreadgroup(threads);
            let state = self
                .device
                .newComputePipelineStateWithDescriptor_options_reflection_error(
                    &descriptor,
                    MTLPipelineOption::empty(),
                    None,
                )
                .map_err(|error| refused(error.localizedDescription().to_string()))?;
            let lanes = state.threadExecutionWidth();
            let most = state.maxTotalThreadsPerThreadgroup();
            if lanes != LANES || most < threads {
                return Err(refused(format!(
                    "it would run in simdgroups of {lanes} and threadgroups of up to {most}, and needs {LANES} and {threads}"
                )));
            }
            Ok(Object::new(Compiled {
                state,
                threads: MTLSize {
                    width: threads,
                    height: 1,
                    depth: 1,
                },
                bindings: source.bindings.len(),
            }))
        })
    }

    /// Metal itself looks at neither the number of buffers nor their sizes.
    fn bind(&self, pipeline: &Pipeline, parts: &[Part<'_>]) -> Result<Object> {
        let compiled: &Compiled = pipeline.object.get()?;
        let refused = |why: &str| Error::Refused {
            why: format!("the kernel {}: {why}", pipeline.kernel.name()),
        };
        if parts.len() != compiled.bindings {
            return Err(refused("it is given too few buffers, or too many"));
        }
        let bound = parts.iter().map(|part| {
            let buffer: &Buffer = part.buffer.object.get()?;
            if part.at + part.bytes > part.buffer.bytes.next_multiple_of(16) {
                return Err(refused("a buffer of it ends too soon"));
            }
            Ok((buffer.clone(), part.at))
        });
        Ok(Object::new(Bound(bound.collect::<Result<_>>()?)))
    }

    fn submit(&self, commands: &[Command], _: Batch) -> Result<Vec<Pending<Vec<u8>>>> {
        self.failures.check()?;
        autoreleasepool(|_| self.begin()?.run(commands))
    }

    fn destroy(&self) {
        self.failures.lose("it was destroyed");
    }
}

impl MetalDriver {
    /// A command buffer that begins with what the host wrote.
    fn begin(&self) -> Result<Encoding<'_>> {
        let writes = {
            let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *writes)
        };
        let commands = self.queue.commandBuffer().ok_or_else(|| Error::Refused {
            why: "Metal gives no command buffer".into(),
        })?;
        let mut encoding = Encoding::new(self, Commands(commands));
        for write in &writes {
            let bytes = write.from.bytes();
            encoding.copy((&write.from, 0), (&write.to, write.at), bytes)?;
        }
        Ok(encoding)
    }
}
