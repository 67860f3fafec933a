//! Sublayers of any backend compared with the CPU's: the tests that all backends share.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod feed_forward;
pub(crate) mod harness;
pub(crate) mod head;
pub(crate) mod model;
pub(crate) mod products;
pub(crate) mod sequences;
