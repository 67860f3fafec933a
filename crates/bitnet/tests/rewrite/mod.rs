//! GGUF files written again with some of their metadata changed.

use bitnet::I2sLayout;
use bitnet::file::{Gguf, GgufWriter, Value};

/// `file` with `value` for `key`, or without the key.
pub(crate) fn with_key(file: &[u8], key: &str, value: Option<Value>) -> Vec<u8> {
    let file = Gguf::parse("whole", file.to_vec().into()).expect("a whole file");
    let mut writer = GgufWriter::new("changed");
    for (other, now) in file.metadata() {
        if other != key {
            writer.entry(other, now.clone());
        }
    }
    if let Some(value) = value {
        writer.entry(key, value);
    }
    for tensor in file.tensors() {
        let format = tensor.format(I2sLayout::A, "whole").expect("a format");
        let declared = writer.tensor(&tensor.name, &tensor.ne, format);
        declared.expect("a tensor of a whole file");
    }
    let mut data = writer.begin(Vec::new()).expect("a description");
    for tensor in file.tensors() {
        data.push(&tensor.name, &tensor.data).expect("its data");
    }
    data.finish().expect("a file")
}

/// Refuses that a file with a wrong or missing key opens, and an error that does not name the key and its value.
///
/// # Panics
/// If it does, or the error does not.
pub(crate) fn refused(file: &[u8], key: &str, value: Option<Value>) {
    let shown = match &value {
        // Long ones are named by their length.
        None | Some(Value::Array(_)) => String::new(),
        Some(value) => value.to_string().trim_matches('"').to_owned(),
    };
    let case = format!("{key} = {value:?}");
    let bytes = with_key(file, key, value);
    let model = bitnet::Model::from_bytes("changed", bytes, &bitnet::ModelOptions::default());
    let error = model.expect_err(&case).to_string();
    assert!(
        error.contains(key) && error.contains(&shown),
        "{case}: {error}"
    );
}
