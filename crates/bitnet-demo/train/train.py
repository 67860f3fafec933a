"""Trains, exports and measures the demo model in one run.

    python3 train.py --out DIR            the run that made the shipped files (one large GPU, about eight minutes)
    python3 train.py --out DIR --smoke    the whole pipeline in miniature

Writes demo.gguf, tokenizer.json, golden.safetensors, heldout.txt, loss.svg, MODEL_CARD.md and metrics.json to DIR.
"""

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

import corpus
import tokenizer as tokenizers_of_ours
from shape import Shape

CHUNK = 4000
START = time.time()


def log(*what):
    print(f"[{time.time() - START:6.1f}s]", *what, flush=True)


def make_chunk(job):
    path, seed, length, chunk = job
    tokenizer = tokenizers_of_ours.load(path)
    docs = corpus.documents(seed, chunk)
    return corpus.pack(corpus.encode(tokenizer, docs), length, tokenizer.token_to_id(corpus.EOS))


def make_corpus(path, seed, chunks, chunk, length):
    """u16 tokens and u8 weights, [rows, length] each; the same for the same seed whatever the number of processes."""
    jobs = [(str(path), seed * 1_000_000 + i, length, chunk) for i in range(chunks)]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        parts = pool.map(make_chunk, jobs, chunksize=1)
    return np.concatenate([t for t, _ in parts]), np.concatenate([w for _, w in parts])


def train(args, shape, tokens, weights):
    import torch  # not before the corpus processes are forked

    from model import BitNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    model = BitNet(shape).to(device)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "token_embd" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "token_embd" in n]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.95), eps=1e-8, fused=device == "cuda")
    tokens = torch.from_numpy(tokens.astype(np.int16)).to(device)
    weights = torch.from_numpy(weights).to(device)
    step_of = torch.compile(model, dynamic=False) if device == "cuda" else model
    generator = torch.Generator().manual_seed(args.seed)
    order = torch.randperm(len(tokens), generator=generator)
    at, losses, kept, started = 0, [], [], None
    for step in range(args.steps):
        elapsed = 0.0 if started is None else time.time() - started
        # the schedule follows the steps; the time limit only takes over on a machine too slow for them
        progress = max(step / args.steps, elapsed / (60 * args.minutes))
        if progress >= 1:
            break
        rate = args.lr * min((step + 1) / args.warmup, 1 - progress)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.param_groups[0]["weight_decay"] = 0.1 if progress < 0.5 else 0.0
        if at + args.batch > len(order):
            order, at = torch.randperm(len(tokens), generator=generator), 0
        rows = order[at:at + args.batch].to(device)
        at += args.batch
        loss = step_of(tokens[rows].long(), weights[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        kept.append(loss.detach())
        if started is None:
            loss.item()
            started = time.time()
            log("first step done")
        if step % 25 == 24 or step == args.steps - 1:
            mean = torch.stack(kept).mean().item()
            kept = []
            losses.append((step + 1, mean))
            if step % 250 == 249 or step < 100:
                rate_of = step * args.batch * tokens.shape[1] / (time.time() - started)
                log(f"step {step + 1} loss {mean:.4f} lr {rate:.2e} {rate_of / 1e3:.0f} k tokens/s")
    steps = losses[-1][0]
    state = {n: p.detach().float().cpu().numpy() for n, p in model.named_parameters()}
    name = torch.cuda.get_device_name(0) if device == "cuda" else "CPU"
    return state, losses, {"steps": steps, "train_seconds": time.time() - started, "device": name}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--steps", type=int, default=11_500)
    parser.add_argument("--minutes", type=float, default=30, help="upper limit of the training itself")
    parser.add_argument("--batch", type=int, default=64, help="rows of 1024 tokens per step")
    parser.add_argument("--documents", type=int, default=2_400_000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json instead of training one")
    args = parser.parse_args()
    if args.smoke:
        args.steps, args.documents, args.warmup = min(args.steps, 150), min(args.documents, 64_000), 50
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "tokenizer.json"
    if args.tokenizer:
        path.write_bytes(args.tokenizer.read_bytes())
        tokenizer = tokenizers_of_ours.load(path)
    else:
        tokenizer = tokenizers_of_ours.train(path)
    log("tokenizer ready")

    shape = Shape()
    chunks = -(-args.documents // CHUNK)
    tokens, weights = make_corpus(path, args.seed, chunks, CHUNK, shape.context)
    counted = int((weights > 0).sum())
    filled = int((tokens != tokenizer.token_to_id(corpus.EOS)).sum())
    log(f"corpus ready: {chunks * CHUNK} documents, {tokens.shape[0]} rows, {filled / 1e6:.1f} M tokens, {counted / 1e6:.1f} M learnt")
    state, losses, run = train(args, shape, tokens, weights)
    log(f"trained {run['steps']} steps in {run['train_seconds']:.0f} s, loss {losses[-1][1]:.4f}")

    import torch

    import card
    import evaluate
    import export
    import golden
    from exported import Exported

    gguf = args.out / "demo.gguf"
    export.export(gguf, state, shape, tokenizer, tokenizers_of_ours.SPECIALS)
    card.loss_svg(args.out / "loss.svg", losses)
    (args.out / "heldout.txt").write_text("\n\n".join(corpus.held_out_stories(60)) + "\n", encoding="utf-8")
    log(f"exported {gguf.stat().st_size} bytes")

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    model = Exported(gguf, "cuda" if torch.cuda.is_available() else "cpu")
    marks = golden.write(gguf, tokenizer, args.out / "golden.safetensors")
    texts, rounded = marks.pop("texts"), marks.pop("rounded")
    # the two implementations agree on the same int8 arithmetic
    theirs = torch.stack(rounded).double().log_softmax(-1)
    length = len(texts[0])
    ids = torch.tensor(texts, device=model.device)
    mask = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()[None].expand(len(texts), -1, -1)
    positions = torch.arange(length, device=model.device)[None].expand(len(texts), -1)
    ours = model.forward(ids, positions, mask).cpu().double().log_softmax(-1)
    marks["kl_between_implementations"] = (ours.exp() * (ours - theirs)).sum(-1).mean().item()
    marks["top1_between_implementations"] = (ours.argmax(-1) == theirs.argmax(-1)).double().mean().item()
    log("golden", json.dumps(marks))

    measured = evaluate.evaluate(model, tokenizer, 200 if args.smoke else 1000)
    codes = np.concatenate([t[0].cpu().numpy().reshape(-1) for t in model.w.values() if isinstance(t, tuple)])
    metrics = {
        **measured, **marks, **run, "shape": shape.__dict__, "gguf_bytes": gguf.stat().st_size, "zeros": float((codes == 0).mean()),
        "documents": chunks * CHUNK, "corpus_tokens": filled, "lr": args.lr, "warmup": args.warmup, "seed": args.seed,
        "tokens_per_step": args.batch * shape.context, "final_loss": losses[-1][1], "parameters": sum(v.size for v in state.values()),
    }
    card.write(args.out / "MODEL_CARD.md", metrics)
    (args.out / "metrics.json").write_text(json.dumps(metrics | {"losses": losses}, indent=1), encoding="utf-8")
    for key, value in metrics.items():
        if key not in ("samples", "wrong", "shape"):
            log(key, value)
    for sample in metrics["samples"]:
        log(sample["how"], "|", sample["prompt"], "|", sample["text"])
    log("wrong answers", json.dumps(metrics["wrong"], indent=1))


if __name__ == "__main__":
    main()
