"""The official `anthropic` package against a server of the demo model.

    python anthropic_client.py http://127.0.0.1:8080
"""

import json
import sys

import anthropic
from run import run

ADDRESS = sys.argv[1]
KEY = "a key for tests"
MESSAGES = [{"role": "user", "content": "Tell me of a dog."}]
# The demo model's answers are short, and its texts depend on the seed.
EXTRA = {"ignore_eos": True, "seed": 5}

client = anthropic.Anthropic(base_url=ADDRESS, api_key=KEY, max_retries=0)


def ask(**options):
    return {"model": "demo", "messages": MESSAGES, "max_tokens": 16, "extra_body": EXTRA} | options


def test_a_message_and_its_stream_say_the_same():
    whole = client.messages.create(**ask())
    assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 16
    assert whole.content[0].type == "text" and whole.content[0].text
    assert whole._request_id
    with client.messages.stream(**ask()) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == "max_tokens"
    read = final.usage.input_tokens + final.usage.cache_read_input_tokens
    assert read == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    events = [event.type for event in client.messages.create(**ask(stream=True))]
    assert events[:2] == ["message_start", "content_block_start"] and events[-1] == "message_stop"


def test_conversations_of_blocks():
    blocks = [
        {"role": "user", "content": [{"type": "text", "text": "Tell me of ", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "a dog."}]}
    ]
    one = client.messages.create(**ask(messages=blocks))
    assert one.content[0].text == client.messages.create(**ask()).content[0].text
    turns = [*MESSAGES, {"role": "assistant", "content": one.content}, {"role": "user", "content": "And a cat?"}]
    answer = client.messages.create(**ask(messages=turns, system="You tell stories.", metadata={"user_id": "me"}))
    assert answer.content
    counted = client.messages.count_tokens(model="demo", messages=turns, system="You tell stories.")
    assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens


def test_stop_sequences_are_told():
    text = client.messages.create(**ask()).content[0].text
    stop = text.split(" ")[4]
    answer = client.messages.create(**ask(stop_sequences=["zzz", stop]))
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == stop
    assert stop not in answer.content[0].text


def test_answers_keep_to_a_schema():
    schema = {"type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "schema": schema}}
    answer = client.messages.create(**ask(max_tokens=100, output_config=form, extra_body={"seed": 5}))
    assert json.loads(answer.content[0].text)["legs"] in (2, 4) and answer.stop_reason == "end_turn"


def test_errors_have_their_types():
    def fails(kind, asked=client, **options):
        try:
            asked.messages.create(**ask(**options))
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} was expected")

    fails(anthropic.NotFoundError, model="another")
    error = fails(anthropic.BadRequestError, extra_body={"temperature": -3})
    assert error.body["error"]["type"] == "invalid_request_error" and "temperature" in str(error)
    fails(anthropic.BadRequestError, extra_body={"colour": "red"})
    fails(anthropic.AuthenticationError, client.with_options(api_key="wrong"))
    # Either header will do.
    bearer = anthropic.Anthropic(base_url=ADDRESS, auth_token=KEY, max_retries=0)
    assert bearer.messages.create(**ask()).content


run(globals(), f"anthropic {anthropic.__version__} for Python")
