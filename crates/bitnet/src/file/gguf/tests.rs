//! What the reader accepts and what it refuses, and with which words.

use bitnet_quant::{Format, I2sLayout};

use super::*;
use crate::file::Bytes;

/// A file written byte by byte, so that it can be wrong.
struct Raw {
    version: u32,
    tensors: Option<u64>,
    entries: Option<u64>,
    metadata: Vec<Vec<u8>>,
    infos: Vec<Vec<u8>>,
    data: usize,
}

impl Raw {
    fn new() -> Self {
        Self {
            version: 3,
            tensors: None,
            entries: None,
            metadata: Vec::new(),
            infos: Vec::new(),
            data: 0,
        }
    }

    fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    fn counts(mut self, tensors: u64, entries: u64) -> Self {
        (self.tensors, self.entries) = (Some(tensors), Some(entries));
        self
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let entry = [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat();
        self.metadata.push(entry);
        self
    }

    fn tensor(mut self, name: &str, ne: &[u64], kind: u32, offset: u64) -> Self {
        let mut info = text(name);
        info.extend((ne.len() as u32).to_le_bytes());
        info.extend(ne.iter().flat_map(|n| n.to_le_bytes()));
        info.extend(kind.to_le_bytes());
        info.extend(offset.to_le_bytes());
        self.infos.push(info);
        self
    }

    fn data(mut self, len: usize) -> Self {
        self.data = len;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(
            self.tensors
                .unwrap_or(self.infos.len() as u64)
                .to_le_bytes(),
        );
        bytes.extend(
            self.entries
                .unwrap_or(self.metadata.len() as u64)
                .to_le_bytes(),
        );
        bytes.extend(self.metadata.concat());
        bytes.extend(self.infos.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }

    fn parse(&self) -> Result<Gguf> {
        Gguf::parse("raw.gguf", Bytes::from(self.bytes()))
    }

    #[track_caller]
    fn refused(&self, with: &str) {
        let message = self.parse().unwrap_err().to_string();
        assert!(message.starts_with("raw.gguf: "), "{message}");
        assert!(message.contains(with), "{message}");
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The value of an array entry.
fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

#[test]
fn reads_every_type_of_value() {
    let strings = [
        text("ab"),
        text(""),
        vec![2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe],
    ]
    .concat();
    let file = Raw::new()
        .version(2)
        .entry("u8", 0, &[200])
        .entry("i8", 1, &[0xff])
        .entry("u16", 2, &7u16.to_le_bytes())
        .entry("i16", 3, &(-7i16).to_le_bytes())
        .entry("u32", 4, &7u32.to_le_bytes())
        .entry("i32", 5, &(-1i32).to_le_bytes())
        .entry("f32", 6, &1.5f32.to_le_bytes())
        .entry("bool", 7, &[1])
        .entry("string", 8, &text("grüße"))
        .entry("u64", 10, &(1u64 << 40).to_le_bytes())
        .entry("i64", 11, &5i64.to_le_bytes())
        .entry("f64", 12, &2.5f64.to_le_bytes())
        .entry("strings", 9, &array(8, 3, &strings))
        .entry(
            "floats",
            9,
            &array(6, 2, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]),
        )
        .entry(
            "ints",
            9,
            &array(5, 2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        )
        .entry("layers", 9, &array(4, 2, &[8, 0, 0, 0, 8, 0, 0, 0]))
        .parse()
        .unwrap();
    assert_eq!((file.version(), file.alignment()), (2, 32));
    assert_eq!(file.name(), "raw.gguf");
    for (key, number) in [
        ("u8", 200),
        ("u16", 7),
        ("u32", 7),
        ("i64", 5),
        ("layers", 8),
    ] {
        assert_eq!(file.u32(key).unwrap(), Some(number), "{key}");
        assert_eq!(file.usize(key).unwrap(), Some(number as usize), "{key}");
    }
    for key in ["i8", "i16", "i32", "u64", "f32", "string", "ints"] {
        let message = file.u32(key).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("raw.gguf: {key}: ")),
            "{message}"
        );
    }
    assert_eq!(file.f32("f32").unwrap(), Some(1.5));
    assert_eq!(file.f32("f64").unwrap(), Some(2.5));
    assert_eq!(file.bool("bool").unwrap(), Some(true));
    assert_eq!(file.string("string").unwrap(), Some("grüße"));
    assert_eq!(file.string("absent").unwrap(), None);
    assert!(file.bool("u8").is_err() && file.string("u8").is_err() && file.f32("u8").is_err());

    let strings = file.strings("strings").unwrap().unwrap();
    assert_eq!(strings.len(), 3);
    let found: Vec<&[u8]> = strings.iter().collect();
    assert_eq!(found, [&b"ab"[..], b"", b"\xff\xfe"]);
    assert_eq!(file.f32s("floats").unwrap(), Some(vec![1.0, -2.0]));
    assert_eq!(file.i32s("ints").unwrap(), Some(vec![1, -1]));
    assert!(file.strings("ints").is_err() && file.i32s("floats").is_err());
    assert!(file.f32s("u8").is_err());
    assert_eq!(file.get("ints").unwrap().to_string(), "i32[2] 1, -1");
    assert_eq!(file.metadata()[0].0, "u8");
}

#[test]
fn refuses_what_is_no_gguf() {
    let message = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        Gguf::parse("raw.gguf", bytes).unwrap_err().to_string()
    };
    assert!(message(b"").contains("the magic number"));
    assert!(message(b"GGML....").contains("found \"GGML\""));
    assert!(message(b"GGUF\x03\0\0\0\0\0").contains("the tensor count"));
    Raw::new().version(1).refused("expected 2 or 3, found 1");
    Raw::new().version(4).refused("expected 2 or 3, found 4");
    Raw::new().version(0).refused("expected 2 or 3, found 0");
    Raw::new()
        .version(3 << 24)
        .refused("a big-endian file is not supported");
}

#[test]
fn refuses_counts_and_lengths_beyond_the_file() {
    Raw::new().counts(0, u64::MAX).refused("the metadata count");
    Raw::new().counts(u64::MAX, 0).refused("the tensor count");
    Raw::new()
        .counts(1 << 30, 0)
        .data(64)
        .refused("the tensor count");
    Raw::new()
        .entry("k", 8, &u64::MAX.to_le_bytes())
        .refused("k: expected at most");
    Raw::new()
        .entry("k", 9, &array(8, u64::MAX / 8, &[]))
        .refused("the element count of k");
    Raw::new()
        .entry("k", 9, &array(10, (1 << 61) + 1, &[0; 8]))
        .refused("the element count of k");
    Raw::new()
        .entry("k", 9, &array(8, 1, &(1u64 << 50).to_le_bytes()))
        .refused("k[0]");
    let long = "k".repeat(65_536);
    Raw::new()
        .entry(&long, 0, &[0])
        .refused("metadata key 0: expected 1 to 65535 bytes");
    Raw::new()
        .entry("", 0, &[0])
        .data(64)
        .refused("found 0 bytes");
}

#[test]
fn refuses_metadata_that_breaks_the_rules() {
    Raw::new()
        .entry("a", 0, &[1])
        .entry("a", 0, &[2])
        .refused("found a twice");
    Raw::new().entry("a", 13, &[1]).refused("the type of a");
    Raw::new()
        .entry("a", 7, &[2])
        .refused("a bool of 0 or 1, found 2");
    Raw::new()
        .entry("a", 9, &array(7, 3, &[0, 1, 9]))
        .refused("a bool of 0 or 1, found 9");
    Raw::new()
        .entry("a", 9, &array(9, 0, &[]))
        .refused("an array of arrays");
    Raw::new()
        .entry("a", 9, &array(77, 0, &[]))
        .refused("the element type of a");
    for alignment in [0u32, 3, 48, 1 << 31] {
        Raw::new()
            .entry("general.alignment", 4, &alignment.to_le_bytes())
            .refused("general.alignment: expected a power of two");
    }
    Raw::new()
        .entry("general.alignment", 8, &text("x"))
        .refused("general.alignment");
}

#[test]
fn refuses_what_is_not_run_here() {
    Raw::new()
        .entry("split.count", 2, &3u16.to_le_bytes())
        .refused("part 1 of a model split into 3 files, by itself, is not supported; merge them");
    Raw::new()
        .entry("split.no", 2, &1u16.to_le_bytes())
        .refused("split.no: expected less than split.count");
    Raw::new()
        .entry("split.count", 2, &1u16.to_le_bytes())
        .parse()
        .unwrap();
    // The keys decide, not the name.
    Gguf::parse("m-00002-of-00003.gguf", Bytes::from(Raw::new().bytes())).unwrap();
    Raw::new()
        .tensor("w", &[32], 38, 0)
        .data(64)
        .refused("type TL1");
    let bitnet = || Raw::new().entry("general.architecture", 8, &text("bitnet-b1.58"));
    for id in [39, 42] {
        bitnet()
            .tensor("blk.0.attn_q.weight", &[128, 128], id, 0)
            .tensor("blk.0.attn_q.weight_scale", &[1], 0, 8192)
            .data(9000)
            .refused("type TL2");
    }
}

#[test]
fn refuses_tensors_that_break_the_rules() {
    let one = |ne: &[u64], kind, offset| Raw::new().tensor("w", ne, kind, offset).data(4096);
    one(&[8], 0, 0).parse().unwrap();
    one(&[], 0, 0).refused("the dimensions of w");
    one(&[1; 5], 0, 0).refused("the dimensions of w");
    one(&[8, 0], 0, 0).refused("a shape without zeros");
    one(&[1 << 32, 1 << 32], 0, 0).refused("a shape without zeros whose product");
    one(&[u64::MAX], 24, 0).refused("a shape without zeros whose product");
    one(&[1 << 61], 28, 0).refused("w");
    one(&[8], 4, 0).refused("type 4, which is no longer in use");
    one(&[8], 999, 0).refused("type 999");
    one(&[100, 2], 34, 0).refused("rows of a multiple of 256 elements for TQ1_0");
    one(&[8], 0, 8).refused("a multiple of the alignment");
    one(&[8], 0, 4096).refused("a data section of 4096 bytes");
    one(&[8], 0, u64::MAX - 31).refused("a data section of");
    one(&[1025], 0, 0).refused("4100 bytes at offset 0");
    Raw::new()
        .tensor("", &[1], 0, 0)
        .data(64)
        .refused("the name of tensor 0");
    Raw::new()
        .tensor(&"n".repeat(65), &[1], 0, 0)
        .data(64)
        .refused("1 to 64 bytes");
    Raw::new()
        .tensor("w", &[1], 0, 0)
        .tensor("w", &[1], 0, 32)
        .data(64)
        .refused("found w twice");
    Raw::new()
        .tensor("v", &[9], 0, 32)
        .tensor("w", &[9], 0, 0)
        .data(68)
        .refused("an offset from 36");
}

#[test]
fn places_tensors_in_any_order_and_with_gaps() {
    let file = Raw::new()
        .tensor("b", &[2, 3], 0, 96)
        .tensor("a", &[4], 0, 0)
        .data(120)
        .parse()
        .unwrap();
    let b = file.tensor("b").unwrap();
    assert_eq!(
        (b.cols(), b.rows(), b.elements(), b.data.len()),
        (2, 3, 6, 24)
    );
    assert_eq!(file.tensor("a").unwrap().data.len(), 16);
    assert_eq!(file.tensors()[0].name, "b");
    assert!(file.tensor("c").is_none());
}

#[test]
fn i2_s_counts_its_scale() {
    let raw = Raw::new().tensor("w", &[128, 2], 36, 0).data(96);
    let mut bytes = raw.bytes();
    let at = bytes.len() - 32;
    bytes[at..at + 4].copy_from_slice(&0.5f32.to_le_bytes());
    let file = Gguf::parse("raw.gguf", Bytes::from(bytes.clone())).unwrap();
    let w = file.tensor("w").unwrap();
    assert_eq!(
        w.format(I2sLayout::B, "raw.gguf").unwrap(),
        Format::I2s(I2sLayout::B)
    );
    assert_eq!((w.row_data().len(), w.data.len()), (64, 96));
    assert_eq!(w.i2s_scale("raw.gguf").unwrap(), 0.5);

    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let file = Gguf::parse("raw.gguf", Bytes::from(bytes)).unwrap();
    assert!(file.tensor("w").unwrap().i2s_scale("f").is_err());

    let file = Raw::new()
        .tensor("w", &[64, 2], 36, 0)
        .data(64)
        .parse()
        .unwrap();
    let error = file
        .tensor("w")
        .unwrap()
        .format(I2sLayout::A, "raw.gguf")
        .unwrap_err();
    let error = error.to_string();
    assert!(error.contains("no multiple of 128"), "{error}");
    assert!(error.contains("use the model's safetensors"), "{error}");
}

#[test]
fn the_size_tells_the_groups_of_q2_0() {
    let q2_0 = |bytes: usize| {
        Raw::new()
            .tensor("w", &[128, 32], 42, 0)
            .data(bytes)
            .parse()
    };
    let format = |bytes| {
        let file = q2_0(bytes).unwrap();
        let tensor = file.tensor("w").unwrap();
        (tensor.format(I2sLayout::A, "f").unwrap(), tensor.data.len())
    };
    assert_eq!(format(32 * 36), (Format::Q2_0, 1152));
    assert_eq!(format(32 * 34), (Format::Q2_0Group128, 1088));
    assert!(q2_0(1087).is_err() && q2_0(1184).is_err());

    // A tensor that fits both is what files have today, unless another beside it is not.
    let small = || Raw::new().tensor("s", &[128, 2], 42, 0);
    let file = small().data(96).parse().unwrap();
    assert_eq!(file.tensor("s").unwrap().data.len(), 72);
    let file = small()
        .tensor("w", &[128, 32], 42, 96)
        .data(96 + 1088)
        .parse()
        .unwrap();
    assert_eq!(file.tensor("s").unwrap().data.len(), 68);
    // Two that disagree are of no file.
    let error = small()
        .tensor("w", &[128, 32], 42, 96)
        .tensor("x", &[128, 32], 42, 96 + 1088)
        .data(96 + 1088 + 1152)
        .parse()
        .unwrap_err();
    let error = error.to_string();
    assert!(error.contains("groups of 64 or of 128"), "{error}");
}

#[test]
fn groups_of_128_have_numbers_of_their_own() {
    for (id, format) in [(142, Format::Q2_0Group128), (143, Format::Ptq1_0)] {
        let parse = |cols, rows, bytes| {
            Raw::new()
                .tensor("w", &[cols, rows], id, 0)
                .data(bytes)
                .parse()
        };
        let bytes = 32 * format.block_bytes();
        let file = parse(128, 32, bytes).unwrap();
        let tensor = file.tensor("w").unwrap();
        assert_eq!(tensor.format(I2sLayout::A, "f").unwrap(), format);
        assert_eq!(tensor.data.len(), bytes);
        let kind = GgmlType::from(format);
        assert_eq!((kind, kind.id()), (tensor.kind, id));
        let error = parse(192, 32, 2 * bytes).unwrap_err().to_string();
        assert!(error.contains("rows of a multiple of 128"), "{error}");
        assert!(parse(128, 32, bytes - 1).is_err());
    }
}

#[test]
fn types_without_a_codec_are_listed_but_not_run() {
    let file = Raw::new()
        .tensor("w", &[256], 13, 0)
        .data(176)
        .parse()
        .unwrap();
    let error = file
        .tensor("w")
        .unwrap()
        .format(I2sLayout::A, "f.gguf")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("f.gguf: the type Q5_K of tensor w"),
        "{error}"
    );
    for kind in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(kind.id()), Some(*kind));
        let (block, bytes) = kind.block();
        assert!(block > 0 && bytes > 0);
    }
}

#[test]
fn what_is_written_is_read() {
    let mut writer = GgufWriter::new("memory");
    writer
        .entry("a.string", "text")
        .entry("a.u32", 7u32)
        .entry("a.f32", 0.25f32)
        .entry("a.bool", true)
        .entry("a.i64", -3i64)
        .entry("a.strings", Array::from_strings(["x", "", "yz"]))
        .entry("a.floats", Array::from_f32s(&[1.0, 2.0]))
        .entry("a.ints", Array::from_i32s(&[-1, 2]));
    let formats = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q4_0,
        Format::Q8_0,
        Format::Q6K,
        Format::Tq1_0,
        Format::Tq2_0,
        Format::I2s(I2sLayout::A),
    ];
    for format in formats {
        writer
            .tensor(format.to_string(), &[256, 3], format)
            .unwrap();
    }
    assert!(writer.tensor("odd", &[100], Format::Q8_0).is_err());
    assert!(writer.tensor("empty", &[256, 0], Format::F32).is_err());
    let total = writer.data_bytes();
    let mut data = writer.begin(Vec::new()).unwrap();
    let contents: Vec<Vec<u8>> = formats
        .iter()
        .enumerate()
        .map(|(index, format)| {
            let tail = if matches!(format, Format::I2s(_)) {
                32
            } else {
                0
            };
            let len = format.row_bytes(256).unwrap() * 3 + tail;
            (0..len).map(|i| (i * 31 + index) as u8).collect()
        })
        .collect();
    for (format, content) in formats.iter().zip(&contents) {
        assert!(data.push("another", content).is_err());
        let (first, second) = content.split_at(100);
        data.push(&format.to_string(), first).unwrap();
        data.push(&format.to_string(), second).unwrap();
    }
    assert!(data.push("I2_S", &[0]).is_err());
    let bytes = data.finish().unwrap();

    let file = Gguf::parse("memory", Bytes::from(bytes)).unwrap();
    assert_eq!(contents.iter().map(|c| c.len() as u64).sum::<u64>(), total);
    assert_eq!(file.string("a.string").unwrap(), Some("text"));
    assert_eq!(file.get("a.i64"), Some(&Value::I64(-3)));
    assert_eq!(
        file.strings("a.strings").unwrap().unwrap().iter().nth(2),
        Some(&b"yz"[..])
    );
    assert_eq!(file.f32s("a.floats").unwrap(), Some(vec![1.0, 2.0]));
    for (tensor, (format, content)) in file.tensors().iter().zip(formats.iter().zip(&contents)) {
        assert_eq!(tensor.name, format.to_string());
        assert_eq!(tensor.format(I2sLayout::A, "memory").unwrap(), *format);
        assert_eq!(&tensor.data[..], &content[..]);
        assert!(tensor.offset.is_multiple_of(32));
    }
}

#[test]
fn the_writer_refuses_what_no_reader_would_take() {
    let mut twice = GgufWriter::new("memory");
    twice.entry("k", 1u32).entry("k", 2u32);
    assert!(twice.begin(Vec::new()).is_err());
    let mut long = GgufWriter::new("memory");
    long.tensor("n".repeat(65), &[1], Format::F32).unwrap();
    assert!(long.begin(Vec::new()).is_err());
    let mut short = GgufWriter::new("memory");
    short.tensor("w", &[4], Format::F32).unwrap();
    let mut data = short.begin(Vec::new()).unwrap();
    assert!(data.push("w", &[0; 17]).is_err());
    data.push("w", &[0; 15]).unwrap();
    let message = data.finish().unwrap_err().to_string();
    assert!(
        message.contains("expected 16 bytes of data, found 15"),
        "{message}"
    );
}
