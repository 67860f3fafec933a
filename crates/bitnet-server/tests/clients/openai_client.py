"""The official `openai` package and Prometheus' own parser against a server of the demo model.

    python openai_client.py http://127.0.0.1:8080
"""

import asyncio
import json
import sys
import urllib.request

import openai
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from run import run

ADDRESS = sys.argv[1]
KEY = "a key for tests"
MESSAGES = [{"role": "user", "content": "Tell me of a dog."}]
# The demo model's answers are short.
GO_ON = {"ignore_eos": True}

client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key=KEY, max_retries=0)


def chat(**options):
    options = {"model": "demo", "messages": MESSAGES, "max_tokens": 16, "seed": 5, "extra_body": GO_ON} | options
    return client.chat.completions.create(**options)


def test_models():
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").object == "model"


def test_chat_and_stream_say_the_same():
    whole = chat()
    assert whole.usage.completion_tokens == 16
    assert whole.usage.prompt_tokens_details.cached_tokens >= 0
    assert whole.choices[0].finish_reason == "length"
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 16
    with client.chat.completions.stream(model="demo", messages=MESSAGES, max_tokens=16, seed=5, extra_body=GO_ON) as stream:
        told = "".join(event.delta for event in stream if event.type == "content.delta")
    assert told == text


def test_choices_and_logprobs():
    answer = chat(n=3, logprobs=True, top_logprobs=2, temperature=3.0)
    assert len({choice.message.content for choice in answer.choices}) > 1
    content = answer.choices[0].logprobs.content
    assert len(content) == 16
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)
    # The first of several is the one that would have been alone.
    assert chat(temperature=3.0).choices[0].message.content == answer.choices[0].message.content


def test_completions():
    answer = client.completions.create(
        model="demo", prompt=["Once upon a time", "The cat"], max_tokens=8, seed=1, stop=["zzz"], logprobs=1, extra_body=GO_ON
    )
    assert len(answer.choices) == 2
    assert len(answer.choices[1].logprobs.tokens) == 8
    streamed = client.completions.create(model="demo", prompt="The cat", max_tokens=8, seed=1, stream=True, extra_body=GO_ON)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[1].text


def test_the_best_of_several():
    def complete(**options):
        options = {"prompt": "The cat", "max_tokens": 8, "seed": 1, "temperature": 2.0, "extra_body": GO_ON} | options
        return client.completions.create(model="demo", **options)

    def likelihood(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    every = complete(n=6, logprobs=0)
    best = complete(n=2, best_of=6)
    ranked = sorted(every.choices, key=likelihood, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.choices[0].logprobs is None and best.usage.completion_tokens == 48
    for options in [{"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}]:
        try:
            complete(**options)
            raise AssertionError(f"{options} was taken")
        except openai.BadRequestError as error:
            assert error.param == "best_of", error


def test_a_tool_is_called_and_its_answer_read():
    city = {"type": "string", "enum": ["Paris", "Oslo"]}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    asked = chat(tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=200, extra_body={})
    assert asked.choices[0].finish_reason == "tool_calls"
    message = asked.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in city["enum"]
    turns = [*MESSAGES, message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "Rain."}]
    assert chat(messages=turns, tools=tools, tool_choice="none").choices[0].message.content


def test_embeddings():
    texts = ["a dog runs", "a cat sleeps"]
    # The package asks for base64 if nothing is said.
    packed = client.embeddings.create(model="demo", input=texts)
    plain = client.embeddings.create(model="demo", input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-6
    short = client.embeddings.create(model="demo", input="a dog", dimensions=16)
    assert len(short.data[0].embedding) == 16


def respond(**options):
    return {"model": "demo", "input": "Tell me of a dog.", "max_output_tokens": 16, "extra_body": GO_ON | {"seed": 5}} | options


def test_responses_and_their_streams_say_the_same():
    whole = client.responses.create(**respond())
    assert whole.status == "incomplete" and whole.incomplete_details.reason == "max_output_tokens"
    assert whole.usage.output_tokens == 16 and whole.output_text == chat().choices[0].message.content
    events = list(client.responses.create(**respond(stream=True)))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == whole.output_text
    # A conversation goes on with the items of the answer.
    turns = [{"role": "user", "content": "Tell me of a dog."}, *whole.output, {"role": "user", "content": "And a cat?"}]
    assert client.responses.create(**respond(input=turns, instructions="You tell stories.")).output_text


def test_responses_keep_to_a_schema():
    class Animal(BaseModel):
        legs: int
        barks: bool

    options = respond(max_output_tokens=200, extra_body={"seed": 5})
    assert isinstance(client.responses.parse(**options, text_format=Animal).output_parsed.barks, bool)
    with client.responses.stream(**options, text_format=Animal) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_parsed == Animal(**json.loads(text))


def test_responses_name_what_they_do_not_do():
    for options in [{"store": True}, {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}]:
        try:
            client.responses.create(**respond(**options))
            raise AssertionError(f"{options} was taken")
        except openai.BadRequestError as error:
            assert next(iter(options)) in error.param, error


def test_errors_have_their_types():
    def fails(kind, **options):
        try:
            chat(**options)
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} was expected")

    fails(openai.NotFoundError, model="another")
    error = fails(openai.BadRequestError, temperature=-3)
    assert error.param == "temperature" and error.code == "invalid_value"
    fails(openai.BadRequestError, extra_body={"colour": "red"})
    error = fails(openai.BadRequestError, messages=[{"role": "user", "content": "word " * 30000}])
    assert error.code == "context_length_exceeded"
    other = client.with_options(api_key="wrong")
    try:
        other.models.list()
        raise AssertionError("a wrong key was taken")
    except openai.AuthenticationError:
        pass


def test_many_at_once_are_as_alone():
    alone = [chat(seed=seed, temperature=0.9).choices[0].message.content for seed in range(8)]

    async def together():
        many = openai.AsyncOpenAI(base_url=f"{ADDRESS}/v1", api_key=KEY)
        asked = [
            many.chat.completions.create(
                model="demo", messages=MESSAGES, max_tokens=16, seed=seed, temperature=0.9, extra_body=GO_ON
            )
            for seed in list(range(8)) * 4
        ]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert asyncio.run(together()) == alone * 4


def test_metrics_are_read_by_prometheus():
    with urllib.request.urlopen(f"{ADDRESS}/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(response.read().decode())}
    for name in ["vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"]:
        assert families[name].type == "gauge", name
    assert families["bitnet_time_to_first_token_seconds"].type == "histogram"
    assert families["bitnet_generated_tokens"].type == "counter"
    batches = [sample for sample in families["bitnet_batch_size_texts"].samples if sample.name.endswith("_bucket")]
    assert batches[-1].value > batches[0].value > 0, "some steps were of several texts"
    finished = sum(sample.value for sample in families["bitnet_requests"].samples if sample.name.endswith("_total"))
    assert finished > 20


run(globals(), f"openai {openai.__version__} for Python")
