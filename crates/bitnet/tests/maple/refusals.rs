//! Files that say what is not run, or what cannot be, are refused by the key or the tensor that says it.

use super::THREE_LAYERS;
use bitnet::file::{Array, Bytes, Gguf, GgufWriter, Value};
use bitnet::{Model, ModelOptions};
use bitnet_quant::{Format, I2sLayout};

/// A tensor of a file.
struct Tensor {
    name: String,
    ne: Vec<u64>,
    format: Format,
    data: Vec<u8>,
}

/// A file that is changed before it is written again.
struct Edited {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

impl Edited {
    fn new() -> Self {
        let file = Gguf::parse("tiny", Bytes::from_static(THREE_LAYERS)).expect("a file");
        let tensors = file.tensors().iter().map(|tensor| Tensor {
            name: tensor.name.clone(),
            ne: tensor.ne.clone(),
            format: tensor.format(I2sLayout::A, "tiny").expect("a format"),
            data: tensor.data.to_vec(),
        });
        Self {
            metadata: file.metadata().to_vec(),
            tensors: tensors.collect(),
        }
    }

    /// Sets a key of the architecture.
    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let key = format!("maple.{key}");
        self.metadata.retain(|(known, _)| *known != key);
        self.metadata.push((key, value.into()));
        self
    }

    fn without_key(mut self, key: &str) -> Self {
        let count = self.metadata.len();
        self.metadata
            .retain(|(known, _)| *known != format!("maple.{key}"));
        assert_eq!(self.metadata.len() + 1, count, "{key}");
        self
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        tensor.expect("such a tensor")
    }

    fn without(mut self, name: &str) -> Self {
        let count = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, count, "{name}");
        self
    }

    /// Gives a tensor another shape of as many elements.
    fn shaped(mut self, name: &str, ne: &[u64]) -> Self {
        self.tensor(name).ne = ne.to_vec();
        self
    }

    fn with_bytes(mut self, name: &str, at: usize, bytes: &[u8]) -> Self {
        self.tensor(name).data[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Adds a vector of ones.
    fn with_vector(mut self, name: &str, len: u64) -> Self {
        let data = (0..len).flat_map(|_| 1f32.to_le_bytes());
        self.tensors.push(Tensor {
            name: name.into(),
            ne: vec![len],
            format: Format::F32,
            data: data.collect(),
        });
        self
    }

    fn bytes(self) -> Vec<u8> {
        let mut writer = GgufWriter::new("edited");
        for (key, value) in self.metadata {
            writer.entry(key, value);
        }
        for tensor in &self.tensors {
            let described = writer.tensor(&tensor.name, &tensor.ne, tensor.format);
            described.expect("a shape");
        }
        let mut data = writer.begin(Vec::new()).expect("a header");
        for tensor in &self.tensors {
            data.push(&tensor.name, &tensor.data).expect("data");
        }
        data.finish().expect("a file")
    }

    fn open(self) -> bitnet::Result<Model> {
        Model::from_bytes("tiny", self.bytes(), &ModelOptions::default())
    }

    fn refused(self, expected: &str) {
        let error = self.open().expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

fn edited() -> Edited {
    Edited::new()
}

#[test]
fn a_file_that_is_written_again_opens() {
    edited().open().expect("a model");
}

#[test]
fn keys_that_are_missing_or_impossible() {
    for key in [
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "embedding_length",
    ] {
        edited().without_key(key).refused(&format!("maple.{key}"));
    }
    for (key, value) in [
        ("expert_count", 0),
        ("expert_count", 1025),
        ("expert_count", u32::MAX),
        ("expert_used_count", 0),
        ("expert_used_count", 5),
        ("expert_feed_forward_length", 0),
        ("expert_feed_forward_length", u32::MAX),
        ("attention.sliding_window", 0),
        ("block_count", u32::MAX),
    ] {
        edited().set(key, value).refused(&format!("maple.{key}"));
    }
    let pattern = "attention.sliding_window_pattern";
    for wrong in [
        Value::U32(4),
        Array::from_i32s(&[1, 0]).into(),
        Array::from_i32s(&[1, 2, 0]).into(),
        Array::from_f32s(&[1.0, 0.0, 1.0]).into(),
        Array::from_strings(["true"; 3]).into(),
    ] {
        edited()
            .set(pattern, wrong)
            .refused(&format!("maple.{pattern}"));
    }
    let clamp = "swiglu_clamp_exp";
    for wrong in [
        Value::U32(7),
        Value::F32(f32::NAN),
        Array::from_f32s(&[7.0]).into(),
        Array::from_f32s(&[7.0, f32::INFINITY, 7.0]).into(),
        Array::from_i32s(&[7; 3]).into(),
    ] {
        edited()
            .set(clamp, wrong)
            .refused(&format!("maple.{clamp}"));
    }
    edited()
        .set("rope.dimension_count", 15u32)
        .refused("maple.rope.dimension_count");
    edited()
        .set("rope.dimension_count", 34u32)
        .refused("maple.rope.dimension_count");
    edited()
        .set("attention.value_length", 64u32)
        .refused("attention.value_length");
    edited()
        .set("attention.head_count_kv", 3u32)
        .refused("maple.attention.head_count_kv");
}

#[test]
fn keys_that_may_have_other_types_or_be_missing() {
    let pattern = "attention.sliding_window_pattern";
    edited()
        .set(pattern, Array::from_i32s(&[1, 0, 1, 1]))
        .open()
        .expect("longer, of i32");
    edited()
        .without_key("swiglu_clamp_exp")
        .open()
        .expect("the usual clamp");
    edited()
        .set("swiglu_clamp_exp", 7f32)
        .open()
        .expect("one clamp for all");
    edited()
        .without_key("feed_forward_length")
        .open()
        .expect("a length that is not used");
    edited()
        .set("expert_gating_func", 1u32)
        .open()
        .expect("a softmax");
    edited()
        .set("expert_weights_norm", true)
        .open()
        .expect("weights that add up to 1");
    edited()
        .set("expert_weights_scale", 1f32)
        .open()
        .expect("no scale");
    edited()
        .set("rope.freq_base_swa", 5000f32)
        .open()
        .expect("a base of windows");
}

#[test]
fn routers_that_choose_otherwise() {
    edited()
        .set("expert_gating_func", 2u32)
        .refused("maple.expert_gating_func 2");
    edited()
        .set("expert_weights_norm", false)
        .refused("maple.expert_weights_norm false");
    edited()
        .set("expert_weights_scale", 2.5f32)
        .refused("maple.expert_weights_scale 2.5");
    edited()
        .set("expert_shared_count", 1u32)
        .refused("maple.expert_shared_count 1");
    edited()
        .set("expert_group_count", 8u32)
        .refused("maple.expert_group_count 8");
    edited()
        .set("leading_dense_block_count", 1u32)
        .refused("maple.leading_dense_block_count 1");
}

#[test]
fn tensors_that_are_missing_or_misshapen() {
    for name in [
        "output.weight",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.1.ffn_gate_exps.weight",
        "blk.2.ffn_down_exps.weight",
        "blk.1.attn_q_norm.weight",
        "blk.0.ffn_norm.weight",
    ] {
        edited().without(name).refused(name);
    }
    edited()
        .without("blk.1.attn_q_norm.weight")
        .without("blk.1.attn_k_norm.weight")
        .refused("blk.1.attn_q_norm.weight");
    for (name, ne) in [
        ("blk.0.ffn_gate_exps.weight", &[256, 256][..]),
        ("blk.0.ffn_gate_exps.weight", &[256, 128, 2]),
        ("blk.0.ffn_up_exps.weight", &[256, 32, 8]),
        ("blk.0.ffn_down_exps.weight", &[64, 128, 8]),
        ("blk.0.ffn_gate_inp.weight", &[4, 256]),
        ("blk.0.ffn_gate_inp.weight", &[128, 8]),
    ] {
        edited().shaped(name, ne).refused(name);
    }
    edited()
        .set("expert_count", 3u32)
        .refused("blk.0.ffn_gate_inp.weight");
    edited()
        .set("expert_feed_forward_length", 128u32)
        .refused("blk.0.ffn_gate_exps.weight");
}

#[test]
fn tensors_that_have_no_place() {
    for name in [
        "blk.0.exp_probs_b.bias",
        "blk.0.ffn_gate_shexp.weight",
        "blk.0.ffn_gate_up_exps.weight",
        "blk.0.attn_q.bias",
        "blk.0.attn_sub_norm.weight",
        "blk.0.attn_q_norm_in.weight",
        "blk.3.attn_q.weight",
    ] {
        edited().with_vector(name, 4).refused(name);
    }
}

#[test]
fn numbers_that_are_none() {
    // The scale of a block of TQ2_0, a code 3 in it, and a weight of the router.
    let nan = half::f16::NAN.to_le_bytes();
    let gate = "blk.0.ffn_gate_exps.weight";
    edited().with_bytes(gate, 64, &nan).refused(gate);
    edited()
        .with_bytes(gate, 3 * 64 * 66 + 64, &nan)
        .refused(gate);
    edited().with_bytes(gate, 5, &[0xff]).refused(gate);
    let router = "blk.1.ffn_gate_inp.weight";
    edited()
        .with_bytes(router, 8, &f32::INFINITY.to_le_bytes())
        .refused(router);
    // Both factors of a block of Q4_K.
    for at in [0, 2, 144, 146] {
        edited()
            .with_bytes("output.weight", at, &nan)
            .refused("output.weight");
    }
}

#[test]
fn routers_of_huge_weights_are_an_error_of_the_batch() {
    let router = "blk.0.ffn_gate_inp.weight";
    let mut file = edited();
    let huge = f32::MAX.to_le_bytes();
    let len = file.tensor(router).data.len();
    file.tensor(router).data = huge.into_iter().cycle().take(len).collect();
    let model = file.open().expect("finite numbers");
    let mut session = model.session().expect("a session");
    let error = session.forward(&[1, 2, 3], bitnet::LogitsFor::Last);
    let error = error.expect_err("logits that overflow").to_string();
    assert!(error.contains(router), "{error}");
}

#[test]
fn files_that_end_early() {
    let bytes = edited().bytes();
    for len in (0..bytes.len()).step_by(4099) {
        let model = Model::from_bytes("tiny", bytes[..len].to_vec(), &ModelOptions::default());
        assert!(model.is_err(), "{len} bytes");
    }
}
