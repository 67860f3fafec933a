//! What went wrong on a device, which it may tell at any time, kept until somebody can be told.

use crate::{Error, Result};
use std::sync::{Mutex, OnceLock, PoisonError};

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
    /// The device is gone.
    pub(super) fn lose(&self, why: &str) {
        let _ = self.lost.set(why.trim_end_matches([' ', ':']).to_owned());
    }

    /// The device has no memory for something.
    pub(super) fn out_of_memory(&self, why: String) {
        self.keep(Failure::OutOfMemory(why));
    }

    /// The device does not do something.
    pub(super) fn refuse(&self, why: String) {
        self.keep(Failure::Refused(why));
    }

    fn keep(&self, failure: Failure) {
        tracing::error!("the GPU refused: {failure:?}");
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
}
