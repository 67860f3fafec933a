//! A config.json that leaves fields out, and one that asks for layers of other kinds.
//!
//! Source of the numbers: the classes `BitNetConfig`, `LlamaConfig` and `Qwen3Config` of transformers 5.24,
//! `models/{bitnet,llama,qwen3}/configuration_*.py`.

use bitnet::file::{Bytes, SafeTensorsModel};
use bitnet::{Architecture, ModelOptions};
use bitnet_core::{AttentionHeads, Gate};
use serde_json::{Value as Json, json};

fn file(config: Json) -> SafeTensorsModel {
    let empty = Bytes::from_static(b"\x08\0\0\0\0\0\0\0{}      ");
    SafeTensorsModel::parse("config", empty, config).expect("a file")
}

fn read(config: Json) -> Result<Architecture, String> {
    Architecture::from_config(&file(config)).map_err(|error| error.to_string())
}

fn of(class: &str, edit: impl FnOnce(&mut Json)) -> Result<Architecture, String> {
    let mut config = json!({"architectures": [class]});
    edit(&mut config);
    read(config)
}

#[test]
fn an_empty_configuration_is_that_of_its_class() {
    let expect = |class, numbers, heads, eps, gate, base| {
        let found = of(class, |_| ()).expect(class);
        let found_numbers = [
            found.hidden,
            found.feed_forward,
            found.layers,
            found.context,
        ];
        assert_eq!(found_numbers, numbers, "{class}");
        let (query, kv, dim) = heads;
        assert_eq!(found.heads, AttentionHeads { query, kv, dim }, "{class}");
        assert_eq!(
            (found.eps, found.gate, found.rope.base),
            (eps, gate, base),
            "{class}"
        );
        assert_eq!(found.rope.dims, dim);
    };
    let llama = [4096, 11008, 32, 2048];
    expect(
        "BitNetForCausalLM",
        [2560, 6912, 30, 2048],
        (20, 5, 128),
        1e-5,
        Gate::Relu2,
        500_000.0,
    );
    expect(
        "BitnetForCausalLM",
        llama,
        (32, 32, 128),
        1e-6,
        Gate::Silu,
        10_000.0,
    );
    expect(
        "LlamaForCausalLM",
        llama,
        (32, 32, 128),
        1e-6,
        Gate::Silu,
        10_000.0,
    );
    expect(
        "Qwen3ForCausalLM",
        [4096, 22016, 32, 32768],
        (32, 32, 128),
        1e-6,
        Gate::Silu,
        10_000.0,
    );
}

#[test]
fn key_value_heads_are_those_of_the_class_or_as_many_as_heads() {
    let kv = |class, kv: Option<Json>| {
        let config = of(class, |config| {
            config["num_attention_heads"] = 40.into();
            config["hidden_size"] = 5120.into();
            if let Some(kv) = kv {
                config["num_key_value_heads"] = kv;
            }
        });
        config.map(|found| found.heads.kv)
    };
    assert_eq!(kv("BitNetForCausalLM", None), Ok(5));
    assert_eq!(kv("BitNetForCausalLM", Some(Json::Null)), Ok(40));
    assert_eq!(kv("LlamaForCausalLM", None), Ok(40));
    // 32 do not divide 40.
    assert!(kv("Qwen3ForCausalLM", None).is_err());
    assert_eq!(kv("Qwen3ForCausalLM", Some(Json::Null)), Ok(40));
    assert_eq!(kv("Qwen3ForCausalLM", Some(8.into())), Ok(8));
}

#[test]
fn the_width_of_a_head_of_qwen3_does_not_follow_from_the_others() {
    let dim = |class| {
        let found = of(class, |config| config["hidden_size"] = 1024.into());
        found.map(|found| found.heads.dim)
    };
    assert_eq!(dim("Qwen3ForCausalLM"), Ok(128));
    assert_eq!(dim("LlamaForCausalLM"), Ok(32));
}

#[test]
fn what_would_change_the_output_is_refused() {
    for (class, key, value, with) in [
        (
            "LlamaForCausalLM",
            "attention_bias",
            json!(true),
            "attention_bias",
        ),
        (
            "BitNetForCausalLM",
            "attention_bias",
            json!(true),
            "attention_bias",
        ),
        (
            "Qwen3ForCausalLM",
            "attention_bias",
            json!("yes"),
            "true or false",
        ),
        ("LlamaForCausalLM", "mlp_bias", json!(true), "mlp_bias"),
        (
            "Qwen3ForCausalLM",
            "use_sliding_window",
            json!(true),
            "sliding-window",
        ),
        (
            "Qwen3ForCausalLM",
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "\"sliding_attention\"",
        ),
        ("BitnetForCausalLM", "input_bits", json!(4), "input_bits"),
        (
            "LlamaForCausalLM",
            "hidden_act",
            json!(7),
            "hidden_act: expected a string",
        ),
        ("LlamaForCausalLM", "hidden_act", json!("gelu"), "\"gelu\""),
        (
            "LlamaForCausalLM",
            "rms_norm_eps",
            json!("1e-5"),
            "rms_norm_eps: expected a number",
        ),
        (
            "LlamaForCausalLM",
            "head_dim",
            json!(-1),
            "head_dim: expected a whole number",
        ),
    ] {
        let error = of(class, |config| config[key] = value).expect_err(with);
        assert!(error.contains(with), "{error}");
    }
    // No layer comes after the last.
    let found = of("Qwen3ForCausalLM", |config| {
        config["use_sliding_window"] = true.into();
        config["max_window_layers"] = 32.into();
    });
    found.expect("full attention everywhere");
    // Keys of other classes say nothing.
    of("LlamaForCausalLM", |config| {
        config["use_sliding_window"] = true.into()
    })
    .expect("Llama");
}

#[test]
fn dynamic_scaling_ends_with_the_context() {
    use bitnet::file::synth::{self, CheckpointWeights, SynthOptions};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("st");
    synth::write_checkpoint(&SynthOptions::default(), CheckpointWeights::Packed, &path)
        .expect("written");
    let config_path = path.join("config.json");
    let text = std::fs::read(&config_path).expect("config.json");
    let mut config: Json = serde_json::from_slice(&text).expect("JSON");
    config["rope_scaling"] = json!({"rope_type": "dynamic", "factor": 4.0});
    std::fs::write(config_path, config.to_string()).expect("written");
    let open = |context| {
        let options = ModelOptions {
            context: Some(context),
            ..ModelOptions::default()
        };
        bitnet::Model::open_with(&path, &options, |_, _| ())
    };
    open(512).expect("as far as the model was trained");
    let error = open(513).expect_err("too long").to_string();
    assert!(error.contains("ask for at most 512"), "{error}");
}
