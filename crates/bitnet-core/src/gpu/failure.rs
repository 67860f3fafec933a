//! What went wrong on a device, which it tells by callbacks, kept until somebody can be told.

use crate::{Error, Result};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The troubles of one device.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lost: OnceLock<String>,
    first: Mutex<Option<Failure>>,
}

#[derive(Debug)]
enum Failure {
    OutOfMemory(String),
    Refused(String),
}

impl Failures {
    /// Listens to `device`.
    pub(super) fn of(device: &wgpu::Device) -> Arc<Self> {
        let failures = Arc::new(Self::default());
        let listener = Arc::clone(&failures);
        device.set_device_lost_callback(move |reason, message| {
            // Also called when the last handle is dropped; then nobody asks any more.
            listener.lose(&format!("{reason:?}: {message}"));
        });
        let listener = Arc::clone(&failures);
        device.on_uncaptured_error(Arc::new(move |error| listener.keep(&error)));
        failures
    }

    /// The device is gone.
    pub(super) fn lose(&self, why: &str) {
        let _ = self.lost.set(why.trim_end_matches([' ', ':']).to_owned());
    }

    fn keep(&self, error: &wgpu::Error) {
        tracing::error!("the GPU refused: {error}");
        let failure = match error {
            wgpu::Error::OutOfMemory { .. } => Failure::OutOfMemory(error.to_string()),
            _ => Failure::Refused(error.to_string()),
        };
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    /// Whether the device works.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] for ever after a loss; another failure is told once.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(why) = self.lost.get() {
            return Err(Error::DeviceLost { why: why.clone() });
        }
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        match first.take() {
            None => Ok(()),
            Some(Failure::OutOfMemory(why)) => Err(Error::OutOfMemory {
                what: format!("the GPU ({why})"),
                bytes: 0,
                in_use: 0,
                limit: None,
            }),
            Some(Failure::Refused(why)) if why.to_lowercase().contains("device is lost") => {
                Err(Error::DeviceLost { why })
            }
            Some(Failure::Refused(why)) => Err(Error::Refused { why }),
        }
    }

    /// What to say when the device gave no answer.
    pub(super) fn silent(&self, what: &str) -> Error {
        match self.check() {
            Err(error) => error,
            Ok(()) => Error::DeviceLost { why: what.into() },
        }
    }
}
