//! Models on the browser's GPU: what must be awaited.
//!
//! The device is opened before a file is fetched for it, so that nothing is fetched in vain.

use crate::engine::Engine;
use crate::failure::Result;
use crate::landing::Landing;
use crate::options::{self, Open, OpenGpu};
use bitnet_core::gpu::WgpuBackend;
use wasm_bindgen::prelude::wasm_bindgen;

/// The browser's GPU, open.
#[wasm_bindgen]
pub struct Gpu {
    backend: WgpuBackend,
}

#[wasm_bindgen]
impl Gpu {
    /// Opens the GPU. `options` is a JSON object with `software`, which is optional: whether software on the processor will do.
    ///
    /// # Errors
    /// If the browser has no WebGPU, or no adapter that will do.
    pub async fn open(options: String) -> Result<Gpu> {
        let options = options::parse::<OpenGpu>("options", &options)?.resolve();
        let backend = WgpuBackend::open(options).await.map_err(OpenGpu::failure)?;
        Ok(Self { backend })
    }
}

#[wasm_bindgen]
impl Engine {
    /// `open` on a GPU.
    ///
    /// # Errors
    /// As `open`; also if the GPU's memory is short.
    #[wasm_bindgen(js_name = openOnGpu)]
    pub fn open_on_gpu(landing: Landing, gpu: Gpu, options: &str) -> Result<Engine> {
        let options = options::parse::<Open>("options", options)?.resolve()?;
        Ok(Self::on(gpu.backend, (1, "wgsl"), landing, &options)?)
    }

    /// `prefill`, awaited.
    ///
    /// # Errors
    /// As `prefill`; also if the GPU fails.
    #[wasm_bindgen(js_name = prefillAsync)]
    pub async fn prefill_async(&mut self, most: usize) -> Result<usize> {
        Ok(self.read(most).await?)
    }

    /// `step`, awaited.
    ///
    /// # Errors
    /// If the GPU fails.
    #[wasm_bindgen(js_name = stepAsync)]
    pub async fn step_async(&mut self) -> Result<Option<String>> {
        Ok(self.write().await?)
    }

    /// `likeliest`, awaited.
    ///
    /// # Errors
    /// If the GPU fails.
    #[wasm_bindgen(js_name = likeliestAsync)]
    pub async fn likeliest_async(&mut self, count: usize, back: usize) -> Result<String> {
        Ok(self.what_follows(count, back).await?)
    }
}
