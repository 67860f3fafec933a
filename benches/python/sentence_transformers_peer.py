"""The peer: sentence-transformers over torch in f32, on a model of the shape of BitNet-embedding 0.6B (a Qwen3) with random weights."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
import plan
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers

SHAPE = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
}
WORDS = 1000


def save(folder: Path) -> None:
    """The model, with a tokenizer whose tokens are words."""
    torch.manual_seed(1)
    config = transformers.Qwen3Config(**SHAPE, pad_token_id=0, dtype="float32")
    transformers.Qwen3Model(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1} | {f"w{word}": word + 2 for word in range(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)


def main() -> None:
    options = plan.options("texts", "threads", model=False)
    torch.set_num_threads(options.threads)
    with TemporaryDirectory() as name:
        save(Path(name))
        transformer = Transformer(name, max_seq_length=512)
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    corpus = [" ".join(f"w{(index * 31 + word) % WORDS}" for word in range(tokens)) for index, tokens in enumerate(plan.lengths(options.texts))]
    model.encode(corpus[:2], show_progress_bar=False)
    begin = time.perf_counter()
    vectors = model.encode(corpus, normalize_embeddings=True, show_progress_bar=False)
    seconds = time.perf_counter() - begin
    assert vectors.shape == (options.texts, SHAPE["hidden_size"])
    found = {"seconds": seconds, "tokens": sum(plan.lengths(options.texts)), "torch": torch.__version__}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
