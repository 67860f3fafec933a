//! Every key of hybrid models and of the contract of rotated weights, missing, of another type and out of range.

use super::rewrite::{refused, with_key};
use super::{BYTES, Model, ModelOptions};
use bitnet::file::Value;
use bitnet::file::gguf::Array;

fn i32s(numbers: &[i32]) -> Value {
    Array::from_i32s(numbers).into()
}

fn strings(texts: &[&str]) -> Value {
    Array::from_strings(texts).into()
}

/// Numbers that are no count, and what is no number.
fn no_counts() -> [Value; 5] {
    [
        (-1i32).into(),
        1.5f32.into(),
        "four".into(),
        true.into(),
        i32s(&[1, 2]),
    ]
}

const COUNTS: [&str; 13] = [
    "qwen35.block_count",
    "qwen35.context_length",
    "qwen35.embedding_length",
    "qwen35.feed_forward_length",
    "qwen35.attention.head_count",
    "qwen35.attention.key_length",
    "qwen35.attention.value_length",
    "qwen35.rope.dimension_count",
    "qwen35.ssm.conv_kernel",
    "qwen35.ssm.state_size",
    "qwen35.ssm.group_count",
    "qwen35.ssm.time_step_rank",
    "qwen35.ssm.inner_size",
];

#[test]
fn required_keys_are_missed_by_name() {
    let contract = [
        "version",
        "block_size",
        "transform",
        "axis",
        "sign_mode",
        "sign_widths",
        "sign_values",
        "weight_names",
        // Without it the version is another.
        "tied_output",
    ];
    let contract = contract.map(|name| format!("prism.hadamard.{name}"));
    let others = [
        "qwen35.rope.freq_base",
        "qwen35.rope.dimension_sections",
        "qwen35.attention.layer_norm_rms_epsilon",
    ];
    let keys = COUNTS.iter().chain(&others).copied();
    for key in keys.chain(contract.iter().map(String::as_str)) {
        refused(BYTES, key, None);
    }
}

#[test]
fn keys_of_another_type_are_refused() {
    let optional = [
        "qwen35.full_attention_interval",
        "qwen35.nextn_predict_layers",
        "prism.hadamard.version",
        "prism.hadamard.block_size",
    ];
    for key in COUNTS.iter().chain(&optional) {
        for value in no_counts() {
            refused(BYTES, key, Some(value));
        }
    }
    for name in ["transform", "axis", "sign_mode"] {
        for value in [7u32.into(), true.into(), strings(&["explicit"])] {
            refused(BYTES, &format!("prism.hadamard.{name}"), Some(value));
        }
    }
    for name in ["tied_output", "gdn_v_grouped"] {
        for value in [1u32.into(), "true".into(), i32s(&[1])] {
            refused(BYTES, &format!("prism.hadamard.{name}"), Some(value));
        }
    }
    for name in ["sign_widths", "sign_values"] {
        let floats = Array::from_f32s(&[128.0]).into();
        for value in [128i32.into(), floats, strings(&["128"])] {
            refused(BYTES, &format!("prism.hadamard.{name}"), Some(value));
        }
    }
    for name in ["weight_names", "inverse_weight_names"] {
        for value in [i32s(&[1]), "token_embd.weight".into()] {
            refused(BYTES, &format!("prism.hadamard.{name}"), Some(value));
        }
    }
    let sections = Array::from_f32s(&[3.0, 3.0, 2.0, 0.0]).into();
    for value in [sections, 8u32.into(), "3, 3, 2".into()] {
        refused(BYTES, "qwen35.rope.dimension_sections", Some(value));
    }
    let kinds = Array::from_f32s(&[1.0, 1.0, 1.0, 0.0]).into();
    for value in [kinds, 1u32.into(), strings(&["full"; 4])] {
        refused(BYTES, "qwen35.attention.recurrent_layers", Some(value));
    }
    for value in [10_000u32.into(), "1e7".into()] {
        refused(BYTES, "qwen35.rope.freq_base", Some(value));
    }
}

#[test]
fn keys_out_of_range_are_refused() {
    for (key, value) in [
        ("qwen35.block_count", 4_000_000_000u32),
        ("qwen35.ssm.conv_kernel", 0),
        ("qwen35.ssm.conv_kernel", 65),
        ("qwen35.ssm.state_size", 0),
        ("qwen35.ssm.state_size", 4097),
        ("qwen35.ssm.group_count", 0),
        ("qwen35.ssm.group_count", u32::MAX),
        ("qwen35.ssm.time_step_rank", 0),
        ("qwen35.ssm.time_step_rank", 6),
        ("qwen35.ssm.inner_size", 255),
        ("qwen35.full_attention_interval", 0),
        ("qwen35.nextn_predict_layers", 4),
        ("qwen35.attention.value_length", 32),
        ("prism.hadamard.version", 0),
        ("prism.hadamard.version", 3),
        ("prism.hadamard.block_size", 0),
        ("prism.hadamard.block_size", 48),
        ("prism.hadamard.block_size", 1 << 30),
    ] {
        refused(BYTES, key, Some(value.into()));
    }
    for (key, value) in [
        ("transform", "hadamard"),
        ("axis", "output"),
        ("sign_mode", "implicit"),
    ] {
        refused(BYTES, &format!("prism.hadamard.{key}"), Some(value.into()));
    }
    let whole = [1; 768];
    let mut doubled = whole;
    doubled[5] = 2;
    for (key, values) in [
        ("qwen35.rope.dimension_sections", &[4, 2, 2, 0][..]),
        ("qwen35.rope.dimension_sections", &[3, 3, 2, 1]),
        ("qwen35.rope.dimension_sections", &[-3, 3, 8, 0]),
        ("qwen35.rope.dimension_sections", &[]),
        ("qwen35.attention.recurrent_layers", &[1, 1, 1]),
        ("qwen35.attention.recurrent_layers", &[1, 1, 2, 0]),
        ("prism.hadamard.sign_widths", &[]),
        ("prism.hadamard.sign_widths", &[128, 256, 0, 384]),
        ("prism.hadamard.sign_widths", &[128, -256, 384]),
        ("prism.hadamard.sign_widths", &[128, 256, 256, 128]),
        ("prism.hadamard.sign_widths", &[100, 284, 384]),
        ("prism.hadamard.sign_values", &whole[1..]),
        ("prism.hadamard.sign_values", &doubled),
        ("prism.hadamard.sign_values", &[]),
    ] {
        // Widths that fit no signs are told of by the signs that are missing.
        let bytes = with_key(BYTES, key, Some(i32s(values)));
        let model = Model::from_bytes("changed", bytes, &ModelOptions::default());
        let error = model.expect_err(key).to_string();
        let part = key.trim_end_matches("widths").trim_end_matches("values");
        assert!(error.contains(part), "{key} = {values:?}: {error}");
    }
    for names in [&[][..], &["blk.0.ffn_gate.weight", "token_embd.weight"]] {
        refused(BYTES, "prism.hadamard.weight_names", Some(strings(names)));
    }
    for names in [&["output.weight"][..], &["token_embd.weight"; 2]] {
        let key = "prism.hadamard.inverse_weight_names";
        refused(BYTES, key, Some(strings(names)));
    }
}

/// What differs from files as they are written, and is not wrong.
#[test]
fn harmless_keys_are_taken() {
    let kinds = |layers: &[i32]| Some(i32s(layers));
    for (key, value) in [
        ("qwen35.full_attention_interval", None),
        ("qwen35.attention.recurrent_layers", kinds(&[1, 1, 1, 0])),
        ("qwen35.rope.dimension_sections", kinds(&[3, 3, 2])),
        ("qwen35.nextn_predict_layers", Some(0u64.into())),
        ("qwen35.ssm.conv_kernel", Some(4u8.into())),
        ("prism.hadamard.version", Some(2u64.into())),
    ] {
        let bytes = with_key(BYTES, key, value);
        let model = Model::from_bytes("changed", bytes, &ModelOptions::default());
        assert!(model.is_ok(), "{key}: {:?}", model.err());
    }
}
