"""Loads what `bitnet convert --type safetensors` writes with Hugging Face transformers, and compares logits.

    pip install torch 'transformers>=5.24' accelerate
    BITNET=target/release/bitnet python3 crates/bitnet/tests/with_transformers.py [MODEL.gguf …]

Without models: the demo model, and a synthetic one of every architecture, each as it is and rounded to BF16. Both programs
quantize activations; rounding them differs in last bits, which a trained model of some depth makes visible, so that what must
agree is the likeliest token of every position and the logits to a part of their range.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# The layers of the integration are compiled on their first use, which takes a C++ compiler and minutes.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[3]
BITNET = os.environ.get("BITNET", str(ROOT / "target/release/bitnet"))
TOKENS = [1, 2, 3, 50, 60, 70, 100, 5, 9, 400, 17]
TEXT = "Once upon a time, a fox named Mia hid 42 red apples."
# Of the range of all logits.
TOLERANCE = 0.02


def bitnet(*arguments):
    run = subprocess.run([BITNET, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"bitnet {' '.join(map(str, arguments))}: {run.stderr}")
    return run.stdout


def compare(name, folder):
    """Whether transformers and bitnet agree on a folder."""
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model.eval()
    with torch.no_grad():
        theirs = model(torch.tensor([TOKENS])).logits[0].float()
    ids = ",".join(map(str, TOKENS))
    ours = torch.tensor(json.loads(bitnet("logits", "-m", folder, "--tokens", ids, "--json"))["logits"])
    spread = (ours.max() - ours.min()).item()
    difference = (theirs - ours).abs().max().item() / spread
    likeliest = (theirs.argmax(-1) == ours.argmax(-1)).float().mean().item()
    complete = not loading["missing_keys"] and not loading["unexpected_keys"]
    tokens = AutoTokenizer.from_pretrained(folder)(TEXT).input_ids
    same_tokens = tokens == json.loads(bitnet("tokenize", "-m", folder, TEXT, "--json"))["ids"]
    dtype = str(model.dtype).removeprefix("torch.")
    limit = TOLERANCE if model.dtype == torch.float32 else 4 * TOLERANCE
    good = complete and same_tokens and difference < limit and (likeliest == 1 or model.dtype != torch.float32)
    print(
        f"{'ok   ' if good else 'WRONG'} {name:24} {type(model).__name__:20} {dtype:9} largest difference {difference:.1e} of the "
        f"range, likeliest token equal at {likeliest:.0%}, tokens {'equal' if same_tokens else 'DIFFER'}"
        + ("" if complete else f", missing {loading['missing_keys']}, unexpected {loading['unexpected_keys']}")
    )
    return good


def rounded(folder, to):
    """A copy of a folder, its numbers rounded to BF16, that bitnet has written again."""
    draft = pathlib.Path(f"{to}-draft")
    draft.mkdir()
    for file in folder.iterdir():
        (draft / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: t.bfloat16().float() if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
    bitnet("convert", draft, to, "--type", "safetensors")


def main():
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        models = [pathlib.Path(model) for model in sys.argv[1:]]
        if not models:
            models = [ROOT / "crates/bitnet-demo/data/demo.gguf"]
            for arch in ["bitnet-b1.58", "bitnet", "llama", "qwen3"]:
                models.append(scratch / f"{arch}.gguf")
                bitnet("synth", "--arch", arch, models[-1])
        for model in models:
            folder = scratch / f"{model.stem}-folder"
            bitnet("convert", model, folder, "--type", "safetensors")
            good &= compare(model.stem, folder)
            if len(sys.argv) == 1:
                narrow = scratch / f"{model.stem}-bf16"
                rounded(folder, narrow)
                good &= compare(f"{model.stem}, rounded", narrow)
    sys.exit(0 if good else 1)


main()
