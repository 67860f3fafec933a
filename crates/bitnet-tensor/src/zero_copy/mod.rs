//! Conversions of elements in host memory, by the cheapest way there is: where they lie, rewritten in place, or copied.
//!
//! A [`Conversion`] says beforehand what a hand-over of data will cost and why ([`Plan`]); [`HostData::convert`] does it, and
//! the [tracker](bitnet_core::pool::ZeroCopyTracker) of the pool counts it.

mod conversion;
mod data;
mod element;

pub use conversion::{Conversion, Plan, Reason, Source, Target};
pub use data::HostData;
