//! Damaged and hostile model files give an error or load: never a panic, a hang, or memory out of proportion.
//!
//! `BITNET_MUTATIONS` sets how many damaged copies are tried (300 unless set), `BITNET_MUTATION_SEED` where the random
//! numbers begin.

#[path = "../fuzz/src/look.rs"]
mod look;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bitnet::file::synth::{self, EmbeddingType, SynthArch, SynthOptions, TernaryType};
use bitnet::file::{Bytes, Gguf, ModelFile, SafeTensorsModel};
use bitnet::{EmbedOptions, LogitsFor, Model, ModelOptions};
use look::look_at;

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at one time beyond what was held before.
fn peak_of(work: impl FnOnce()) -> isize {
    let before = LIVE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    work();
    PEAK.with(Cell::get) - before
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Numbers that files lie with.
const LIES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 61,
    i64::MAX as u64,
    u64::MAX,
];

/// Damages a copy of `file` in one to four places, nearly always among its first `head` bytes.
fn mutate(file: &[u8], head: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(4) {
        let reach = if random.below(8) == 0 {
            bytes.len()
        } else {
            head.min(bytes.len())
        };
        if reach < 9 {
            break;
        }
        let at = random.below(reach - 8);
        match random.below(7) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => {
                let lie = LIES[random.below(LIES.len())];
                bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            }
            4 => {
                let lie = LIES[random.below(LIES.len())] as u32;
                bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            }
            5 => bytes.truncate(random.below(bytes.len())),
            _ => {
                let from = random.below(reach - 8);
                let piece = bytes[from..from + 8].to_vec();
                bytes[at..at + 8].copy_from_slice(&piece);
            }
        }
    }
    bytes
}

fn mutations() -> u64 {
    std::env::var("BITNET_MUTATIONS").map_or(300, |count| {
        count.parse().expect("a number in BITNET_MUTATIONS")
    })
}

fn seed() -> u64 {
    std::env::var("BITNET_MUTATION_SEED").map_or(1, |seed| {
        seed.parse().expect("a number in BITNET_MUTATION_SEED")
    })
}

/// Memory that a file may cost beyond its own size.
const ALLOWANCE: isize = 64 << 20;

/// Tries damaged copies of every file and counts those that still load.
fn survive(files: &[(Vec<u8>, usize)], mut load: impl FnMut(Bytes) -> bool) -> u64 {
    let mut random = Random(seed());
    let mut loaded = 0;
    for round in 0..mutations() {
        let (file, head) = &files[round as usize % files.len()];
        let bytes = mutate(file, *head, &mut random);
        let size = bytes.len() as isize;
        let peak = peak_of(|| loaded += u64::from(load(Bytes::from(bytes))));
        assert!(
            peak <= size + ALLOWANCE,
            "round {round}: {peak} bytes for a file of {size}"
        );
    }
    loaded
}

/// Files of every type and architecture, each with the length of its description.
fn gguf_files() -> Vec<(Vec<u8>, usize)> {
    let mut files = vec![
        include_bytes!("bonsai2/tiny-bonsai2.gguf").to_vec(),
        include_bytes!("vectors/tiny-qwen3.gguf").to_vec(),
        include_bytes!("vectors/tiny-gemma3.gguf").to_vec(),
    ];
    for (arch, ternary, embedding) in [
        (SynthArch::BitnetB158, TernaryType::I2S, EmbeddingType::F16),
        (SynthArch::Llama, TernaryType::TQ1_0, EmbeddingType::Q8_0),
        (SynthArch::Qwen3, TernaryType::TQ2_0, EmbeddingType::Q6K),
        (SynthArch::Qwen3, TernaryType::PTQ1_0, EmbeddingType::F16),
        (SynthArch::Qwen3, TernaryType::Q2_0, EmbeddingType::F16),
        (SynthArch::Maple, TernaryType::TQ2_0, EmbeddingType::Q4K),
    ] {
        let options = SynthOptions {
            ternary,
            embedding,
            arch,
            ..SynthOptions::default()
        };
        files.push(synth::to_vec(&options).expect("a synthetic model"));
    }
    let with_head = |bytes: Vec<u8>| {
        let file = Gguf::parse("whole", Bytes::from(bytes.clone())).expect("a whole file");
        let last = file.tensors().last().expect("tensors");
        let data = last.offset as usize + last.data.len().next_multiple_of(32);
        let head = bytes.len() - data;
        (bytes, head)
    };
    files.into_iter().map(with_head).collect()
}

#[test]
fn damaged_gguf_files() {
    let files = gguf_files();
    let loaded = survive(&files, |bytes| match ModelFile::parse("damaged", bytes) {
        Ok(ModelFile::Gguf(file)) => {
            look_at(&file);
            true
        }
        Ok(ModelFile::SafeTensors(_)) => unreachable!("safetensors need a config"),
        Err(error) => {
            assert!(error.to_string().len() < 70_000);
            false
        }
    });
    println!("{loaded} of {} damaged GGUF files still load", mutations());
}

#[test]
fn damaged_models() {
    let files = gguf_files();
    let options = ModelOptions::default();
    let loaded = survive(&files, |bytes| {
        let Ok(model) = Model::from_bytes("damaged", bytes, &options) else {
            return false;
        };
        // Metadata can ask for any context; only a session that fits is tried.
        if model.context() <= 4096
            && let Ok(mut session) = model.session()
        {
            let _ = session.forward(&[1, 2, 3], LogitsFor::Last);
        }
        let _ = model.embed_tokens(&[vec![1, 2, 3]], &EmbedOptions::default(), |_, _| ());
        true
    });
    println!("{loaded} of {} damaged models still run", mutations());
}

#[test]
fn damaged_safetensors_files() {
    let mut table = serde_json::Map::new();
    let mut at = 0;
    for layer in 0..4 {
        for (name, dtype, shape, size) in [
            ("self_attn.q_proj.weight", "U8", vec![64, 256], 64 * 256),
            ("self_attn.q_proj.weight_scale", "BF16", vec![1], 2),
            ("input_layernorm.weight", "F32", vec![256], 1024),
        ] {
            let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]});
            table.insert(format!("model.layers.{layer}.{name}"), entry);
            at += size;
        }
    }
    let header = serde_json::Value::Object(table).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + at, 0x55);
    let head = header.len() + 8;
    let whole = SafeTensorsModel::parse("whole", Bytes::from(file.clone()), serde_json::json!({}));
    assert_eq!(whole.expect("a whole file").names().count(), 12);

    let loaded = survive(&[(file, head)], |bytes| {
        match SafeTensorsModel::parse("damaged", bytes, serde_json::json!({})) {
            Ok(model) => {
                for tensor in model.tensors() {
                    let elements: usize = tensor.shape.iter().product();
                    assert_eq!(elements * tensor.dtype.bitsize() / 8, tensor.data.len());
                }
                true
            }
            Err(_) => false,
        }
    });
    println!(
        "{loaded} of {} damaged safetensors files still load",
        mutations()
    );
}

/// The header of a GGUF file.
fn gguf_head(tensors: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes
}

#[test]
fn large_honest_counts_cost_little() {
    // As many entries and tensors as the reader takes, each as small as can be.
    let most = 1u64 << 16;
    let mut bytes = gguf_head(most, most);
    for index in 0..most {
        let key = format!("{index:04x}");
        bytes.extend(4u64.to_le_bytes());
        bytes.extend(key.as_bytes());
        bytes.extend([0, 0, 0, 0, 1]);
    }
    for index in 0..most {
        bytes.extend(4u64.to_le_bytes());
        bytes.extend(format!("{index:04x}").as_bytes());
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0]);
        bytes.extend((index * 32).to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + most as usize * 32, 0);
    let size = bytes.len() as isize;
    let bytes = Bytes::from(bytes);
    let peak = peak_of(|| {
        let file = Gguf::parse("many", bytes).expect("a large file");
        assert_eq!(file.tensors().len(), most as usize);
    });
    assert!(peak <= size + ALLOWANCE, "{peak}");
}

#[test]
fn vocabularies_are_not_copied() {
    let count = 300_000u64;
    let mut bytes = gguf_head(0, 1);
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(b"t");
    bytes.extend([9, 0, 0, 0, 8, 0, 0, 0]);
    bytes.extend(count.to_le_bytes());
    for _ in 0..count {
        bytes.extend(3u64.to_le_bytes());
        bytes.extend(b"abc");
    }
    let bytes = Bytes::from(bytes);
    let peak = peak_of(|| {
        let file = Gguf::parse("vocabulary", bytes).expect("a file");
        let strings = file.strings("t").expect("strings").expect("the key");
        assert!(strings.iter().all(|text| text == b"abc"));
    });
    assert!(peak < 16_384, "{peak}");
}

#[test]
fn headers_full_of_small_tensors_cost_little() {
    // Millions of tensors, digits or nested brackets in a header of the greatest length.
    let entry = r#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let tensors: String = (0..200_000)
        .map(|i| format!(r#","{i:x}"{entry}"#))
        .collect();
    let shape = "0,".repeat(4_000_000);
    for header in [
        format!("{{{}}}", &tensors[1..]),
        format!(r#"{{"w":{{"shape":[{shape}0]}}}}"#),
        format!(r#"{{"{}""#, "\\u0041".repeat(2_000_000)),
        format!(r#"{{"__metadata__":{}"#, "[".repeat(8_000_000)),
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        let size = bytes.len() as isize;
        let bytes = Bytes::from(bytes);
        let peak = peak_of(|| {
            let result = SafeTensorsModel::parse("full", bytes, serde_json::json!({}));
            assert!(result.is_err());
        });
        assert!(peak <= size + ALLOWANCE, "{peak} for {size}");
    }
}
