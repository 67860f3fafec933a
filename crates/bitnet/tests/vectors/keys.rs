//! Every key of models that embed, missing, of another type and out of range.

use super::rewrite::{refused, with_key};
use super::{Golden, Model, ModelOptions, Pooling};
use bitnet::file::Value;
use bitnet::file::gguf::Array;

#[test]
fn wrong_keys_are_refused_by_name_and_value() {
    for (golden, arch) in Golden::all().iter().zip(["qwen3", "gemma3"]) {
        let refused = |name: &str, value: Option<Value>| {
            refused(golden.bytes, &format!("{arch}.{name}"), value);
        };
        for name in [
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
        ] {
            refused(name, None);
        }
        for name in [
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
            "pooling_type",
        ] {
            let several = Array::from_i32s(&[1, 2]).into();
            for value in [
                (-1i32).into(),
                1.5f32.into(),
                "one".into(),
                true.into(),
                several,
            ] {
                refused(name, Some(value));
            }
        }
        refused("attention.layer_norm_rms_epsilon", None);
        for name in ["attention.layer_norm_rms_epsilon", "rope.freq_base"] {
            refused(name, Some("small".into()));
            refused(name, Some(1u32.into()));
        }
        for value in [4u32, 5, 1000] {
            refused("pooling_type", Some(value.into()));
        }
        refused("attention.value_length", Some(32u32.into()));
        refused("attention.sliding_window", Some("wide".into()));
        refused("attention.logit_softcapping", Some(50.0f32.into()));
        refused("hidden_activation", Some("tanh".into()));
        refused("hidden_activation", Some(3u32.into()));
    }
}

#[test]
fn pooling_is_that_of_models_that_embed_whatever_their_file_says() {
    for (golden, arch) in Golden::all().iter().zip(["qwen3", "gemma3"]) {
        for value in [None, Some(0u32), Some(1), Some(2), Some(3)] {
            let key = format!("{arch}.pooling_type");
            let bytes = with_key(golden.bytes, &key, value.map(Value::from));
            let model = Model::from_bytes("changed", bytes, &ModelOptions::default());
            assert_eq!(model.expect("a model").pooling(), Pooling::Last);
        }
    }
}
