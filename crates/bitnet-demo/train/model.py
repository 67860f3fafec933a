"""The demo model as it is trained: ternary weights and int8 activations from the first step, straight-through gradients."""

import torch
import torch.nn.functional as F
from torch import nn


def rope_tables(shape, length, device=None):
    """cos and sin, [length, head_dim / 2] each, angles in f64."""
    i = torch.arange(shape.head_dim // 2, dtype=torch.float64, device=device)
    angles = torch.outer(torch.arange(length, dtype=torch.float64, device=device), shape.rope_theta ** (-2 * i / shape.head_dim))
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """RoPE on the halves of the last dimension (NeoX)."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class RmsNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def quantize(x):
    """int8 codes of each row as floats (gradient: that of x * s) and s = 127 / absmax; half-to-even."""
    s = 127.0 / x.detach().abs().amax(-1, keepdim=True).clamp_min(1e-5)
    scaled = x * s
    return scaled + (scaled.round().clamp(-128, 127) - scaled).detach(), s


class BitLinear(nn.Module):
    """[.., k] int8 codes and their scale to [.., n] f32. Codes and ternary values are exact in bf16."""

    def __init__(self, k, n):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, k) * 0.02)

    def forward(self, codes, s):
        m = self.weight.detach().abs().mean().clamp_min(1e-5)
        scaled = self.weight / m
        t = scaled + (scaled.round().clamp(-1, 1) - scaled).detach()
        return F.linear(codes.bfloat16(), t.bfloat16()).float() * (m / s)


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        h, kv = shape.hidden, shape.kv_heads * shape.head_dim
        self.attn_norm, self.attn_sub_norm = RmsNorm(h, shape.eps), RmsNorm(h, shape.eps)
        self.ffn_norm, self.ffn_sub_norm = RmsNorm(h, shape.eps), RmsNorm(shape.ffn, shape.eps)
        self.attn_q, self.attn_k, self.attn_v = BitLinear(h, h), BitLinear(h, kv), BitLinear(h, kv)
        self.attn_output = BitLinear(h, h)
        self.ffn_gate, self.ffn_up, self.ffn_down = BitLinear(h, shape.ffn), BitLinear(h, shape.ffn), BitLinear(shape.ffn, h)

    def forward(self, x, cos, sin):
        shape = self.shape
        batch, length, _ = x.shape
        a = quantize(self.attn_norm(x))
        q, k, v = (p(*a).view(batch, length, -1, shape.head_dim).transpose(1, 2) for p in (self.attn_q, self.attn_k, self.attn_v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (z.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for z in (k, v))
        y = F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), is_causal=True)
        y = y.transpose(1, 2).reshape(batch, length, -1).float()
        x = x + self.attn_output(*quantize(self.attn_sub_norm(y)))
        f = quantize(self.ffn_norm(x))
        u = F.relu(self.ffn_gate(*f)).square() * self.ffn_up(*f)
        return x + self.ffn_down(*quantize(self.ffn_sub_norm(u)))


class BitNet(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.hidden)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = RmsNorm(shape.hidden, shape.eps)
        cos, sin = rope_tables(shape, shape.context)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, tokens, weights):
        """The weighted mean loss of predicting tokens[:, 1:]; weights[:, i] belongs to tokens[:, i]."""
        x = self.token_embd(tokens)
        length = tokens.shape[1]
        for block in self.blk:
            x = block(x, self.cos[:length], self.sin[:length])
        x = self.output_norm(x)
        logits = F.linear(x[:, :-1].bfloat16(), self.token_embd.weight.bfloat16()).float()
        w = weights[:, 1:].float().flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return (loss * w).sum() / w.sum()
