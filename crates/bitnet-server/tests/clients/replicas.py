"""Three servers behind another one, one of which is killed under load: what clients of the official `openai` package see.

    python replicas.py BITNET nginx NGINX CONFIGURATION
    python replicas.py BITNET vllm-router

Whole answers must all come, without a retry by the client. Answers that stream from the killed server break off, and are the same when
they are asked for again.
"""

import concurrent.futures
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import httpx
import openai

BITNET, FRONT = sys.argv[1:3]
KEY = "a key for tests"
SEEDS, REQUESTS, USERS = 10, 240, 12


class Replica:
    """A server of the demo model."""

    def __init__(self):
        arguments = [BITNET, "serve", "--port=0", "--device=cpu", "--threads=1", "--parallel=8"]
        environment = os.environ | {"BITNET_API_KEY": KEY}
        self.process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        for line in self.process.stderr:
            if found := re.match(r"serving at http://([0-9.:]+)", line):
                self.address = found[1]
                break
        else:
            raise AssertionError("a server ended before it served")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_front(folder, replicas):
    """What stands before the servers, and its port."""
    port = free_port()
    command = nginx(folder, replicas, port) if FRONT == "nginx" else router(replicas, port)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read()
            return process, f"http://127.0.0.1:{port}/v1"
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError((folder / "log").read_text())


def router(replicas, port):
    """vLLM's router, which sends what begins alike to one server."""
    addresses = [f"http://{replica.address}" for replica in replicas]
    options = ["--policy=cache_aware", f"--port={port}", f"--api-key={KEY}", f"--prometheus-port={free_port()}"]
    return [sys.executable, "-m", "vllm_router.launch_router", "--worker-urls", *addresses, *options]


def nginx(folder, replicas, port):
    """nginx with the configuration that is there for people, but for the addresses."""
    program, configuration = sys.argv[3:5]
    text = pathlib.Path(configuration).read_text()
    addresses = iter(replica.address for replica in replicas)
    text, servers = re.subn(r"server 127\.0\.0\.1:\d+", lambda _: f"server {next(addresses)}", text)
    assert servers == len(replicas), "as many as the configuration names"
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    whole = f"daemon off; master_process off; pid {folder}/pid; events {{}}\nhttp {{ access_log off;\n{paths}{text} }}\n"
    (folder / "nginx.conf").write_text(whole)
    return [program, "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf"]


def question(seed):
    messages = [{"role": "user", "content": "Tell me of a dog."}]
    return {
        "model": "demo",
        "messages": messages,
        "max_tokens": 60,
        "seed": seed,
        "temperature": 0.9,
        "extra_body": {"ignore_eos": True},
    }


def main():
    replicas = [Replica() for _ in range(3)]
    front = None
    try:
        with tempfile.TemporaryDirectory() as name:
            front, address = start_front(pathlib.Path(name), replicas)
            check(replicas, openai.OpenAI(base_url=address, api_key=KEY, max_retries=0))
            front.terminate()
            front.wait()
    finally:
        for process in [replica.process for replica in replicas] + ([front] if front else []):
            process.kill()


def check(replicas, client):
    def whole(seed):
        return client.chat.completions.create(**question(seed)).choices[0].message.content

    def streamed(seed):
        chunks = client.chat.completions.create(**question(seed), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    alone = [whole(seed) for seed in range(SEEDS)]
    assert len(set(alone)) > 1
    broken, done = [], []

    def ask(index):
        seed, streams = index % SEEDS, index % 2 == 1
        try:
            text = (streamed if streams else whole)(seed)
        except (openai.APIError, httpx.TransportError) as error:
            # A stream of the killed server; anything else is a fault.
            assert streams, f"request {index}, which did not stream, failed: {error!r}"
            broken.append(index)
            text = streamed(seed)
        assert text == alone[seed], f"request {index}: {text!r} is not {alone[seed]!r}"
        done.append(index)
        if len(done) == REQUESTS // 3:
            replicas[0].process.kill()

    with concurrent.futures.ThreadPoolExecutor(USERS) as users:
        for asked in [users.submit(ask, index) for index in range(REQUESTS)]:
            asked.result()
    assert replicas[0].process.wait() != 0 and len(broken) <= USERS, broken
    print(f"replicas behind {FRONT}: {len(done)} of {REQUESTS} answers as alone, one of three servers killed, {len(broken)} streams asked for again")


main()
