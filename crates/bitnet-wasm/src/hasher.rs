//! SHA-256 in pieces: browsers have it for whole buffers only, and a model file is not to be held twice.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use wasm_bindgen::prelude::wasm_bindgen;

/// A hash that is being computed.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Hasher(Sha256);

#[wasm_bindgen]
impl Hasher {
    /// The hash of nothing so far.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes, in hexadecimal.
    pub fn finish(self) -> String {
        hex(self.0)
    }
}

/// A finished hash in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    let mut hex = String::new();
    for byte in hash.finalize() {
        // A string takes everything.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_hash_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hasher.finish(), abc);
    }
}
