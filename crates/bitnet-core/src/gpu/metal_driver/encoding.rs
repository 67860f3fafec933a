//! Commands on their way into one command buffer: runs of dispatches in one compute encoder, runs of copies in one blit
//! encoder.

use super::arriving;
use super::handles::{Buffer, Commands};
use super::{Bound, Compiled, MetalDriver};
use crate::gpu::driver::Command;
use crate::{Error, Pending, Result};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandEncoder, MTLComputeCommandEncoder, MTLSize,
};
use std::sync::Arc;

/// A command buffer that is being put together.
pub(super) struct Encoding<'a> {
    driver: &'a MetalDriver,
    commands: Commands,
    current: Current,
}

/// The encoder that is open.
enum Current {
    Nothing,
    Compute(Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>),
    Blit(Retained<ProtocolObject<dyn MTLBlitCommandEncoder>>),
}

fn refused(what: &str) -> Error {
    Error::Refused {
        why: format!("Metal gives no {what} encoder"),
    }
}

impl<'a> Encoding<'a> {
    pub(super) fn new(driver: &'a MetalDriver, commands: Commands) -> Self {
        Self {
            driver,
            commands,
            current: Current::Nothing,
        }
    }

    /// Closes the encoder that is open.
    fn end(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {}
            Current::Compute(encoder) => encoder.endEncoding(),
            Current::Blit(encoder) => encoder.endEncoding(),
        }
    }

    fn compute(&mut self) -> Result<Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>> {
        if let Current::Compute(encoder) = &self.current {
            return Ok(encoder.clone());
        }
        self.end();
        let encoder = self.commands.0.computeCommandEncoder();
        let encoder = encoder.ok_or_else(|| refused("compute"))?;
        self.current = Current::Compute(encoder.clone());
        Ok(encoder)
    }

    fn blit(&mut self) -> Result<Retained<ProtocolObject<dyn MTLBlitCommandEncoder>>> {
        if let Current::Blit(encoder) = &self.current {
            return Ok(encoder.clone());
        }
        self.end();
        let encoder = self.commands.0.blitCommandEncoder();
        let encoder = encoder.ok_or_else(|| refused("blit"))?;
        self.current = Current::Blit(encoder.clone());
        Ok(encoder)
    }

    /// Copies `bytes` bytes between buffers.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn copy(
        &mut self,
        from: (&Buffer, usize),
        to: (&Buffer, usize),
        bytes: usize,
    ) -> Result<()> {
        let encoder = self.blit()?;
        let fits = |(buffer, at): (&Buffer, usize)| at + bytes <= buffer.bytes();
        if !fits(from) || !fits(to) {
            return Err(Error::Refused {
                why: format!("a copy of {bytes} bytes goes past the end of a buffer"),
            });
        }
        // SAFETY: both ranges are within their buffers.
        unsafe {
            encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                from.0.raw(),
                from.0.offset(from.1),
                to.0.raw(),
                to.0.offset(to.1),
                bytes,
            );
        }
        Ok(())
    }

    /// Puts `commands` behind what is there, and sends all of it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn run(mut self, commands: &[Command]) -> Result<Vec<Pending<Vec<u8>>>> {
        let mut reads = Vec::new();
        self.encode(commands, &mut reads)?;
        let failures = Arc::clone(&self.driver.failures);
        let sent = self.send();
        let arrive = |staging| arriving::pending(&sent, staging, &failures);
        Ok(reads.into_iter().map(arrive).collect())
    }

    fn encode(&mut self, commands: &[Command], reads: &mut Vec<Buffer>) -> Result<()> {
        for command in commands {
            match command {
                Command::Dispatch {
                    pipeline,
                    bindings,
                    groups,
                } => {
                    let compiled: &Compiled = pipeline.object.get()?;
                    self.dispatch(compiled, bindings.object.get()?, *groups)?;
                }
                Command::Copy { from, to, bytes } => {
                    let source = from.0.raw()?.object.get()?;
                    let target = to.0.raw()?.object.get()?;
                    self.copy((source, from.1), (target, to.1), *bytes)?;
                }
                Command::Read { from, bytes } => {
                    let source = from.raw()?.object.get()?;
                    let staging = Buffer::new(&self.driver.device, *bytes);
                    let staging = staging.ok_or_else(|| Error::OutOfMemory {
                        what: "an answer of the GPU".into(),
                        bytes: *bytes,
                        in_use: 0,
                        limit: None,
                    })?;
                    self.copy((source, 0), (&staging, 0), *bytes)?;
                    reads.push(staging);
                }
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, compiled: &Compiled, bound: &Bound, groups: [u32; 3]) -> Result<()> {
        let encoder = self.compute()?;
        encoder.setComputePipelineState(&compiled.state);
        for (index, (buffer, at)) in bound.0.iter().enumerate() {
            // SAFETY: every index of the kernels is below the length of what it indexes, as the sizes of what is bound follow
            // from the same constants; tests run them on copies of just these sizes. The offset is a multiple of 256 within
            // the buffer, which the command buffer keeps.
            unsafe {
                encoder.setBuffer_offset_atIndex(Some(buffer.raw()), buffer.offset(*at), index)
            };
        }
        let [width, height, depth] = groups.map(|count| count as usize);
        let grid = MTLSize {
            width,
            height,
            depth,
        };
        encoder.dispatchThreadgroups_threadsPerThreadgroup(grid, compiled.threads);
        Ok(())
    }

    /// Sends it. What goes wrong on the device is told when it is waited for.
    pub(super) fn send(mut self) -> Commands {
        self.end();
        self.commands.0.commit();
        self.commands.clone()
    }
}

/// An encoder must be closed before it goes.
impl Drop for Encoding<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
