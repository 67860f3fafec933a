"""The demo model's dimensions."""

from dataclasses import dataclass


@dataclass
class Shape:
    vocab: int = 2048
    hidden: int = 512
    ffn: int = 1280
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    context: int = 1024
    rope_theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.hidden // self.heads
