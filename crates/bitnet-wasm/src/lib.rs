//! BitNet-Rust for the browser: a thin skin of wasm-bindgen over the crate `bitnet`.
//!
//! One WebAssembly instance, in a Worker of its own, holds one model. The Worker hands the file over in pieces
//! ([`Landing`]), opens it ([`Engine`]), and then asks for one piece of text after another: no call goes back to JavaScript
//! while tokens are computed, but for texts of a given form, whose next tokens the module of constraints
//! (`crates/bitnet-wasm-constraints`) knows. Options and reports are JSON, once for each generation; text is the only thing that crosses
//! for each token. Ending the Worker gives all memory back.
//!
//! | piece | what it is |
//! | --- | --- |
//! | [`Landing`] | memory that a model file is written into, chunk by chunk, where it then stays |
//! | [`Engine`] | an open model, its one session, and the generation under way |
//! | [`Hasher`] | SHA-256 in pieces, which browsers do not have |
//! | `Gpu` | the browser's GPU (only in the build for it) |
//! | `saved` | the session in a file, written and read by functions of JavaScript |
//! | `threads` | threads for rayon, run by Workers (only in builds with shared memory) |

mod engine;
mod failure;
mod form;
#[cfg(feature = "wgpu")]
mod gpu;
mod hasher;
mod inspect;
mod landing;
mod options;
mod reply;
mod report;
mod saved;
#[cfg(target_feature = "atomics")]
mod threads;

pub use engine::Engine;
#[cfg(feature = "wgpu")]
pub use gpu::Gpu;
pub use hasher::Hasher;
pub use landing::Landing;
pub use reply::Reply;

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(message: &str);
}

/// Runs when the module has been instantiated: faults of the program then say on the console where they are, before the
/// browser says that an unreachable instruction was reached. The npm package's builds leave that out, as they do with all
/// that a panic would print.
#[cfg(target_family = "wasm")]
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}

/// The kernels that this build has: `simd128` or `relaxed`.
#[wasm_bindgen]
pub fn isa() -> String {
    bitnet::Isa::best().name().to_owned()
}

/// Bytes of this instance's memory, used or not.
#[wasm_bindgen(js_name = memoryBytes)]
pub fn memory_bytes() -> f64 {
    const PAGE: usize = 1 << 16;
    #[cfg(target_family = "wasm")]
    let pages = core::arch::wasm32::memory_size::<0>();
    #[cfg(not(target_family = "wasm"))]
    let pages = 0_usize;
    (pages as f64) * (PAGE as f64)
}
