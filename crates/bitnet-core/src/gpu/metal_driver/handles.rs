//! Metal's objects that may go from thread to thread.

use crate::Bytes;
use block2::RcBlock;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLCommandBuffer, MTLDevice, MTLResourceOptions};
use std::ffi::c_void;
use std::ptr::NonNull;

/// What the largest vector of a kernel is aligned to.
const ALIGNMENT: usize = 16;

/// Bytes of a page of this system.
fn page_bytes() -> Option<usize> {
    // SAFETY: it takes nothing and gives a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two())
}

/// Memory that processor and GPU share. Clones are the same memory.
#[derive(Clone)]
pub(super) struct Buffer {
    raw: Retained<ProtocolObject<dyn MTLBuffer>>,
    /// Where in it this buffer begins.
    first: usize,
}

// SAFETY: Metal's buffers may be retained, bound and released by any thread. What is in one is touched by the processor only
// before it is first sent and after the command buffer that writes it is done.
unsafe impl Send for Buffer {}
// SAFETY: as above; nothing of it changes through a shared reference.
unsafe impl Sync for Buffer {}

/// A command buffer that was sent, or will be by the thread that fills it.
#[derive(Clone)]
pub(super) struct Commands(pub(super) Retained<ProtocolObject<dyn MTLCommandBuffer>>);

// SAFETY: after it was sent a command buffer is only waited for and asked for its state, which any thread may do.
unsafe impl Send for Commands {}
// SAFETY: as above.
unsafe impl Sync for Commands {}

impl Buffer {
    /// Memory of any value.
    pub(super) fn new(device: &ProtocolObject<dyn MTLDevice>, bytes: usize) -> Option<Self> {
        device
            .newBufferWithLength_options(bytes, MTLResourceOptions::StorageModeShared)
            .map(|raw| Self { raw, first: 0 })
    }

    /// A copy of `bytes`, of which there are some.
    pub(super) fn holding(device: &ProtocolObject<dyn MTLDevice>, bytes: &[u8]) -> Option<Self> {
        let place = NonNull::from(bytes).cast::<c_void>();
        // SAFETY: `bytes` are valid for reads while they are copied.
        unsafe {
            device.newBufferWithBytes_length_options(
                place,
                bytes.len(),
                MTLResourceOptions::StorageModeShared,
            )
        }
        .map(|raw| Self { raw, first: 0 })
    }

    /// The memory of `bytes`, which lie in a mapped file, for kernels that only read. The pages are Metal's to see until the
    /// last command buffer that may use them is done; `bytes` are held as long.
    pub(super) fn over(device: &ProtocolObject<dyn MTLDevice>, bytes: &Bytes) -> Option<Self> {
        let page = page_bytes()?;
        let begin = bytes.as_ptr().addr();
        let first = begin % page;
        if bytes.is_empty() || !first.is_multiple_of(ALIGNMENT) {
            return None;
        }
        let length = (first + bytes.len()).next_multiple_of(page);
        let place = bytes.as_ptr().wrapping_sub(first).cast_mut();
        let kept = bytes.clone();
        let give_back = RcBlock::new(move |_: NonNull<c_void>, _: usize| {
            // The block goes with the buffer, and takes them along.
            let _held = &kept;
        });
        // SAFETY: whole pages, each with some of `bytes` in it, which the block holds. Nothing is written through the buffer:
        // it is bound where kernels read. What the block holds may be released by any thread.
        let raw = unsafe {
            device.newBufferWithBytesNoCopy_length_options_deallocator(
                NonNull::new(place)?.cast::<c_void>(),
                length,
                MTLResourceOptions::StorageModeShared,
                Some(&give_back),
            )
        }?;
        Some(Self { raw, first })
    }

    /// Where in [`raw`](Self::raw) byte `at` of this buffer lies.
    pub(super) fn offset(&self, at: usize) -> usize {
        self.first + at
    }

    pub(super) fn raw(&self) -> &ProtocolObject<dyn MTLBuffer> {
        &self.raw
    }

    pub(super) fn bytes(&self) -> usize {
        self.raw.length() - self.first
    }

    /// What is in it, once the command buffer that writes it is done.
    pub(super) fn contents(&self) -> Vec<u8> {
        let place = self.raw.contents().cast::<u8>();
        // SAFETY: shared memory of this length, whole and initialised by the copy that was waited for.
        unsafe { std::slice::from_raw_parts(place.as_ptr(), self.bytes()) }.to_vec()
    }
}
