//! What the two kinds of file call the same tensor.

/// Names in GGUF and in checkpoints, of tensors outside the layers.
const GLOBAL: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
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

/// The name that a checkpoint has for a tensor of a GGUF file.
pub(super) fn to_checkpoint(gguf: &str) -> Option<String> {
    if let Some((_, name)) = GLOBAL.iter().find(|(known, _)| *known == gguf) {
        return Some((*name).to_owned());
    }
    let (layer, part) = gguf
        .strip_prefix("blk.")?
        .strip_suffix(".weight")?
        .split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, name) = LAYER.iter().find(|(known, _)| *known == part)?;
    Some(format!("model.layers.{layer}.{name}.weight"))
}

/// The name that a GGUF file has for a tensor of a checkpoint.
pub(super) fn to_gguf(checkpoint: &str) -> Option<String> {
    if let Some((name, _)) = GLOBAL.iter().find(|(_, known)| *known == checkpoint) {
        return Some((*name).to_owned());
    }
    let (layer, part) = checkpoint
        .strip_prefix("model.layers.")?
        .strip_suffix(".weight")?
        .split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (name, _) = LAYER.iter().find(|(_, known)| *known == part)?;
    Some(format!("blk.{layer}.{name}.weight"))
}

/// Where a tensor, named as in GGUF, comes in a file: embedding, layers, norm, head.
pub(super) fn position(gguf: &str) -> (usize, usize, usize) {
    if let Some(index) = GLOBAL.iter().position(|(known, _)| *known == gguf) {
        return (if index == 0 { 0 } else { 1 + index }, 0, 0);
    }
    let part = gguf
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = part else {
        return (usize::MAX, 0, 0);
    };
    let part = part.trim_end_matches(".weight");
    let part = LAYER.iter().position(|(known, _)| *known == part);
    (
        1,
        layer.parse().unwrap_or(usize::MAX),
        part.unwrap_or(usize::MAX),
    )
}

/// Whether a tensor, named as in GGUF, is one of the projections that BitNet training makes ternary.
pub(super) fn is_projection(gguf: &str) -> bool {
    let part = gguf
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    matches!(
        part,
        Some((
            _,
            "attn_q.weight"
                | "attn_k.weight"
                | "attn_v.weight"
                | "attn_output.weight"
                | "ffn_gate.weight"
                | "ffn_up.weight"
                | "ffn_down.weight"
        ))
    )
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
            let back = to_checkpoint(&gguf).unwrap();
            assert_eq!(to_gguf(&back), Some(gguf));
        }
        assert_eq!(
            to_checkpoint("output.weight").as_deref(),
            Some("lm_head.weight")
        );
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
            assert_eq!(to_checkpoint(unknown), None);
        }
        assert_eq!(
            to_gguf("model.layers.0.self_attn.q_proj.weight_scale"),
            None
        );
        assert!(is_projection("blk.3.ffn_up.weight") && !is_projection("blk.3.ffn_norm.weight"));
    }
}
