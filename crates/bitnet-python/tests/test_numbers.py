"""Vectors, logits and likelihoods: arrays that are equal to what the command prints, and to a reference."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import bitnet

from bitnet_rust import Model, errors

TEXTS = ["a cat", "A dog sat on the mat, and a bird sang.", "x"]
GOLDEN = Path(__file__).resolve().parents[2] / "bitnet/tests/vectors"


def test_vectors_are_those_that_the_command_writes(model: Model) -> None:
    found = model.embed(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (3, model.dimensions)
    done = subprocess.run(
        [sys.executable, "-m", "bitnet_rust", "embed", *TEXTS, "--npy"], capture_output=True, check=True, timeout=300
    )
    assert np.array_equal(found, np.load(io.BytesIO(done.stdout)))
    assert np.array_equal(model.embed(TEXTS[1]), found[1])
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    short = model.embed(TEXTS, dimensions=16, normalize=False)
    assert short.shape == (3, 16)
    assert model.embed([]).shape == (0, model.dimensions)
    assert not np.array_equal(model.embed(TEXTS, pooling="mean"), found)
    with pytest.raises(errors.ArgumentError, match="pooling"):
        model.embed(TEXTS, pooling="most")
    with pytest.raises(errors.ArgumentError, match="dimensions"):
        model.embed(TEXTS, dimensions=10**6)


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-gemma3"])
def test_vectors_are_those_of_the_reference(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    model = Model.open(GOLDEN / f"{name}.gguf", device="cpu", kv="f32")
    tokenizer = model.tokenizer
    compared = 0
    for case in golden["cases"]:
        inner = [token for token in case["tokens"] if token not in (tokenizer.bos, tokenizer.eos)]
        text = tokenizer.decode(inner)
        # The tokens of a case are chosen at random; some are those of no text.
        if tokenizer.encode(text) + [tokenizer.eos] != case["tokens"]:
            continue
        for pooling in ("last", "mean"):
            cosine = float(model.embed(text, pooling=pooling) @ np.array(case["int8"][pooling], dtype=np.float32))
            assert cosine > 0.9998
        compared += 1
    assert compared > 0


def test_logits_have_the_bits_that_the_command_prints(model: Model) -> None:
    tokens = model.tokenizer.encode("Once upon a time")
    found = model.logits(tokens)
    assert found.shape == (len(tokens), model.vocabulary)
    ids = ",".join(map(str, tokens))
    said = json.loads(bitnet("logits", "--tokens", ids, "--json", "--device", "cpu"))["logits"]
    assert np.array_equal(found, np.array(said, dtype=np.float32))
    assert np.array_equal(model.logits(tokens, last=True), found[-1:])
    assert model.logits([]).shape == (0, model.vocabulary)
    with pytest.raises(errors.ArgumentError, match="token"):
        model.logits([model.vocabulary])


def test_likelihoods_are_those_of_perplexity(model: Model, tmp_path: Path) -> None:
    text = "Once upon a time there was a little cat. The cat liked to play in the garden."
    score = model.score([text])[0]
    file = tmp_path / "text.txt"
    file.write_text(text)
    said = json.loads(bitnet("perplexity", "-f", str(file), "--json"))
    assert said["tokens"] == len(score.tokens) == len(score.token_logprobs)
    assert math.exp(-score.logprob / len(score.tokens)) == said["perplexity"]


def test_what_follows_is_scored_behind_what_it_follows(model: Model) -> None:
    best = model.generate("Once upon a time", max_tokens=5, temperature=0).text
    likely, unlikely = model.score(["Once upon a time"] * 2, [best, " zebra quantum"])
    assert likely.is_greedy
    assert not unlikely.is_greedy
    assert likely.logprob > unlikely.logprob
    with pytest.raises(errors.ArgumentError, match="continuations"):
        model.score(["a"], ["b", "c"])
    with pytest.raises(errors.ArgumentError, match="first"):
        model.score_tokens([1, 2], 0)
