//! What the reader accepts and what it refuses, and with which words.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::file::ModelFile;

/// A file of this header and so many bytes of data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

fn parse(header: &str, data: usize) -> Result<SafeTensorsModel> {
    SafeTensorsModel::parse("raw", Bytes::from(raw(header, data)), json!({}))
}

#[track_caller]
fn refused(header: &str, data: usize, with: &str) {
    let message = parse(header, data).unwrap_err().to_string();
    assert!(
        message.starts_with("raw: ") && message.contains(with),
        "{message}"
    );
}

/// A header of one tensor.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn reads_tensors_in_any_order() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"U8","shape":[2,3],"data_offsets":[4,10]},
        "a":{"shape":[],"data_offsets":[0,4],"dtype":"F32","more":[{}]},
        "e":{"dtype":"F16","shape":[0,5],"data_offsets":[10,10]}}  "#;
    let model = parse(header, 10).unwrap();
    assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b", "e"]);
    let b = model.tensor("b").unwrap();
    assert_eq!(
        (b.dtype, &b.shape[..], b.data.len()),
        (Dtype::U8, &[2, 3][..], 6)
    );
    assert_eq!(model.tensor("a").unwrap().data.len(), 4);
    assert!(model.tensor("c").is_none());
    assert!(model.sibling("tokenizer.json").unwrap().is_none());
}

#[test]
fn refuses_headers_that_are_none() {
    let message = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        SafeTensorsModel::parse("raw", bytes, json!({}))
            .unwrap_err()
            .to_string()
    };
    assert!(message(b"1234567").contains("the header length"));
    assert!(message(&[0xff; 20]).contains("the header length: expected at most 12"));
    assert!(message(&[100, 0, 0, 0, 0, 0, 0, 0, b'{']).contains("expected at most 1, found 100"));
    refused("", 0, "JSON table");
    refused("[]", 0, "JSON table");
    refused("{", 0, "JSON table");
    refused("{} {}", 0, "JSON table");
    refused(&"[".repeat(100_000), 0, "JSON table");
    refused(&format!("{{\"w\":{}", "[".repeat(100_000)), 0, "JSON table");
    let config = SafeTensorsModel::parse("raw", Bytes::from(raw("{}", 0)), json!([]));
    assert!(config.unwrap_err().to_string().contains("config.json"));
}

#[test]
fn refuses_tensors_that_break_the_rules() {
    parse(&one("F32", "[2]", "[0,8]"), 8).unwrap();
    refused(&one("F99", "[2]", "[0,8]"), 8, "F99");
    refused(&one("F32", "[2]", "[0,7]"), 7, "expected 8 bytes");
    refused(&one("F32", "[2]", "[8,0]"), 8, "tensor w");
    refused(&one("F32", "[2]", "[0,8]"), 4, "inside 4 bytes");
    refused(&one("F32", "[2]", "[4,12]"), 12, "data from byte 0 on");
    refused(
        &one("F32", "[2]", "[0,8]"),
        9,
        "8 bytes, all of them described",
    );
    refused(&one("F32", "[2]", "[0]"), 8, "two data_offsets");
    refused(&one("F32", "[2]", "[0,8,9]"), 8, "at most 2 numbers");
    refused(&one("F32", "[-2]", "[0,8]"), 8, "header");
    refused(
        &one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"),
        4,
        "at most 8 numbers",
    );
    refused(
        &one("F32", "[4294967296,4294967296]", "[0,8]"),
        8,
        "can be addressed",
    );
    refused(&one("F4", "[3]", "[0,1]"), 1, "can be addressed");
    refused(r#"{"w":{"dtype":"U8","shape":[1]}}"#, 1, "lacks");
    let name = "n".repeat(513);
    refused(
        &one("U8", "[1]", "[0,1]").replace('w', &name),
        1,
        "a tensor name of 513 bytes",
    );
    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    refused(&format!(r#"{{"w":{entry},"w":{entry}}}"#), 0, "w twice");
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    refused(overlap, 6, "tensor b: expected data from byte 4 on");
}

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(directory.join(name), content).unwrap();
}

#[test]
fn opens_files_directories_and_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = SafeTensorsModel::open(path).unwrap_err().to_string();
    assert!(error.contains("found none of them"), "{error}");

    write(
        path,
        "weights.safetensors",
        raw(&one("U8", "[1]", "[0,1]"), 1),
    );
    let error = ModelFile::open(path).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    write(path, "config.json", r#"{"hidden_size": 4}"#);
    write(path, "tokenizer.json", "{}");
    for place in [path.to_owned(), path.join("weights.safetensors")] {
        let ModelFile::SafeTensors(model) = ModelFile::open(&place).unwrap() else {
            panic!("not safetensors")
        };
        assert_eq!(model.config()["hidden_size"], 4);
        assert_eq!(
            model.sibling("tokenizer.json").unwrap().as_deref(),
            Some(&b"{}"[..])
        );
        assert!(model.sibling("absent").unwrap().is_none());
    }

    write(
        path,
        "model-00001-of-00002.safetensors",
        raw(&one("U8", "[1]", "[0,1]"), 1),
    );
    write(
        path,
        "model-00002-of-00002.safetensors",
        raw(&one("U8", "[2]", "[0,2]").replace('w', "v"), 2),
    );
    let index = |v: &str| {
        let map = json!({"w": "model-00001-of-00002.safetensors", "v": v});
        write(path, INDEX, json!({"weight_map": map}).to_string());
        SafeTensorsModel::open(path)
    };
    let model = index("model-00002-of-00002.safetensors").unwrap();
    assert_eq!(model.tensor("v").unwrap().shape, [2]);
    assert_eq!(
        SafeTensorsModel::open(&path.join(INDEX))
            .unwrap()
            .names()
            .count(),
        2
    );
    let error = index("model-00001-of-00002.safetensors")
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such tensor there"), "{error}");
    for escape in ["../weights.safetensors", "/etc/passwd", "a\\b", "..", ""] {
        let error = index(escape).unwrap_err().to_string();
        assert!(error.contains("plain file names"), "{error}");
    }
    let shard = ModelFile::open(&path.join("model-00001-of-00002.safetensors"));
    assert!(
        shard
            .unwrap_err()
            .to_string()
            .contains("one piece of a sharded model")
    );
}

#[test]
fn what_is_written_is_read() {
    let mut writer = SafeTensorsWriter::new("memory");
    writer.tensor("z", Dtype::F32, &[1]).unwrap();
    writer.tensor("a", Dtype::U8, &[2, 3]).unwrap();
    assert!(writer.tensor("huge", Dtype::F64, &[usize::MAX, 2]).is_err());
    assert_eq!(writer.data_bytes(), 10);
    let mut data = writer.begin(Vec::new()).unwrap();
    assert!(data.push("a", &[1]).is_err());
    data.push("z", &1.5f32.to_le_bytes()).unwrap();
    data.push("a", &[1, 2]).unwrap();
    assert!(data.push("a", &[0; 5]).is_err());
    data.push("a", &[3, 4, 5, 6]).unwrap();
    assert!(data.push("a", &[0]).is_err());
    let bytes = data.finish().unwrap();
    // Another reader agrees.
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("a").unwrap().data(), [1, 2, 3, 4, 5, 6]);
    let model = SafeTensorsModel::parse("memory", Bytes::from(bytes), json!({})).unwrap();
    assert_eq!(&model.tensor("a").unwrap().data[..], [1, 2, 3, 4, 5, 6]);
    assert_eq!(&model.tensor("z").unwrap().data[..], 1.5f32.to_le_bytes());

    let mut twice = SafeTensorsWriter::new("memory");
    twice.tensor("a", Dtype::U8, &[1]).unwrap();
    twice.tensor("a", Dtype::U8, &[1]).unwrap();
    assert!(twice.begin(Vec::new()).is_err());
}
