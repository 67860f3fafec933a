"""The official `ollama` package against a server of the demo model.

    python ollama_client.py http://127.0.0.1:8080
"""

import importlib.metadata
import json
import sys

import ollama
from run import run

ADDRESS = sys.argv[1]
MESSAGES = [{"role": "user", "content": "Tell me of a dog."}]
OPTIONS = {"num_predict": 16, "seed": 5, "temperature": 0.9, "top_k": 40, "min_p": 0.01, "repeat_penalty": 1.1}
# The demo model's answers are short.
GO_ON = OPTIONS | {"ignore_eos": True}

client = ollama.Client(host=ADDRESS, headers={"authorization": "Bearer a key for tests"})


def test_a_chat_and_its_stream_say_the_same():
    whole = client.chat("demo", MESSAGES, options=GO_ON)
    assert whole.done_reason == "length" and whole.eval_count == 16
    assert whole.total_duration >= whole.eval_duration > 0
    parts = list(client.chat("demo:latest", MESSAGES, options=GO_ON, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    turns = [*MESSAGES, whole.message, {"role": "user", "content": "And a cat?"}]
    assert client.chat("demo", turns, options=ollama.Options(num_predict=4, stop=["zzz"]), keep_alive="5m").message.content


def test_texts_are_answered_and_continued():
    whole = client.generate("demo", "Tell me of a dog.", options=GO_ON)
    assert whole.response == client.chat("demo", MESSAGES, options=GO_ON).message.content
    raw = client.generate("demo", "Once upon a time", raw=True, options=GO_ON)
    parts = client.generate("demo", "Once upon a time", raw=True, options=GO_ON, stream=True)
    assert "".join(part.response for part in parts) == raw.response != whole.response


def test_answers_keep_to_a_schema():
    schema = {"type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"], "additionalProperties": False}
    answer = client.chat("demo", MESSAGES, format=schema, options={"num_predict": 100, "seed": 5})
    assert json.loads(answer.message.content)["legs"] in (2, 4)


def test_models_are_listed_and_shown():
    assert [model.model for model in client.list().models] == ["demo"]
    assert [model.model for model in client.ps().models] == ["demo"]
    shown = client.show("demo")
    assert "completion" in shown.capabilities and shown.modelinfo["general.parameter_count"] > 0
    assert shown.details.parameter_size.endswith("M")


def test_texts_become_vectors():
    rows = client.embed("demo", ["a dog", "a cat"])
    assert len(rows.embeddings) == 2 and len(rows.embeddings[0]) > 16
    assert len(client.embed("demo", "a dog", dimensions=16).embeddings[0]) == 16


def test_errors_have_their_status():
    def fails(status, work):
        try:
            work()
        except ollama.ResponseError as error:
            assert error.status_code == status, error
            return error.error
        raise AssertionError(f"{status} was expected")

    fails(404, lambda: client.chat("another", MESSAGES))
    assert "options.num_gpu" in fails(400, lambda: client.chat("demo", MESSAGES, options={"num_gpu": 1}))
    assert "images" in fails(400, lambda: client.generate("demo", "What is it?", images=["iVBORw0K"]))
    fails(401, lambda: ollama.Client(host=ADDRESS).list())
    fails(404, lambda: client.pull("demo"))


run(globals(), f"ollama {importlib.metadata.version('ollama')} for Python")
