//! The memory of a candle tensor, readable for as long as this holds it.

use bytemuck::cast_slice;
use candle_core::{CpuStorage, Storage, Tensor};
use parking_lot::RwLockReadGuard;
use self_cell::self_cell;

type Guard<'a> = RwLockReadGuard<'a, Storage>;

self_cell!(
    /// A tensor together with a reader's lock on its storage.
    struct Locked {
        owner: Tensor,
        #[covariant]
        dependent: Guard,
    }
);

/// All bytes of a tensor's storage, which nobody changes meanwhile.
pub(super) struct SharedStorage(Locked);

impl SharedStorage {
    /// Waits for whoever writes to the storage now.
    pub(super) fn of(tensor: Tensor) -> Self {
        Self(Locked::new(tensor, |tensor| tensor.storage_and_layout().0))
    }
}

impl AsRef<[u8]> for SharedStorage {
    /// Nothing of a storage that lies elsewhere or has elements that there is no type for here.
    fn as_ref(&self) -> &[u8] {
        match &**self.0.borrow_dependent() {
            Storage::Cpu(CpuStorage::F32(values)) => cast_slice(values),
            Storage::Cpu(CpuStorage::F16(values)) => cast_slice(values),
            Storage::Cpu(CpuStorage::BF16(values)) => cast_slice(values),
            Storage::Cpu(CpuStorage::U8(values)) => values,
            Storage::Cpu(CpuStorage::I32(values)) => cast_slice(values),
            Storage::Cpu(CpuStorage::I64(values)) => cast_slice(values),
            _ => &[],
        }
    }
}
