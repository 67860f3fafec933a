//! Whether data can become what is wanted where they lie, must be rewritten there, or must be copied; and doing it.

use super::{HostData, element};
use crate::BitNetDType;
use bitnet_core::pool::{Alignment, HybridMemoryPool, Movement, Tag};
use bitnet_core::{Device, Error, Result};
use std::fmt;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The elements.
    pub dtype: BitNetDType,
    /// Where they lie.
    pub device: Device,
    /// Whether they follow each other without gaps, row after row.
    pub contiguous: bool,
    /// Whether nobody else can see them, so that they may be overwritten.
    pub unique: bool,
    /// Address of the first, in bytes; only its alignment matters.
    pub address: usize,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The elements. Values are kept: floats round to nearest or, to integers, toward zero.
    pub dtype: BitNetDType,
    /// Where they shall lie.
    pub device: Device,
    /// Whether gaps are unwelcome.
    pub contiguous: bool,
    /// Whether they will be written to.
    pub writable: bool,
    /// The least alignment of the first, beside the elements' own.
    pub alignment: Alignment,
}

/// How a conversion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What happens to the bytes.
    pub movement: Movement,
    /// Why nothing cheaper will do.
    pub reason: Reason,
}

/// Why a conversion goes as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Source and target have the same bits.
    SameBits,
    /// The elements change, and fit where the old ones were.
    FitsInPlace,
    /// The devices differ.
    OtherDevice,
    /// The elements have gaps.
    Gaps,
    /// The first element is not aligned.
    Misaligned,
    /// Others can see the data.
    Shared,
    /// The new elements are wider than the old ones.
    Wider,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameBits => "source and target have the same bits",
            Self::FitsInPlace => "the new elements fit where the old ones were",
            Self::OtherDevice => "source and target are on different devices",
            Self::Gaps => "the elements have gaps between them",
            Self::Misaligned => "the first element is not aligned",
            Self::Shared => "others can see the data",
            Self::Wider => "the new elements are wider",
        })
    }
}

/// From a source to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// What there is.
    pub source: Source,
    /// What is wanted.
    pub target: Target,
}

impl Conversion {
    /// The cheapest way.
    pub fn plan(&self) -> Plan {
        let Self { source, target } = self;
        let same_bits = has_same_bits(source.dtype, target.dtype);
        let alignment = target.alignment.bytes().max(target.dtype.size());
        let plan = |movement, reason| Plan { movement, reason };
        let must_write = target.writable || !same_bits;
        if source.device != target.device {
            plan(Movement::Copy, Reason::OtherDevice)
        } else if !source.contiguous && (target.contiguous || !same_bits) {
            plan(Movement::Copy, Reason::Gaps)
        } else if !source.address.is_multiple_of(alignment) {
            plan(Movement::Copy, Reason::Misaligned)
        } else if must_write && !source.unique {
            plan(Movement::Copy, Reason::Shared)
        } else if same_bits {
            plan(Movement::ZeroCopy, Reason::SameBits)
        } else if target.dtype.size() > source.dtype.size() {
            plan(Movement::Copy, Reason::Wider)
        } else {
            plan(Movement::InPlace, Reason::FitsInPlace)
        }
    }
}

/// Whether every value of `from` converts to `to` without a change of its bits. Signs of bytes wrap.
fn has_same_bits(from: BitNetDType, to: BitNetDType) -> bool {
    use BitNetDType::{Bool, I8, U8};
    from == to || matches!((from, to), (I8 | U8 | Bool, I8 | U8))
}

impl HostData {
    /// These elements, which are `from`, as `to`, by the cheapest way; `writable` data are owned. Memory that is needed
    /// comes from `pool`, whose tracker counts the conversion.
    ///
    /// # Errors
    /// If the data are no whole number of elements, or memory is short.
    pub fn convert(
        self,
        from: BitNetDType,
        to: BitNetDType,
        writable: bool,
        pool: &HybridMemoryPool,
    ) -> Result<(Self, Plan)> {
        let len = self.len();
        if !len.is_multiple_of(from.size()) {
            return Err(Error::Shape {
                what: "data to convert".into(),
                expected: format!("whole elements of {from}"),
                found: format!("{len} bytes"),
            });
        }
        let count = len / from.size();
        let source = Source {
            dtype: from,
            device: Device::Cpu,
            contiguous: true,
            unique: matches!(self, Self::Owned(_)),
            address: self.as_ptr().addr(),
        };
        let target = Target {
            dtype: to,
            device: Device::Cpu,
            contiguous: true,
            writable,
            alignment: Alignment::new(to.size())?,
        };
        let plan = Conversion { source, target }.plan();
        let converted = match (plan.movement, self) {
            (Movement::ZeroCopy, data) => data,
            (Movement::InPlace, Self::Owned(mut buffer)) => {
                element::convert_in_place(&mut buffer, from, to);
                buffer.truncate(count * to.size());
                Self::Owned(buffer)
            }
            (_, data) => {
                let bytes = count.saturating_mul(to.size());
                let mut buffer = pool.buffer_uninit(bytes, Tag::Tensor)?;
                element::convert(&data, from, to, &mut buffer);
                Self::Owned(buffer)
            }
        };
        pool.zero_copy().record(plan.movement, converted.len());
        Ok((converted, plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet_core::Bytes;
    use half::f16;

    const SOURCE: Source = Source {
        dtype: BitNetDType::F32,
        device: Device::Cpu,
        contiguous: true,
        unique: true,
        address: 4096,
    };
    const TARGET: Target = Target {
        dtype: BitNetDType::F32,
        device: Device::Cpu,
        contiguous: true,
        writable: false,
        alignment: Alignment::LINE,
    };

    fn plan(source: Source, target: Target) -> (Movement, Reason) {
        let plan = Conversion { source, target }.plan();
        (plan.movement, plan.reason)
    }

    #[test]
    fn the_cheapest_way_is_found() {
        use BitNetDType::{Bool, F16, F32, I8, I64, U8};
        let source = |dtype| Source { dtype, ..SOURCE };
        let target = |dtype| Target { dtype, ..TARGET };
        assert_eq!(plan(SOURCE, TARGET), (Movement::ZeroCopy, Reason::SameBits));
        assert_eq!(plan(source(I8), target(U8)).0, Movement::ZeroCopy);
        assert_eq!(plan(source(Bool), target(U8)).0, Movement::ZeroCopy);
        assert_eq!(plan(source(U8), target(Bool)).0, Movement::InPlace);
        assert_eq!(
            plan(source(F32), target(F16)),
            (Movement::InPlace, Reason::FitsInPlace)
        );
        assert_eq!(
            plan(source(F32), target(I64)),
            (Movement::Copy, Reason::Wider)
        );
        let shared = Source {
            unique: false,
            ..SOURCE
        };
        assert_eq!(plan(shared, TARGET).0, Movement::ZeroCopy);
        assert_eq!(plan(shared, target(F16)), (Movement::Copy, Reason::Shared));
        let writable = Target {
            writable: true,
            ..TARGET
        };
        assert_eq!(plan(shared, writable), (Movement::Copy, Reason::Shared));
        assert_eq!(plan(SOURCE, writable).0, Movement::ZeroCopy);
        let gaps = Source {
            contiguous: false,
            ..SOURCE
        };
        assert_eq!(plan(gaps, TARGET), (Movement::Copy, Reason::Gaps));
        let view = Target {
            contiguous: false,
            ..TARGET
        };
        assert_eq!(plan(gaps, view).0, Movement::ZeroCopy);
        let odd = Source {
            address: 4098,
            ..SOURCE
        };
        assert_eq!(plan(odd, TARGET), (Movement::Copy, Reason::Misaligned));
    }

    #[test]
    fn the_plan_is_what_happens() {
        let pool = HybridMemoryPool::default();
        let values = [1.5f32, -2.0, 70000.0, f32::NAN, 0.1];
        let expected = values.map(f16::from_f32);
        let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(&values));
        let owned = pool.buffer_copy::<u8>(&bytes, Tag::Tensor).unwrap();
        let address = owned.as_ptr();
        let as_f16 = |data: HostData| {
            data.convert(BitNetDType::F32, BitNetDType::F16, false, &pool)
                .unwrap()
        };
        let (narrow, plan) = as_f16(HostData::Owned(owned));
        assert_eq!(plan.movement, Movement::InPlace);
        assert_eq!(narrow.as_ptr(), address);
        assert_eq!(narrow[..], bytemuck::cast_slice::<_, u8>(&expected)[..]);
        let (copied, plan) = as_f16(HostData::Shared(bytes.clone()));
        assert_eq!(plan.movement, Movement::Copy);
        assert_eq!(copied[..], narrow[..]);
        let (wide, plan) = narrow
            .convert(BitNetDType::F16, BitNetDType::F32, false, &pool)
            .unwrap();
        assert_eq!((plan.reason, wide.len()), (Reason::Wider, 20));
        let (same, plan) = HostData::Shared(bytes.clone())
            .convert(BitNetDType::F32, BitNetDType::F32, false, &pool)
            .unwrap();
        // A copy of bytes on the heap may lie anywhere.
        let aligned = bytes.as_ptr().addr().is_multiple_of(4);
        assert_eq!(plan.movement == Movement::ZeroCopy, aligned);
        assert_eq!(same.as_ptr() == bytes.as_ptr(), aligned);
        let stats = pool.zero_copy().stats();
        assert_eq!((stats.operations(), stats.in_place.operations), (4, 1));
        assert_eq!(stats.in_place.bytes, 10);
        let ragged = HostData::Shared(Bytes::from_static(&[1, 2, 3]));
        assert!(
            ragged
                .convert(BitNetDType::F16, BitNetDType::F32, false, &pool)
                .is_err()
        );
    }

    #[test]
    fn every_pair_converts_alike_in_place_and_by_copy() {
        let pool = HybridMemoryPool::default();
        let values: Vec<u8> = (0..=255).cycle().take(1024).collect();
        for from in BitNetDType::ALL {
            for to in BitNetDType::ALL {
                let mut copy = vec![0; values.len() / from.size() * to.size()];
                element::convert(&values, from, to, &mut copy);
                let owned = HostData::Owned(pool.buffer_copy(&values, Tag::Tensor).unwrap());
                let (converted, _) = owned.convert(from, to, true, &pool).unwrap();
                if has_same_bits(from, to) {
                    assert_eq!(converted[..], values[..], "{from} to {to}");
                } else {
                    assert_eq!(converted[..], copy[..], "{from} to {to}");
                }
            }
        }
    }
}
