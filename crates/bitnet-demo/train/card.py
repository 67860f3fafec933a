"""Writes the model card and the loss curve."""


def loss_svg(path, losses, width=560, height=240):
    """losses: [(step, loss)]; logarithmic in the loss, grey on nothing so that it reads on light and dark."""
    import math

    left, right, top, bottom = 46, 10, 12, 30
    low, high = math.log10(min(l for _, l in losses)), math.log10(max(l for _, l in losses))
    last = losses[-1][0]
    px = lambda step: left + (width - left - right) * step / last
    py = lambda loss: top + (height - top - bottom) * (high - math.log10(loss)) / max(high - low, 1e-9)
    points = " ".join(f"{px(s):.1f},{py(l):.1f}" for s, l in losses)
    grid = ""
    for tick in (0.2, 0.3, 0.4, 0.5, 0.7, 1, 2, 3, 5, 7):
        if low <= math.log10(tick) <= high:
            grid += (f'<line x1="{left}" y1="{py(tick):.1f}" x2="{width - right}" y2="{py(tick):.1f}" stroke="#888" stroke-opacity=".3"/>'
                     f'<text x="{left - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for i in range(5):
        step = last * i / 4
        grid += f'<text x="{px(step):.1f}" y="{height - 10}" text-anchor="{["start", "middle", "middle", "middle", "end"][i]}">{step:.0f}</text>'
    with open(path, "w", encoding="utf-8") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" font-size="11" '
                  f'fill="#888" role="img" aria-label="training loss over steps"><title>Training loss (nats per token) over steps</title>{grid}'
                  f'<polyline points="{points}" fill="none" stroke="#3b82f6" stroke-width="1.5"/></svg>\n')


def percent(x):
    return f"{100 * x:.1f} %"


def write(path, m):
    """m: everything measured in the run."""
    s = m["shape"]
    samples = "\n\n".join(f"**{x['prompt']}** ({x['how']})\n\n> " + x["text"].replace("\n", "\n> ") for x in m["samples"])
    rows = "\n".join(f"| {label} | {percent(m[key])} | {m[key + '_n']} |" for label, key in [
        ("questions about a story, conversation grown turn by turn", "story_questions"),
        ("questions about a story, conversation rendered anew", "story_questions_rendered"),
        ("questions about bare facts (who has what, who is where)", "facts"),
        ("sums of two-digit numbers, \"What is a + b?\"", "sums"),
        ("the same sums in all wordings", "sums_all_wordings"),
        ("the same sums as word problems", "sums_in_words"),
    ])
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"""# bitnet-demo

A {m['parameters'] / 1e6:.1f} M parameter language model with ternary weights that ships inside the `bitnet` command. It tells short
children's stories, answers questions about a story that it is given, and adds two two-digit numbers. It exists to show and test
the runtime; it knows nothing else.

## Architecture

Arch `bitnet-b1.58`: {s['layers']} layers, hidden {s['hidden']}, feed-forward {s['ffn']} (ReLU², gated), {s['heads']} heads of {s['hidden'] // s['heads']},
{s['kv_heads']} key/value heads, sub-norms before the output and down projections, RoPE (half-split, base {s['rope_theta']:g}), tied embedding,
vocabulary {s['vocab']} (byte-level BPE, digits apart), context {s['context']}. `demo.gguf` ({m['gguf_bytes'] / 1e6:.2f} MB) holds the projections as I2_S
({percent(m['zeros'])} zeros), the embedding as F16, the norm gains as F32.

Chat format: `System: …<|eot_id|>User: …<|eot_id|>Assistant: `, answers end with `<|eot_id|>`, plain stories with `<|end_of_text|>`.

## Data

A synthetic corpus from the generator in `train/` (no outside text): {m['documents']:,} documents, {m['corpus_tokens'] / 1e6:.0f} M tokens: stories of fourteen
plots, conversations about stories and bare facts, stories on request, sums, a little small talk. One combination of hero, thing
and place in twelve and one unordered pair of summands in ten were held out; everything below is measured on these.

## Training

Ternary absmean weights and per-token absmax int8 activations from the first step, straight-through gradients. AdamW (0.9, 0.95),
peak learning rate {m['lr']:g}, {m['warmup']} steps of warm-up, linear decay, weight decay 0.1 in the first half, clipping at 1; {m['steps']} steps of
{m['tokens_per_step']:,} tokens, {m['train_seconds'] / 60:.1f} minutes on one {m['device']}, seed {m['seed']}. Final loss {m['final_loss']:.3f}.

![loss](loss.svg)

## Measured on held-out content

Greedy answers, counted only if equal to the right answer in every character; int8 activations, the weights of `demo.gguf`.

| task | right | of |
| --- | --- | --- |
{rows}

Perplexity of held-out stories: **{m['perplexity']:.3f}** per token ({m['perplexity_tokens']:,} tokens, story start and end included).
Stories from "Once upon a time" at temperature 0.8 that end by themselves within 400 tokens: {percent(m['stories_that_end'])} of 64.

An independent implementation (transformers' BitNetForCausalLM, f32) finds a mean KL divergence of {m['kl_int8_vs_f32']:.3g} nats between int8 and
unquantized activations over {m['positions']} held-out positions, and the same most likely token at {percent(m['top1_int8_vs_f32'])} of them.
`golden.safetensors` holds its logits.

## Samples

{samples}

## Limits

English only, the words of its generator only. It cannot reason, knows no facts, adds nothing but two numbers below one hundred,
and answers most other questions with "I do not know that". Stories follow the fourteen plots; with unusual openings they drift. Questions in other
words than the trained ones may be misread. When several things are named, it binds a colour to its owner ("What colour is Mia's boat?") but
often not to the thing alone ("What colour is the boat?"): most of its mistakes with bare facts are of this kind.

## Licence

MIT OR Apache-2.0, like the generator it was trained on.
""")
