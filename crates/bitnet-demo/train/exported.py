"""The exported file run in plain f32 torch: what every number in the model card is measured with.

Weights are those of the GGUF file; activations are int8 codes, so each projection is an exact integer sum (below 2^24).
"""

import numpy as np
import torch
import torch.nn.functional as F

import gguf_file
from model import rope_tables, rotate
from shape import Shape


class Exported:
    def __init__(self, path, device):
        meta, tensors = gguf_file.read(path)
        arch = meta["general.architecture"]
        self.shape = Shape(
            vocab=meta[f"{arch}.vocab_size"], hidden=meta[f"{arch}.embedding_length"], ffn=meta[f"{arch}.feed_forward_length"],
            layers=meta[f"{arch}.block_count"], heads=meta[f"{arch}.attention.head_count"],
            kv_heads=meta[f"{arch}.attention.head_count_kv"], context=meta[f"{arch}.context_length"],
            rope_theta=meta[f"{arch}.rope.freq_base"], eps=float(np.float32(meta[f"{arch}.attention.layer_norm_rms_epsilon"])))
        self.device = device
        self.w = {}
        for name, t in tensors.items():
            if isinstance(t, tuple):
                self.w[name] = (torch.tensor(t[0], dtype=torch.float32, device=device), float(t[1]))
            else:
                self.w[name] = torch.tensor(t.astype(np.float32), device=device)
        self.cos, self.sin = rope_tables(self.shape, self.shape.context, device)

    def norm(self, x, name):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.eps) * self.w[name]

    def quantize(self, x):
        s = 127.0 / x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
        return (x * s).round().clamp(-128, 127), s

    def project(self, a, name):
        codes, scale = self.w[name]
        return F.linear(a[0], codes) / a[1] * scale

    @torch.no_grad()
    def forward(self, tokens, positions, mask, cache=None, last_only=False):
        """tokens, positions [b, t]; mask [b, t, all] is true where a token may look; cache: list of (k, v) to extend."""
        shape = self.shape
        b, t = tokens.shape
        x = self.w["token_embd.weight"][tokens]
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        for i in range(shape.layers):
            p = f"blk.{i}."
            a = self.quantize(self.norm(x, p + "attn_norm.weight"))
            q, k, v = (self.project(a, f"{p}attn_{n}.weight").view(b, t, -1, shape.head_dim).transpose(1, 2) for n in "qkv")
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            if cache is not None:
                if cache[i] is not None:
                    k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                cache[i] = (k, v)
            group = shape.heads // shape.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = q @ k.transpose(-1, -2) / shape.head_dim ** 0.5
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
            y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, -1)
            x = x + self.project(self.quantize(self.norm(y, p + "attn_sub_norm.weight")), p + "attn_output.weight")
            f = self.quantize(self.norm(x, p + "ffn_norm.weight"))
            u = F.relu(self.project(f, p + "ffn_gate.weight")).square() * self.project(f, p + "ffn_up.weight")
            x = x + self.project(self.quantize(self.norm(u, p + "ffn_sub_norm.weight")), p + "ffn_down.weight")
        x = self.norm(x[:, -1:] if last_only else x, "output_norm.weight")
        return F.linear(x, self.w["token_embd.weight"])

    def _batch(self, rows, pad):
        """Left-padded tokens, positions from 0 at each row's first token, and which slots are real."""
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest), pad, dtype=torch.long)
        real = torch.zeros((len(rows), longest), dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, longest - len(row):] = torch.tensor(row)
            real[i, longest - len(row):] = True
        return tokens.to(self.device), real.to(self.device)

    def generate(self, rows, stops, limit, pad, temperature=0.0, top_k=40, seed=0, batch=256):
        """Continues each row of token ids up to a stop token (not returned) or `limit` tokens."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        results = [None] * len(rows)
        generator = torch.Generator(self.device).manual_seed(seed)
        stop_set = torch.tensor(sorted(stops), device=self.device)
        for start in range(0, len(order), batch):
            part = order[start:start + batch]
            tokens, real = self._batch([rows[i] for i in part], pad)
            t = tokens.shape[1]
            positions = (real.long().cumsum(1) - 1).clamp_min(0)
            causal = torch.ones(t, t, dtype=torch.bool, device=self.device).tril()
            mask = causal & real[:, None, :] | torch.eye(t, dtype=torch.bool, device=self.device)
            cache = [None] * self.shape.layers
            logits = self.forward(tokens, positions, mask, cache, last_only=True)
            out, done = [], torch.zeros(len(part), dtype=torch.bool, device=self.device)
            position = positions[:, -1:]
            for step in range(limit):
                if temperature > 0:
                    values, ids = (logits[:, -1] / temperature).topk(top_k)
                    new = ids.gather(1, torch.multinomial(values.softmax(-1), 1, generator=generator))
                else:
                    new = logits[:, -1].argmax(-1, keepdim=True)
                out.append(new)
                done |= torch.isin(new[:, 0], stop_set)
                if step % 8 == 7 and bool(done.all()):
                    break
                position = position + 1
                real = torch.cat((real, torch.ones_like(real[:, :1])), 1)
                logits = self.forward(new, position, real[:, None, :], cache)
            for i, row in zip(part, torch.cat(out, 1).tolist()):
                end = next((j for j, token in enumerate(row) if token in stops), None)
                results[i] = (row if end is None else row[:end], end is not None)
        return results

    def mean_nll(self, rows, batch=64):
        """(nats, tokens) of predicting every token of each row after its first."""
        total, count = 0.0, 0
        rows = sorted(rows, key=len)
        for start in range(0, len(rows), batch):
            part = rows[start:start + batch]
            tokens, real = self._batch(part, 0)
            t = tokens.shape[1]
            positions = (real.long().cumsum(1) - 1).clamp_min(0)
            causal = torch.ones(t, t, dtype=torch.bool, device=self.device).tril()
            logits = self.forward(tokens, positions, causal & real[:, None, :] | torch.eye(t, dtype=torch.bool, device=self.device))
            nll = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(part), -1)
            keep = real[:, :-1]
            total += nll[keep].double().sum().item()
            count += int(keep.sum())
        return total, count
