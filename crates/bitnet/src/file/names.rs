//! What the two kinds of file call the same tensor. Everything here is named as in GGUF unless it says otherwise.

use serde_json::Value as Json;

/// The name that checkpoints have for the head.
pub(crate) const CHECKPOINT_HEAD: &str = "lm_head.weight";

/// Names in GGUF and in checkpoints, of tensors outside the layers.
const GLOBAL: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", CHECKPOINT_HEAD),
];

/// Names in GGUF and in checkpoints, of tensors inside a layer. Where a checkpoint may use either of two, the usual one
/// comes first.
const LAYER: [(&str, &str); 15] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_sub_norm", "self_attn.attn_sub_norm"),
    ("attn_sub_norm", "self_attn.inner_attn_ln"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_sub_norm", "mlp.ffn_sub_norm"),
    ("ffn_sub_norm", "mlp.ffn_layernorm"),
    ("ffn_down", "mlp.down_proj"),
];

/// Tensors of the layers of hybrid models, with their endings. They are not converted: their rows have another order in GGUF.
const HYBRID_LAYER: [(&str, &str); 10] = [
    (
        "post_attention_norm.weight",
        "post_attention_layernorm.weight",
    ),
    ("attn_qkv.weight", "linear_attn.in_proj_qkv.weight"),
    ("attn_gate.weight", "linear_attn.in_proj_z.weight"),
    ("ssm_beta.weight", "linear_attn.in_proj_b.weight"),
    ("ssm_alpha.weight", "linear_attn.in_proj_a.weight"),
    ("ssm_a", "linear_attn.A_log"),
    ("ssm_dt.bias", "linear_attn.dt_bias"),
    ("ssm_conv1d.weight", "linear_attn.conv1d.weight"),
    ("ssm_norm.weight", "linear_attn.norm.weight"),
    ("ssm_out.weight", "linear_attn.out_proj.weight"),
];

/// The name that a hybrid checkpoint has for a tensor.
pub(crate) fn to_hybrid_checkpoint(gguf: &str) -> Option<String> {
    let layer = gguf
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let known = |part: &str| HYBRID_LAYER.iter().find(|(known, _)| *known == part);
    match layer.and_then(|(layer, part)| Some((layer, known(part)?))) {
        Some((layer, (_, name))) => Some(format!("model.layers.{layer}.{name}")),
        None => to_checkpoint(gguf).into_iter().next(),
    }
}

/// The name that a tensor has where the part of a model that reads is one of several.
pub(crate) fn within_language_model(checkpoint: &str) -> String {
    match checkpoint.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => checkpoint.to_owned(),
    }
}

/// The names that a checkpoint may have for a tensor, the usual one first.
pub(crate) fn to_checkpoint(gguf: &str) -> Vec<String> {
    let global = GLOBAL.iter().filter(|(known, _)| *known == gguf);
    let mut names: Vec<String> = global.map(|(_, name)| (*name).to_owned()).collect();
    if let Some((layer, part)) = layer_and_part(gguf, "blk.") {
        let parts = LAYER.iter().filter(|(known, _)| *known == part);
        names.extend(parts.map(|(_, name)| format!("model.layers.{layer}.{name}.weight")));
    }
    names
}

/// The name that a GGUF file has for a tensor of a checkpoint.
pub(crate) fn to_gguf(checkpoint: &str) -> Option<String> {
    if let Some((name, _)) = GLOBAL.iter().find(|(_, known)| *known == checkpoint) {
        return Some((*name).to_owned());
    }
    let (layer, part) = layer_and_part(checkpoint, "model.layers.")?;
    let (name, _) = LAYER.iter().find(|(_, known)| *known == part)?;
    Some(format!("blk.{layer}.{name}.weight"))
}

/// The number of a layer and the part of it whose weight a name, which begins with `prefix`, stands for.
fn layer_and_part<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let rest = name.strip_prefix(prefix)?.strip_suffix(".weight")?;
    let (layer, part) = rest.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// Where a tensor comes in a file: embedding, layers, norm, head.
pub(crate) fn position(gguf: &str) -> (usize, usize, usize) {
    if let Some(index) = GLOBAL.iter().position(|(known, _)| *known == gguf) {
        return (if index == 0 { 0 } else { 1 + index }, 0, 0);
    }
    let Some((layer, part)) = layer_and_part(gguf, "blk.") else {
        return (usize::MAX, 0, 0);
    };
    let part = LAYER.iter().position(|(known, _)| *known == part);
    (1, layer, part.unwrap_or(usize::MAX))
}

/// Whether a tensor is one of the projections that BitNet training makes ternary.
pub(crate) fn is_projection(gguf: &str) -> bool {
    let part = layer_and_part(gguf, "blk.").map(|(_, part)| part);
    let attention = ["attn_q", "attn_k", "attn_v", "attn_output"];
    let delta_net = ["attn_qkv", "attn_gate", "ssm_out"];
    let feed_forward = ["ffn_gate", "ffn_up", "ffn_down"];
    let mut known = attention.iter().chain(&delta_net).chain(&feed_forward);
    part.is_some_and(|part| known.any(|known| *known == part))
}

/// Whether a tensor, named as in the checkpoint of this config.json, has no say: a head that is tied to the embedding,
/// or rotary frequencies, which old checkpoints store and which follow from the configuration.
pub(crate) fn is_redundant(checkpoint: &str, config: &Json) -> bool {
    let is_true = |config: &Json| config["tie_word_embeddings"].as_bool() == Some(true);
    let tied = is_true(config) || is_true(&config["text_config"]);
    (tied && checkpoint == CHECKPOINT_HEAD) || checkpoint.ends_with("rotary_emb.inv_freq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (gguf, checkpoint) in LAYER {
            let gguf = format!("blk.12.{gguf}.weight");
            let checkpoint = format!("model.layers.12.{checkpoint}.weight");
            assert_eq!(to_gguf(&checkpoint).as_ref(), Some(&gguf));
            let names = to_checkpoint(&gguf);
            assert!(names.contains(&checkpoint));
            for name in names {
                assert_eq!(to_gguf(&name).as_ref(), Some(&gguf));
            }
        }
        assert_eq!(
            to_checkpoint("blk.7.ffn_sub_norm.weight")[0],
            "model.layers.7.mlp.ffn_sub_norm.weight"
        );
        assert_eq!(to_checkpoint("output.weight"), ["lm_head.weight"]);
        assert_eq!(
            to_gguf("model.norm.weight").as_deref(),
            Some("output_norm.weight")
        );
        for unknown in [
            "blk.x.attn_q.weight",
            "blk.0.attn_q.bias",
            "rope_freqs.weight",
            "blk.0.attn_q.scale",
        ] {
            assert!(to_checkpoint(unknown).is_empty());
        }
        assert_eq!(
            to_gguf("model.layers.0.self_attn.q_proj.weight_scale"),
            None
        );
        assert!(is_projection("blk.3.ffn_up.weight") && !is_projection("blk.3.ffn_norm.weight"));
    }

    #[test]
    fn hybrid_checkpoints_have_names_of_their_own() {
        let name = |gguf: &str| to_hybrid_checkpoint(gguf).unwrap_or_default();
        for (gguf, checkpoint) in [
            ("blk.3.ssm_a", "model.layers.3.linear_attn.A_log"),
            (
                "blk.0.attn_qkv.weight",
                "model.layers.0.linear_attn.in_proj_qkv.weight",
            ),
            (
                "blk.1.attn_q.weight",
                "model.layers.1.self_attn.q_proj.weight",
            ),
            (
                "blk.1.post_attention_norm.weight",
                "model.layers.1.post_attention_layernorm.weight",
            ),
            ("output.weight", "lm_head.weight"),
        ] {
            assert_eq!(name(gguf), checkpoint);
        }
        assert_eq!(
            within_language_model("model.layers.1.mlp.up_proj.weight"),
            "model.language_model.layers.1.mlp.up_proj.weight"
        );
        assert_eq!(within_language_model(CHECKPOINT_HEAD), CHECKPOINT_HEAD);
    }

    #[test]
    fn a_tied_head_is_redundant() {
        let tied = serde_json::json!({"tie_word_embeddings": true});
        let own = serde_json::json!({"tie_word_embeddings": false});
        assert!(is_redundant("lm_head.weight", &tied));
        let nested = serde_json::json!({"text_config": tied});
        assert!(is_redundant("lm_head.weight", &nested));
        assert!(!is_redundant("lm_head.weight", &own));
        assert!(!is_redundant("lm_head.weight", &serde_json::json!({})));
        assert!(is_redundant(
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            &own
        ));
        assert!(!is_redundant("model.norm.weight", &tied));
    }
}
