"""The demo model's tokenizer: byte-level BPE of 2048 entries with the Llama-3 splitter and single-digit tokens.

The merges are learnt with a splitter that takes digits one at a time, so no merge joins two digits; the saved tokenizer has
the Llama-3 splitter itself. Both give the same ids, which `check` proves on a piece of the corpus.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import corpus

VOCAB = 2048
SPECIALS = [corpus.BOS, corpus.EOS, corpus.EOT]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splitter(digits):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT % digits), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def train(path, n_documents=60_000, seed=11):
    texts = []
    for doc in corpus.documents(seed, n_documents):
        text = "".join(piece for piece, _ in doc)
        for special in SPECIALS:
            text = text.replace(special, "\x00")
        texts += text.split("\x00")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = splitter("")
    learner.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB - len(SPECIALS), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    if len(learnt["vocab"]) != VOCAB - len(SPECIALS):
        raise SystemExit(f"the corpus gave {len(learnt['vocab'])} tokens, expected {VOCAB - len(SPECIALS)}")

    tokenizer = Tokenizer(models.BPE(vocab=learnt["vocab"], merges=[tuple(m) for m in learnt["merges"]], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter("{1,3}")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    bos = tokenizer.token_to_id(corpus.BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{corpus.BOS} $A", pair=f"{corpus.BOS} $A {corpus.BOS}:1 $B:1", special_tokens=[(corpus.BOS, bos)])
    check(tokenizer, texts[:3000])
    tokenizer.save(str(path))
    return tokenizer


def check(tokenizer, texts):
    """Digits stand alone, text comes back whole, and one digit at a time or three make no difference."""
    one = Tokenizer.from_str(tokenizer.to_str())
    one.pre_tokenizer = splitter("")
    for text in texts + ["12345 67,890", "don't  stop\n\n now ", "é…中"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == one.encode(text, add_special_tokens=False).ids, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, text
    for token in tokenizer.get_vocab():
        assert len(token) == 1 or not any(c.isdigit() for c in token), token


def load(path):
    return Tokenizer.from_file(str(path))
