"""Texts: whole, streamed, in threads and tasks, and as the command writes them."""

import asyncio
import gc
import json
import threading
import time
from collections.abc import Callable

import pytest
from command import bitnet

from bitnet_rust import Completion, Engine, Model, errors

STORY = "Once upon a time"


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until something that must happen has happened."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_text_is_the_one_that_the_command_writes(model: Model) -> None:
    found = model.generate(STORY, max_tokens=24, temperature=0)
    said = json.loads(bitnet("run", STORY, "-n", "24", "--temp", "0", "--json"))
    assert found.text == said["text"]
    assert found.completion_tokens == 24
    assert found.finish_reason == "length"
    assert str(found) == found.text


def test_prompts_of_a_list_run_together_and_keep_their_order(model: Model) -> None:
    prompts = [f"{STORY} there were {count} cats" for count in ("two", "three", "four", "five")]
    together = model.generate(prompts, max_tokens=12, seed=3)
    assert together == [model.generate(prompt, max_tokens=12, seed=3) for prompt in prompts]
    assert list(model.generate_all([])) == []
    tokens = model.tokenizer.encode(STORY)
    assert model.generate(tokens, max_tokens=8, seed=1) == model.generate(STORY, max_tokens=8, seed=1)


def test_a_seed_gives_a_text_again(model: Model) -> None:
    first = model.generate(STORY, max_tokens=16)
    assert model.generate(STORY, max_tokens=16, seed=first.seed).text == first.text


def test_pieces_are_the_text(model: Model) -> None:
    whole = model.generate(STORY, max_tokens=20, seed=1)
    stream = model.stream(STORY, max_tokens=20, seed=1)
    pieces = list(stream)
    assert len(pieces) > 3
    assert "".join(pieces) == whole.text
    assert stream.finish_reason == whole.finish_reason
    assert (stream.seed, stream.completion_tokens) == (1, whole.completion_tokens)


def test_tasks_share_an_engine(model: Model) -> None:
    whole = [model.generate(STORY, max_tokens=12, seed=seed).text for seed in range(8)]

    async def text(seed: int) -> str:
        return "".join([piece async for piece in model.agenerate(STORY, max_tokens=12, seed=seed)])

    async def all_texts() -> list[str]:
        return await asyncio.gather(*(text(seed) for seed in range(8)))

    assert asyncio.run(all_texts()) == whole


def test_a_task_that_is_cancelled_ends_its_text(model: Model) -> None:
    engine = Engine(model)

    async def cancelled() -> None:
        stream = engine.agenerate(STORY, max_tokens=400, ignore_eos=True)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    wait_until(lambda: engine.gauges()["running"] == 0)
    assert engine.gauges()["finished"] == 1
    assert engine.gauges()["generated_tokens"] < 400


def test_threads_share_an_engine(model: Model) -> None:
    expected = [model.generate(STORY, max_tokens=12, seed=seed).text for seed in range(6)]
    found: dict[int, str] = {}

    def text(seed: int) -> None:
        found[seed] = model.generate(STORY, max_tokens=12, seed=seed).text

    threads = [threading.Thread(target=text, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(6)] == expected


def test_a_stream_that_is_dropped_ends_its_text(model: Model) -> None:
    engine = Engine(model)
    stream = engine.stream(STORY, max_tokens=400, ignore_eos=True)
    assert next(stream)
    del stream
    gc.collect()
    wait_until(lambda: engine.gauges()["running"] == 0)
    assert engine.gauges()["generated_tokens"] < 400
    with engine.stream(STORY, max_tokens=400, ignore_eos=True) as stream:
        assert next(stream)
    assert list(stream) == []


def test_probabilities_come_with_tokens(model: Model) -> None:
    logprobs = model.generate(STORY, max_tokens=4, temperature=0, logprobs=2).logprobs
    assert logprobs is not None
    assert len(logprobs["token_logprobs"]) == 4
    assert all(len(top) >= 2 for top in logprobs["top_logprobs"])


def test_a_text_has_the_form_that_is_asked_for(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    found = json.loads(model.generate("A person: ", max_tokens=60, seed=1, response_format=form).text)
    assert set(found) == {"name", "age"}
    reply = model.chat([{"role": "user", "content": "Who is there?"}], response_format=form, max_tokens=60, seed=1)
    assert set(json.loads(reply.text)) == {"name", "age"}


def test_a_conversation_is_answered(model: Model) -> None:
    messages = [{"role": "user", "content": "What is 20 + 22?"}]
    reply = model.chat(messages, max_tokens=24, temperature=0, seed=1)
    assert "42" in reply.text
    assert reply.message["role"] == "assistant"
    deltas = list(model.chat_stream(messages, max_tokens=24, temperature=0))
    assert "".join(delta["content"] for delta in deltas) == reply.text
    assert asyncio.run(model.achat(messages, max_tokens=24, temperature=0, seed=1)) == reply


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"temperature": -1}, errors.ArgumentError, "temperature"),
        ({"max_tokens": "many"}, errors.ArgumentError, "max_tokens"),
        ({"tokens": 3}, errors.UnsupportedError, "tokens"),
        ({"n": 2}, errors.ArgumentError, "n: expected none"),
        ({"seed": float("nan")}, errors.ArgumentError, "JSON"),
        ({"stop": {1}}, errors.ArgumentError, "JSON"),
        ({"response_format": {"type": "poem"}}, errors.ArgumentError, "json_schema"),
    ],
)
def test_options_that_cannot_be_are_told(
    model: Model, options: dict[str, object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as told:
        model.generate(STORY, **options)  # type: ignore[call-overload]
    assert isinstance(told.value, errors.BitnetError)


def test_prompts_that_cannot_be_are_told(model: Model) -> None:
    with pytest.raises(errors.ContextError):
        model.generate("word " * 5000, max_tokens=1)
    with pytest.raises(errors.ArgumentError, match="token"):
        model.generate([10**6], max_tokens=1)
    stream = model.stream([10**6], max_tokens=1)
    with pytest.raises(errors.ArgumentError, match="token"):
        next(stream)
    assert list(stream) == []
    full = Engine(model, max_running=1, max_waiting=0)
    streams = [full.stream(STORY, max_tokens=400, ignore_eos=True) for _ in range(8)]
    with pytest.raises(errors.OverloadedError):
        [next(stream) for stream in streams]
    streams.clear()

    def has_room() -> bool:
        # One of the requests may still be on its way when it is given up.
        try:
            return len(full.generate([STORY] * 3, max_tokens=2)) == 3
        except errors.OverloadedError:
            return False

    wait_until(has_room)
    with pytest.raises(errors.ArgumentError, match="max_running"):
        Engine(model, max_running=0)


def test_many_prompts_come_one_by_one(model: Model) -> None:
    texts = model.generate_all((STORY for _ in range(600)), max_tokens=1, temperature=0, seed=1)
    first = next(texts)
    assert isinstance(first, Completion)
    assert list(texts) == [first] * 599
