"""Users of locust, a load generator, who ask and stream through the official `openai` package.

    OPENAI_API_KEY=… python -m locust -f load.py --headless --host http://127.0.0.1:8080 -u 16 -r 16 -t 10s

Every answer is compared with the first one to the same question: company must change nothing. A difference is a failure.
"""

import time

import openai
from locust import constant, task
from locust.contrib.oai import OpenAIUser

SEEDS = 12
answers: dict[int, str] = {}


class Reader(OpenAIUser):
    wait_time = constant(0)
    asked = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # locust's client waits for the end of a body, so streams have one of their own.
        self.streaming = openai.OpenAI(base_url=f"{self.host}/v1")
        self.client.base_url = f"{self.host}/v1"

    @task
    def chat(self):
        """Whole answers go through locust's own client, which reports them."""
        with self.client.rename_request("whole"):
            answer = self.client.chat.completions.create(**self.question())
        self.compare(answer.choices[0].message.content)

    @task
    def stream(self):
        begin, first, text = time.perf_counter(), None, ""
        with self.streaming.chat.completions.stream(**self.question()) as stream:
            for event in stream:
                if event.type == "content.delta":
                    first = first or time.perf_counter()
                    text += event.delta
        self.report("first token", (first or time.perf_counter()) - begin)
        self.report("stream", time.perf_counter() - begin)
        self.compare(text)

    def question(self):
        Reader.asked += 1
        self.seed = Reader.asked % SEEDS
        messages = [{"role": "user", "content": f"Tell me of {'a dog and ' * self.seed}a cat."}]
        return {"model": "demo", "messages": messages, "max_tokens": 8 + 2 * self.seed, "seed": self.seed, "temperature": 0.9}

    def compare(self, text):
        expected = answers.setdefault(self.seed, text)
        self.report("same text", 0, None if text == expected else AssertionError(f"{text!r} is not {expected!r}"))

    def report(self, name, seconds, exception=None):
        self.environment.events.request.fire(
            request_type="SSE", name=name, response_time=1000 * seconds, response_length=0, exception=exception, context={}
        )
