//! Memory of a device that is the processor, and copies of parts of it with a fence around.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What memory holds that nobody wrote: no number, and no index.
const UNWRITTEN: u8 = 0xff;
/// What lies beside a copy, in units of sixteen bytes.
const FENCE: usize = 16;
const FENCED: [u8; 16] = [0xa5; 16];

/// A buffer. Clones share it.
#[derive(Clone)]
pub(super) struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    /// `bytes` that nobody wrote.
    pub(super) fn unwritten(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![UNWRITTEN; bytes])))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        self.lock()[at..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn read(&self, at: usize, bytes: usize) -> Vec<u8> {
        self.lock()[at..][..bytes].to_vec()
    }
}

/// A copy of a part of a buffer, aligned to sixteen bytes, between fences.
pub(super) struct Copied {
    units: Vec<[u8; 16]>,
    bytes: usize,
}

impl Copied {
    pub(super) fn of(buffer: &Bytes, at: usize, bytes: usize) -> Self {
        let units = bytes.div_ceil(16);
        let mut copy = Self {
            units: vec![FENCED; units + 2 * FENCE],
            bytes,
        };
        let whole = copy.units.as_flattened_mut();
        whole[FENCE * 16..][..bytes].copy_from_slice(&buffer.lock()[at..][..bytes]);
        copy
    }

    /// Where it begins.
    pub(super) fn place(&mut self) -> *mut u8 {
        self.units[FENCE..].as_flattened_mut().as_mut_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.units.as_flattened()[FENCE * 16..][..self.bytes]
    }

    /// Whether the fences stand.
    pub(super) fn is_whole(&self) -> bool {
        let all = self.units.as_flattened();
        let (before, rest) = all.split_at(FENCE * 16);
        let after = &rest[self.bytes..];
        before.iter().chain(after).all(|byte| *byte == FENCED[0])
    }
}
