"""Golden logits from an implementation that shares no code with ours: transformers' BitNetForCausalLM in f32 on the CPU.

It is given the exported file's weights (ternary value times scale) in plain linear layers. Unquantized activations are then
simply its forward pass; for int8 activations each projection is wrapped to round its input as the format demands.
"""

import hashlib
import json

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import corpus
import gguf_file

PROMPTS = [
    "Once upon a time",
    "One sunny morning, Lily took her red kite to the park.",
    corpus.prompt(None, [], "What is 47 + 38?"),
    corpus.prompt("Answer in one short sentence.", [], "Tom is in the park with a blue boat. Where is Tom?"),
    "The little fox was sad because",
]
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_sub_norm": "self_attn.attn_sub_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_sub_norm": "mlp.ffn_sub_norm", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}


class Int8Input(nn.Module):
    """A projection with ternary weights and one scale, whose input rows are rounded to int8."""

    def __init__(self, codes, scale):
        super().__init__()
        self.codes, self.scale = torch.tensor(codes, dtype=torch.float32), float(scale)

    def forward(self, x):
        s = 127.0 / x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
        codes = (x * s).round().clamp(-128, 127)
        return nn.functional.linear(codes, self.codes) / s * self.scale


def reference(path):
    """transformers' model with the file's weights, and its projections' (parent, name, codes, scale)."""
    from transformers import BitNetConfig, BitNetForCausalLM

    meta, tensors = gguf_file.read(path)
    arch = meta["general.architecture"]
    theta = meta[f"{arch}.rope.freq_base"]
    config = BitNetConfig(
        vocab_size=meta[f"{arch}.vocab_size"], hidden_size=meta[f"{arch}.embedding_length"],
        intermediate_size=meta[f"{arch}.feed_forward_length"], num_hidden_layers=meta[f"{arch}.block_count"],
        num_attention_heads=meta[f"{arch}.attention.head_count"], num_key_value_heads=meta[f"{arch}.attention.head_count_kv"],
        hidden_act="relu2", max_position_embeddings=meta[f"{arch}.context_length"],
        rms_norm_eps=float(np.float32(meta[f"{arch}.attention.layer_norm_rms_epsilon"])), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": theta}, bos_token_id=meta["tokenizer.ggml.bos_token_id"],
        eos_token_id=meta["tokenizer.ggml.eos_token_id"])
    config._attn_implementation = "eager"
    model = BitNetForCausalLM(config).float().eval()
    state, projections = {}, []
    for name, tensor in tensors.items():
        if name == "token_embd.weight":
            target = "model.embed_tokens.weight"
        elif name == "output_norm.weight":
            target = "model.norm.weight"
        else:
            _, layer, part, _ = name.split(".")
            target = f"model.layers.{layer}.{NAMES[part]}.weight"
        if isinstance(tensor, tuple):
            projections.append((target.removesuffix(".weight"), *tensor))
            tensor = tensor[0].astype(np.float32) * np.float32(tensor[1])
        state[target] = torch.tensor(np.asarray(tensor, dtype=np.float32))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    assert torch.equal(model.lm_head.weight, state["model.embed_tokens.weight"])
    want = theta ** (-torch.arange(0, 64, 2, dtype=torch.float64)[: config.hidden_size // config.num_attention_heads // 2]
                     / (config.hidden_size // config.num_attention_heads))
    assert torch.allclose(model.model.rotary_emb.inv_freq.double().cpu(), want, rtol=1e-5), "rope frequencies differ"
    return model, projections


def with_int8(model, projections):
    for path, codes, scale in projections:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, Int8Input(codes, scale))
    return model


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def sequences(tokenizer, count=4, length=128):
    """Held-out documents of at least `length` tokens, cut to it: stories and conversations in turn."""
    found = []
    seed = 31337
    while len(found) < count:
        kind = ["story", "questions"][len(found) % 2]
        seed += 1
        ids = corpus.encode(tokenizer, corpus.documents(seed, 1, True, kind))[0][0]
        if len(ids) >= length:
            found.append(ids[:length])
    return found


def write(gguf_path, tokenizer, out_path):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    model, projections = reference(gguf_path)
    tensors = {}
    for i, prompt in enumerate(PROMPTS):
        ids = tokenizer.encode(prompt, add_special_tokens=not prompt.startswith(corpus.BOS)).ids
        tensors[f"prompt{i}.tokens"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"prompt{i}.logits_f32"] = logits(model, ids).contiguous()
    texts = sequences(tokenizer)
    plain = [logits(model, ids) for ids in texts]
    with_int8(model, projections)
    rounded = [logits(model, ids) for ids in texts]
    for j, (ids, y) in enumerate(zip(texts, rounded)):
        tensors[f"heldout{j}.tokens"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"heldout{j}.logits_int8"] = y.half().contiguous()
    p, q = (torch.cat(parts).double().log_softmax(-1) for parts in (rounded, plain))
    kl = (p.exp() * (p - q)).sum(-1).mean().item()
    top1 = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    with open(gguf_path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    import transformers

    save_file(tensors, out_path, metadata={
        "kl_int8_vs_f32": repr(kl), "top1_int8_vs_f32": repr(top1), "positions": str(p.shape[0]), "prompts": json.dumps(PROMPTS),
        "model_sha256": digest, "made_with": f"transformers {transformers.__version__}, torch {torch.__version__}, f32 on CPU",
    })
    return {"kl_int8_vs_f32": kl, "top1_int8_vs_f32": top1, "positions": p.shape[0], "texts": texts, "rounded": rounded,
            "prompt_tokens": sum(len(t) for n, t in tensors.items() if n.endswith("tokens") and n.startswith("prompt"))}
