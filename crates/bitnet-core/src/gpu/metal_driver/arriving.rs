//! Bytes on their way from the device to the host.

use super::handles::{Buffer, Commands};
use crate::gpu::failure::Failures;
use crate::pending::Waiting;
use crate::{Pending, Result};
use objc2_metal::{MTLCommandBuffer, MTLCommandBufferError, MTLCommandBufferStatus};
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a command buffer copies into memory that nobody else has.
struct Arriving {
    commands: Commands,
    staging: Buffer,
    failures: Arc<Failures>,
}

/// The bytes of `staging`, once `commands`, which copy them, are done.
pub(super) fn pending(
    commands: &Commands,
    staging: Buffer,
    failures: &Arc<Failures>,
) -> Pending<Vec<u8>> {
    Pending::waiting(Box::new(Arriving {
        commands: commands.clone(),
        staging,
        failures: Arc::clone(failures),
    }))
}

/// Waits until `commands` are done, and keeps what went wrong.
pub(super) fn wait(commands: &Commands, failures: &Failures) {
    commands.0.waitUntilCompleted();
    if commands.0.status() != MTLCommandBufferStatus::Error {
        return;
    }
    let Some(error) = commands.0.error() else {
        return failures.lose("a command buffer failed");
    };
    let why = error.localizedDescription().to_string();
    let is = |code: MTLCommandBufferError| usize::try_from(error.code()) == Ok(code.0);
    if is(MTLCommandBufferError::OutOfMemory) {
        failures.out_of_memory(why);
    } else {
        // After a fault, a time-out or a removal nothing that is on the device can be relied on.
        failures.lose(&why);
    }
}

impl Waiting<Vec<u8>> for Arriving {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        wait(&self.commands, &self.failures);
        Poll::Ready(self.failures.check().map(|()| self.staging.contents()))
    }
}
