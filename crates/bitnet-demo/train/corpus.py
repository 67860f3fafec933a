"""The synthetic corpus: stories and conversations, made from a seed, split by content, as text or as token rows.

    python3 corpus.py --show 20            print documents
    python3 corpus.py --heldout FILE       write held-out stories for `bitnet perplexity`, one per paragraph

A document is a list of pieces (text, weight): the weight, 0 to 10, is how much the loss of the piece's tokens counts in
training. Pieces are tokenized apart, exactly as a runtime sees them: the prompt rendered as one text, then the answer.
The split is by content: one combination of hero, thing and place in twelve, and one pair of summands in ten, belong to
the held-out part and are never trained on.
"""

import argparse
import random

import chats
import plots
from words import bucket

BOS, EOS, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
HELD_OUT_STORIES = 12
# kind: its share of the documents
MIX = {"story": 0.19, "questions": 0.19, "request": 0.06, "facts": 0.22, "sums": 0.32, "small_talk": 0.02}


def key_held_out(name, thing, place):
    return bucket(f"{name}|{thing[0]} {thing[1]}|{place}", HELD_OUT_STORIES) == 0


def free_story(rng, held_out):
    """A story whose hero, thing and place are of the wanted side of the split."""
    while True:
        st = plots.story(rng)
        if key_held_out(st.name, (st.colour, st.noun), st.place) == held_out:
            return st


def opening_cut(rng, st):
    """The story's text, sometimes without its introduction, so that unusual openings can be continued too."""
    if rng.random() < 0.12:
        for i in range(1, 4):
            if st.name in st.sentences[i]:
                return " ".join(st.sentences[i:])
    return st.text()


def conversation(rng, kind, held_out):
    def key_ok(name, thing, place):
        return key_held_out(name, thing, place) == held_out

    if kind == "questions":
        return chats.story_questions(rng, free_story(rng, held_out))
    if kind == "request":
        return chats.story_request(rng, free_story(rng, held_out))
    if kind == "facts":
        return chats.facts(rng, key_ok)
    if kind == "sums":
        return chats.sums(rng, held_out)
    return chats.small_talk(rng)


def prompt(system, turns, question):
    """The text before the next answer: the 2B-4T chat format with its trailing space."""
    text = BOS + (f"System: {system}{EOT}" if system else "")
    for user, assistant in turns:
        text += f"User: {user}{EOT}Assistant: {assistant}{EOT}"
    return text + f"User: {question}{EOT}Assistant: "


def pieces_of_chat(rng, system, turns):
    """Half of the longer conversations are grown turn by turn, as a runtime with a KV cache keeps them; in the other half the
    earlier turns are rendered anew as one text, as the chat template does, and only the last answer is learnt."""
    if len(turns) > 1 and rng.random() < 0.5:
        last = turns[-1]
        return [(prompt(system, turns[:-1], last[0]), 0), (last[1], 10), (EOT, 10)]
    pieces = [(prompt(system, [], turns[0][0]), 2), (turns[0][1], 10), (EOT, 10)]
    for user, assistant in turns[1:]:
        pieces += [(f"User: {user}{EOT}Assistant: ", 1), (assistant, 10), (EOT, 10)]
    return pieces


def document(rng, held_out=False, kind=None):
    kind = kind or rng.choices(list(MIX), list(MIX.values()))[0]
    if kind == "story":
        return [(BOS + opening_cut(rng, free_story(rng, held_out)), 10), (EOS, 10)]
    return pieces_of_chat(rng, *conversation(rng, kind, held_out))


def documents(seed, n, held_out=False, kind=None):
    rng = random.Random(seed)
    return [document(rng, held_out, kind) for _ in range(n)]


def encode(tokenizer, docs):
    """[(token ids, weights)] of documents."""
    flat = [text for doc in docs for text, _ in doc]
    encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
    result = []
    for doc in docs:
        ids, weights = [], []
        for _, weight in doc:
            piece = next(encoded).ids
            ids += piece
            weights += [weight] * len(piece)
        result.append((ids, weights))
    return result


def pack(encoded, length, pad):
    """Whole documents in rows of `length` tokens, first row they fit in; (tokens, weights) as u16 and u8 [rows, length].

    weights[r, i] is the weight of *predicting* tokens[r, i]; the first token of a document and padding weigh nothing."""
    import numpy as np

    rows, open_rows = [], []
    for ids, weights in encoded:
        if len(ids) > length:
            continue
        for row in open_rows:
            if len(row[0]) + len(ids) <= length:
                break
        else:
            row = ([], [])
            open_rows.append(row)
            if len(open_rows) > 12:
                rows.append(open_rows.pop(0))
        row[0].extend(ids)
        row[1].extend([0] + weights[1:])
    rows += open_rows
    tokens = np.full((len(rows), length), pad, dtype=np.uint16)
    weights = np.zeros((len(rows), length), dtype=np.uint8)
    for r, (ids, ws) in enumerate(rows):
        tokens[r, : len(ids)] = ids
        weights[r, : len(ws)] = ws
    return tokens, weights


def held_out_stories(n, seed=7_000_001):
    rng = random.Random(seed)
    return [free_story(rng, True).text() for _ in range(n)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", type=int, default=0, metavar="N")
    parser.add_argument("--kind", choices=list(MIX))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--heldout", metavar="FILE")
    args = parser.parse_args()
    for doc in documents(args.seed, args.show, kind=args.kind):
        print("".join(text for text, _ in doc), "\n")
    if args.heldout:
        with open(args.heldout, "w", encoding="utf-8") as out:
            out.write("\n\n".join(held_out_stories(60)) + "\n")


if __name__ == "__main__":
    main()
