//! Where compiled kernels are kept from one program to the next.
//!
//! Drivers that take it (Vulkan's) hand out what they compiled, and take it back: one file for an adapter in the user's cache
//! folder. It begins with a checksum, and is left alone when anything about it is odd. Browsers keep what they compile
//! themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the device needs to hand out what it compiled.
pub(super) const FEATURES: wgpu::Features = wgpu::Features::PIPELINE_CACHE;

/// The most bytes of a file that is read.
const LONGEST: u64 = 256 << 20;
/// Bytes of the checksum.
const SUM: usize = 8;

/// A driver's own cache and its file.
pub(super) struct Kept {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Bytes that the file has.
    stored: AtomicUsize,
}

impl Kept {
    /// `None` if the driver hands out nothing, or the platform names no cache folder.
    pub(super) fn of(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<Self> {
        if !device.features().contains(FEATURES) {
            return None;
        }
        let name = wgpu::util::pipeline_cache_key(info)?;
        let folder = directories::BaseDirs::new()?.cache_dir().join("bitnet");
        let path = folder.join(name);
        let data = read(&path);
        // SAFETY: the bytes are what `get_data` gave to `store`, which wrote this file, whole or not at all, behind their
        // checksum, which is right. The driver looks for its own name and version in them.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: None,
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(Self {
            cache,
            path,
            stored: AtomicUsize::new(data.map_or(0, |data| data.len())),
        })
    }

    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub(super) fn store(&self) {
        let Some(data) = self.cache.get_data() else {
            return;
        };
        if data.len() <= self.stored.swap(data.len(), Ordering::Relaxed) {
            return;
        }
        if let Err(error) = write(&self.path, &data) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    sum.to_le_bytes()
}

/// What was kept, if there is a file and it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::metadata(path).ok()?.len();
    if bytes > LONGEST {
        return None;
    }
    let mut file = fs::read(path).ok()?;
    let data = file.split_off(SUM.min(file.len()));
    (file == checksum(&data)).then_some(data)
}

fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = checksum(data).to_vec();
    file.extend_from_slice(data);
    let written = fs::write(&partial, file).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep").join("cache");
        assert_eq!(read(&path), None);
        write(&path, b"compiled").expect("written");
        assert_eq!(read(&path).as_deref(), Some(&b"compiled"[..]));
        let mut bytes = fs::read(&path).expect("a file");
        bytes[9] ^= 1;
        fs::write(&path, &bytes).expect("written");
        assert_eq!(read(&path), None);
        fs::write(&path, b"short").expect("written");
        assert_eq!(read(&path), None);
    }
}
