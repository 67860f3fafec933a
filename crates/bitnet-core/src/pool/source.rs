//! Where memory comes from: whole regions of one place, such as the host's memory.
//!
//! [`BlockSource`] is all that a place must provide for [`Regions`](super::Regions) to hand its memory out again and
//! again under one limit and one account.

use std::ptr::NonNull;

/// A place that memory can be taken from, in whole regions.
pub trait BlockSource: Send + Sync {
    /// Memory of this place, given back when dropped.
    type Region: Send;

    /// The place's name in reports and errors.
    fn place(&self) -> String;
    /// Regions are whole multiples of this many bytes.
    fn granularity(&self) -> usize;
    /// A region of `bytes`, a multiple of the granularity; `None` if there is no such memory.
    fn reserve(&self, bytes: usize) -> Option<Self::Region>;
    /// The size of a region in bytes.
    fn size(&self, region: &Self::Region) -> usize;
}

/// The memory of the process. Regions begin zeroed, page-aligned, and take no physical memory until touched.
#[derive(Debug, Clone, Copy)]
pub struct HostMemory {
    /// Ask for huge pages behind regions of 2 MiB and more, where the system has them.
    pub huge_pages: bool,
}

/// The alignment of every region, and what their sizes are multiples of.
pub(super) const PAGE: usize = 4096;
/// The size of a huge page.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// Memory of the process, given back to the system when dropped.
#[derive(Debug)]
pub struct HostRegion {
    start: Address,
    len: usize,
    #[cfg(not(target_family = "wasm"))]
    _mapping: memmap2::MmapMut,
}

impl HostRegion {
    /// Its first byte. All bytes are initialised.
    pub(super) fn start(&self) -> Address {
        self.start
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The addresses of the blocks of `size` bytes that fit in it.
    pub(super) fn blocks(&self, size: usize) -> impl DoubleEndedIterator<Item = Address> {
        let start = self.start.0;
        (0..self.len / size).map(move |index| {
            // SAFETY: the offset is below `len`, and the region is one allocation.
            Address(unsafe { start.add(index * size) })
        })
    }
}

/// An address in a region of host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(NonNull<u8>);

// SAFETY: an address gives no access by itself; who may use the bytes behind it is settled by the pool, which hands
// a block to one owner at a time.
unsafe impl Send for Address {}
// SAFETY: as for Send: sharing the number shares no access.
unsafe impl Sync for Address {}

impl Address {
    pub(super) fn pointer(self) -> NonNull<u8> {
        self.0
    }

    /// As a number, for looking it up.
    pub(super) fn number(self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl BlockSource for HostMemory {
    type Region = HostRegion;

    fn place(&self) -> String {
        "host".into()
    }

    fn granularity(&self) -> usize {
        PAGE
    }

    #[cfg(not(target_family = "wasm"))]
    fn reserve(&self, bytes: usize) -> Option<HostRegion> {
        let mut mapping = memmap2::MmapMut::map_anon(bytes).ok()?;
        #[cfg(target_os = "linux")]
        if self.huge_pages && bytes >= HUGE_PAGE && cfg!(not(miri)) {
            // Advice: a kernel without huge pages maps small ones, and Miri knows no `madvise`.
            let _ = mapping.advise(memmap2::Advice::HugePage);
        }
        let start = Address(NonNull::new(mapping.as_mut_ptr())?);
        Some(HostRegion {
            start,
            len: bytes,
            _mapping: mapping,
        })
    }

    #[cfg(target_family = "wasm")]
    fn reserve(&self, bytes: usize) -> Option<HostRegion> {
        let layout = std::alloc::Layout::from_size_align(bytes, PAGE).ok()?;
        if bytes == 0 {
            return None;
        }
        // SAFETY: the layout's size is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        Some(HostRegion {
            start: Address(NonNull::new(start)?),
            len: bytes,
        })
    }

    fn size(&self, region: &HostRegion) -> usize {
        region.len
    }
}

#[cfg(target_family = "wasm")]
impl Drop for HostRegion {
    fn drop(&mut self) {
        if let Ok(layout) = std::alloc::Layout::from_size_align(self.len, PAGE) {
            // SAFETY: `reserve` allocated this address with this very layout.
            unsafe { std::alloc::dealloc(self.start.0.as_ptr(), layout) }
        }
    }
}
