//! What wgpu tells of a device's troubles, by callbacks.

use crate::gpu::failure::Failures;
use std::sync::Arc;

/// Listens to `device`.
pub(super) fn listen(device: &wgpu::Device) -> Arc<Failures> {
    let failures = Arc::new(Failures::default());
    let listener = Arc::clone(&failures);
    device.set_device_lost_callback(move |reason, message| {
        // Also called when the last handle is dropped; then nobody asks any more.
        listener.lose(&format!("{reason:?}: {message}"));
    });
    let listener = Arc::clone(&failures);
    device.on_uncaptured_error(Arc::new(move |error| match &error {
        wgpu::Error::OutOfMemory { .. } => listener.out_of_memory(error.to_string()),
        _ => listener.refuse(error.to_string()),
    }));
    failures
}
