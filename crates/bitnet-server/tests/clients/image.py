"""The program of the container image, in a folder that has nothing else and is the root of all that it sees.

    sudo python image.py PROGRAM ORDINARY

PROGRAM is the static one, ORDINARY the `bitnet` that is linked as other programs are. It runs as the user, with the variables and the
arguments that the Dockerfile gives it, says of itself that it is ready, and writes the same texts as the ordinary one.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

import openai

PROGRAM, ORDINARY = sys.argv[1:3]
USER = 65532
KEY = "a key for tests"
STORY = ["run", "Once upon a time", "-n", "20", "--temp", "0"]


def words(root, *arguments):
    """The program in the image, as its user."""
    return ["chroot", f"--userspec={USER}:{USER}", f"--groups={USER}", str(root), "/bitnet", *arguments]


def said(command):
    environment = {"XDG_CACHE_HOME": "/cache", "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        # Others than root look into it, too.
        root.chmod(0o755)
        shutil.copy(PROGRAM, root / "bitnet")
        (root / "cache").mkdir()
        os.chown(root / "cache", USER, USER)
        assert said(words(root, "--version")) == said([ORDINARY, "--version"])
        story = said(words(root, *STORY))
        assert story.strip() and story == said([ORDINARY, *STORY]), story
        serve(root)
        left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        assert left == ["bitnet", "cache"], f"it wrote files: {left}"
    print(f"image: {os.path.getsize(PROGRAM) >> 20} MiB alone in a folder: version, texts, health, an answer, and its end")


def serve(root):
    environment = {"XDG_CACHE_HOME": "/cache", "BITNET_API_KEY": KEY, "PATH": os.environ["PATH"]}
    command = words(root, "serve", "--host", "127.0.0.1", "--port", "0")
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        begin = "serving at "
        line = next(line for line in server.stderr if line.startswith(begin))
        address = line.removeprefix(begin).split()[0]
        assert urllib.request.urlopen(f"{address}/health").status == 200
        port = address.rpartition(":")[2].strip("/")
        said(words(root, "serve", "--check", "--port", port))
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        [model] = client.models.list()
        text = client.completions.create(model=model.id, prompt=STORY[1], max_tokens=20, temperature=0).choices[0].text
        assert text.strip(), text
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, "it ends well"
    finally:
        server.kill()
        server.wait()


main()
