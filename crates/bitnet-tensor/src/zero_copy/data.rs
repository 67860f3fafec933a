//! Bytes that a conversion takes and gives.

use bitnet_core::{Buffer, Bytes};
use std::ops::Deref;

/// Contiguous bytes in host memory.
#[derive(Debug)]
pub enum HostData {
    /// A pool's, and nobody else's.
    Owned(Buffer<u8>),
    /// To be read only: part of a mapped file, or shared with others.
    Shared(Bytes),
}

impl Deref for HostData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(buffer) => buffer,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<HostData> for Bytes {
    /// To be shared, without a copy.
    fn from(data: HostData) -> Self {
        match data {
            HostData::Owned(buffer) => buffer.into_bytes(),
            HostData::Shared(bytes) => bytes,
        }
    }
}
