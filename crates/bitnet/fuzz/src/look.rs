//! A look at every value and tensor of a GGUF file, as loaders take it. The test of hostile files uses it too.

use bitnet::I2sLayout;
use bitnet::file::Gguf;

/// Reads every value and tensor in every way that a loader does.
///
/// # Panics
/// If a tensor has rows beyond its data.
pub(crate) fn look_at(file: &Gguf) {
    for (key, value) in file.metadata() {
        let _ = value.to_string();
        let _ = (
            file.string(key),
            file.usize(key),
            file.f32(key),
            file.bool(key),
        );
        let _ = (file.f32s(key), file.i32s(key));
        if let Ok(Some(strings)) = file.strings(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
    for tensor in file.tensors() {
        let data = tensor.row_data();
        assert!(data.len() <= tensor.data.len());
        let _ = tensor.i2s_scale(file.name());
        if let Ok(format) = tensor.format(I2sLayout::A, file.name()) {
            let row = format.row_bytes(tensor.cols()).expect("whole blocks");
            assert_eq!(row * tensor.rows(), data.len());
        }
    }
}
