//! Operations of any backend beside the CPU's: what the tests of each of them share.

pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod harness;
pub(crate) mod head;
pub(crate) mod products;
pub(crate) mod sessions;
