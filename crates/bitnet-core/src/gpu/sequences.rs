//! State that all sequences on a device share: memory for keys and values, and for the rows of a batch, and the likeliest token of each.

use super::blocks::Slabs;
use super::device::Gpu;
use super::memory::GpuBuffer;
use super::scratch::Scratch;
use crate::{Error, Result, Tag};
use std::sync::{Arc, Mutex, PoisonError};

/// The most sequences at a time.
const MOST: u32 = 1 << 14;

/// State that sequences share as long as there are any.
pub(super) struct Sequences {
    pub(super) scratch: Arc<Scratch>,
    pub(super) slabs: Slabs,
    /// A word for each sequence: the token found likeliest after its last position.
    pub(super) likeliest: Arc<GpuBuffer>,
    places: Mutex<Places>,
}

/// Free places of likeliest tokens: some that were given back, and all from a first one on.
#[derive(Default)]
struct Places {
    free: Vec<u32>,
    next: u32,
}

/// The place of a sequence's likeliest token, free again when dropped.
pub(super) struct LikeliestPlace {
    pub(super) sequences: Arc<Sequences>,
    pub(super) index: u32,
}

impl Sequences {
    /// # Errors
    /// If memory is short.
    pub(super) fn new(gpu: &Gpu, warms_up: bool) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            scratch: Arc::new(Scratch::new(gpu, warms_up)?),
            slabs: Slabs::default(),
            likeliest: gpu.memory.take(4 * MOST as usize, Tag::Scratch)?,
            places: Mutex::default(),
        }))
    }

    /// A place for the likeliest token of another sequence.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there are too many sequences.
    pub(super) fn place(self: &Arc<Self>) -> Result<LikeliestPlace> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match places.free.pop() {
            Some(index) => index,
            None if places.next < MOST => {
                places.next += 1;
                places.next - 1
            }
            None => {
                return Err(Error::Unavailable {
                    what: "another sequence".into(),
                    why: format!("a GPU holds at most {MOST} at a time: drop some"),
                });
            }
        };
        Ok(LikeliestPlace {
            sequences: Arc::clone(self),
            index,
        })
    }
}

impl Drop for LikeliestPlace {
    fn drop(&mut self) {
        let places = &self.sequences.places;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        places.free.push(self.index);
    }
}
