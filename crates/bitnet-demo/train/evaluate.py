"""Measures the exported model on held-out content: perplexity, questions, sums, samples."""

import math
import random

import chats
import corpus

PROMPTS = ["Once upon a time", "One sunny morning, Lily", "Tom had a red kite", "In the forest"]


def last_answer(system, turns, rendered):
    """(pieces of text before the last answer, that answer). rendered: the earlier turns as one text, else grown turn by turn."""
    if rendered or len(turns) == 1:
        return [corpus.prompt(system, turns[:-1], turns[-1][0])], turns[-1][1]
    pieces = [corpus.prompt(system, [], turns[0][0])]
    for (_, answer), (user, _) in zip(turns, turns[1:]):
        pieces += [answer, corpus.EOT, f"User: {user}{corpus.EOT}Assistant: "]
    return pieces, turns[-1][1]


def ids_of(tokenizer, pieces):
    return [i for e in tokenizer.encode_batch(pieces, add_special_tokens=False) for i in e.ids]


def accuracy(model, tokenizer, items, limit=40):
    """items: [(pieces, answer)]; the share of greedy answers equal to the right one, and some wrong ones."""
    eot, eos = (tokenizer.token_to_id(t) for t in (corpus.EOT, corpus.EOS))
    rows = [ids_of(tokenizer, pieces) for pieces, _ in items]
    found = model.generate(rows, {eot, eos}, limit, eos)
    right, wrong = 0, []
    for (pieces, answer), (ids, ended) in zip(items, found):
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if ended and text == answer:
            right += 1
        else:
            wrong.append({"prompt": "".join(pieces)[-300:], "right": answer, "given": text})
    return right / len(items), wrong[:8]


def questions(rng, n, kind, rendered):
    items = []
    while len(items) < n:
        system, turns = corpus.conversation(rng, kind, True)
        items.append(last_answer(system, turns, rendered))
    return items


def evaluate(model, tokenizer, n=1000):
    rng = random.Random(424242)
    result = {"wrong": {}}
    rows = [ids_of(tokenizer, [corpus.BOS + text, corpus.EOS]) for text in corpus.held_out_stories(n, seed=99)]
    nats, count = model.mean_nll(rows)
    result["perplexity"], result["perplexity_tokens"] = math.exp(nats / count), count

    pairs = [(x, y) for x in range(10, 100) for y in range(10, 100) if chats.sum_is_held_out(x, y)]
    plain = [([corpus.prompt(None, [], f"What is {x} + {y}?")], f"{x} + {y} = {x + y}.") for x, y in pairs]
    mixed = []
    for x, y in pairs:
        question, answer = chats.sum_turn(rng, x, y)
        mixed.append(([corpus.prompt(None, [], question)], answer))
    words = [([corpus.prompt(None, [], q)], answer) for q, answer in (chats.word_problem(rng, x, y) for x, y in pairs)]
    sets = {
        "story_questions": questions(rng, n, "questions", False), "story_questions_rendered": questions(rng, n, "questions", True),
        "facts": questions(rng, n, "facts", False), "sums": plain, "sums_all_wordings": mixed, "sums_in_words": words,
    }
    for name, items in sets.items():
        result[name], result["wrong"][name] = accuracy(model, tokenizer, items)
        result[name + "_n"] = len(items)

    eos, eot = tokenizer.token_to_id(corpus.EOS), tokenizer.token_to_id(corpus.EOT)
    greedy = model.generate([tokenizer.encode(p).ids for p in PROMPTS], {eos, eot}, 400, eos)
    result["samples"] = [{"prompt": p, "how": "greedy", "text": p + tokenizer.decode(ids)} for p, (ids, _) in zip(PROMPTS, greedy)]
    drawn = model.generate([tokenizer.encode(PROMPTS[0]).ids] * 64, {eos, eot}, 400, eos, temperature=0.8, seed=5)
    result["stories_that_end"] = sum(ended for _, ended in drawn) / len(drawn)
    result["samples"] += [{"prompt": PROMPTS[0], "how": "temperature 0.8", "text": PROMPTS[0] + tokenizer.decode(ids)} for ids, _ in drawn[:8]]
    asks = ["Tell me a story about a fox named Rusty in the forest.", "Write a short story about Mia and a blue umbrella.", "Hello!",
            "What is 47 + 38?", "Tell me a story about Zarbolo."]
    told = model.generate([ids_of(tokenizer, [corpus.prompt(None, [], q)]) for q in asks], {eos, eot}, 400, eos)
    result["samples"] += [{"prompt": q, "how": "chat, greedy", "text": tokenizer.decode(ids)} for q, (ids, _) in zip(asks, told)]
    return result
