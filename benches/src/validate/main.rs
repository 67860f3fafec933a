//! validate
fn main() {}
