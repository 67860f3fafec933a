"""Turns a trained model into the GGUF file that ships."""

import numpy as np

import gguf_file

ARCH = "bitnet-b1.58"
# Renders [{role, content}, ..] to "System: S<|eot_id|>User: U<|eot_id|>Assistant: "; BOS comes from the tokenizer.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
PROJECTIONS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
NORMS = ["attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm"]


def metadata(shape, tokenizer, specials):
    import json

    model = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size(with_added_tokens=True))]
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    if len(tokens) != shape.vocab:
        raise SystemExit(f"the tokenizer has {len(tokens)} entries, the model {shape.vocab}")
    bos, eos = tokens.index(specials[0]), tokens.index(specials[1])
    kinds = np.array([3 if token in specials else 1 for token in tokens], dtype=np.int32)
    return {
        "general.architecture": ARCH,
        "general.name": "bitnet-demo",
        "general.license": "MIT OR Apache-2.0",
        f"{ARCH}.vocab_size": shape.vocab,
        f"{ARCH}.context_length": shape.context,
        f"{ARCH}.embedding_length": shape.hidden,
        f"{ARCH}.block_count": shape.layers,
        f"{ARCH}.feed_forward_length": shape.ffn,
        f"{ARCH}.rope.dimension_count": shape.head_dim,
        f"{ARCH}.attention.head_count": shape.heads,
        f"{ARCH}.attention.head_count_kv": shape.kv_heads,
        "tokenizer.ggml.add_bos_token": True,
        f"{ARCH}.attention.layer_norm_rms_epsilon": shape.eps,
        f"{ARCH}.rope.freq_base": shape.rope_theta,
        "general.file_type": 40,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.zeros(len(tokens), dtype=np.float32),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.padding_token_id": eos,
        "tokenizer.chat_template": CHAT_TEMPLATE,
        "general.quantization_version": 2,
    }


def export(path, state, shape, tokenizer, specials):
    """state: {name: f32 numpy array} of the master weights."""
    gguf_file.check()
    tensors = [("token_embd.weight", state["token_embd.weight"].astype(np.float16))]
    for layer in range(shape.layers):
        for part in ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_sub_norm", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_sub_norm", "ffn_down"]:
            name = f"blk.{layer}.{part}.weight"
            w = state[name].astype(np.float32)
            tensors.append((name, gguf_file.ternary(w) if part in PROJECTIONS else w))
    tensors.append(("output_norm.weight", state["output_norm.weight"].astype(np.float32)))
    gguf_file.write(path, metadata(shape, tokenizer, specials), tensors)
