//! Dictionaries of config.json: which one counts, what is missing, what is refused.

use super::of_config;
use bitnet::{RopeScaling, ScalingKind};
use serde_json::{Value as Json, json};

fn scaling(config: Json) -> Result<RopeScaling, String> {
    match of_config(&config) {
        Ok(architecture) => Ok(architecture.rope_scaling),
        Err(error) => Err(error.to_string()),
    }
}

fn yarn(config: Json) -> (f64, f64, f64) {
    match scaling(config).expect("YaRN") {
        RopeScaling {
            kind: ScalingKind::Yarn {
                factor, original, ..
            },
            magnitude,
        } => (factor, original, magnitude),
        other => panic!("{other:?}"),
    }
}

/// transformers 5.24: `RotaryEmbeddingConfigMixin.standardize_rope_params` and `_compute_yarn_parameters`.
#[test]
fn missing_and_doubled_values_are_those_of_transformers() {
    let base = 1.0 + 0.1 * 4f64.ln();
    let found = yarn(
        json!({"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": 4.0}}),
    );
    assert!((found.2 - base).abs() < 1e-12 && (found.0, found.1) == (4.0, 4096.0));
    // A key of config.json counts more than that of the dictionary.
    let found = yarn(json!({
        "original_max_position_embeddings": 512, "max_position_embeddings": 4096,
        "rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": null,
                         "original_max_position_embeddings": 1024},
    }));
    assert_eq!((found.0, found.1), (8.0, 512.0));
    // 0 counts as nothing.
    let found = yarn(json!({"rope_scaling": {
        "rope_type": "yarn", "factor": 4, "beta_fast": 0, "beta_slow": 0, "mscale": 0, "mscale_all_dim": 1, "finetuned": true,
    }}));
    assert!((found.2 - base).abs() < 1e-12);
    // `rope_scaling` counts, if it is there and not empty.
    let both = |scaling: Json| {
        json!({
            "rope_scaling": scaling,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 77.0},
            "rope_theta": 99.0,
        })
    };
    let found = of_config(&both(json!({"rope_type": "default"}))).expect("no scaling");
    assert_eq!(
        (found.rope_scaling, found.rope.base),
        (RopeScaling::NONE, 99.0)
    );
    for empty in [json!({}), json!(null)] {
        let found = of_config(&both(empty)).expect("linear");
        assert_eq!(found.rope_scaling.kind, ScalingKind::Linear { factor: 2.0 });
        assert_eq!(found.rope.base, 77.0);
    }
    let found =
        of_config(&json!({"head_dim": 128, "partial_rotary_factor": 0.5})).expect("partial");
    assert_eq!(found.rope.dims, 64);
    let found = of_config(&json!({
        "head_dim": 128, "partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25},
    }));
    assert_eq!(found.expect("partial").rope.dims, 32);
    // Layers of two kinds that rotate alike.
    let linear = json!({"rope_type": "linear", "factor": 2.0});
    let nested =
        json!({"rope_parameters": {"full_attention": linear, "sliding_attention": linear}});
    let found = scaling(nested).expect("linear");
    assert_eq!(found.kind, ScalingKind::Linear { factor: 2.0 });
}

#[test]
fn what_is_not_understood_is_refused() {
    for (dictionary, with) in [
        (
            json!({"rope_type": "longrope", "short_factor": [], "long_factor": []}),
            "\"longrope\"",
        ),
        (json!({"type": "su"}), "\"su\""),
        (
            json!({"type": "mrope", "mrope_section": [1, 1]}),
            "\"mrope\"",
        ),
        (
            json!({"rope_type": "default", "mrope_section": [1, 1]}),
            "mrope_section",
        ),
        (json!({"rope_type": 3}), "rope_type: expected a string"),
        (json!({"factor": 4.0}), "a factor of 4 and no type"),
        (json!({"rope_type": "linear"}), "factor: expected a number"),
        (
            json!({"rope_type": "linear", "factor": "4"}),
            "factor: expected a number",
        ),
        (
            json!({"rope_type": "linear", "factor": 0}),
            "factor: expected a positive number",
        ),
        (json!({"rope_type": "yarn"}), "factor: expected a number"),
        (
            json!({"rope_type": "yarn", "factor": 2, "attention_factor": 0}),
            "attention factor",
        ),
        (
            json!({"rope_type": "yarn", "factor": 2, "truncate": 1}),
            "truncate: expected true or false",
        ),
        (
            json!({"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}),
            "beta_fast",
        ),
        (
            json!({"rope_type": "yarn", "factor": 2, "rope_theta": 1}),
            "more than 1",
        ),
        (
            json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}),
            "high_freq_factor",
        ),
        (
            json!({"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}),
            "differs between kinds of layers",
        ),
        (
            json!({"rope_type": "default", "partial_rotary_factor": 1.5}),
            "partial_rotary_factor",
        ),
    ] {
        let error = scaling(json!({"rope_parameters": dictionary})).expect_err(with);
        assert!(error.contains(with), "{error}");
    }
    let error = scaling(json!({"rope_scaling": "yarn"})).expect_err("no dictionary");
    assert!(
        error.contains("rope_scaling: expected an object or null"),
        "{error}"
    );
}
