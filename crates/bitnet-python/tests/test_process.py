"""A model among processes, threads and signals."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
from command import bitnet, python

from bitnet_rust import Model, convert, errors, inspect

STORY = "Once upon a time"


def test_a_model_is_pickled_by_its_source(model: Model, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.fingerprint() == model.fingerprint()
    file = tmp_path / "demo.gguf"
    bitnet("convert", _demo(tmp_path), str(file), "--type", "tq2_0")
    opened = pickle.loads(pickle.dumps(Model.open(file, threads=1, context=256)))
    assert opened.context == 256
    assert opened.generate(STORY, max_tokens=8, temperature=0).text


def _demo(folder: Path) -> str:
    """The demo model as a file."""
    path = Path(__file__).resolve().parents[2] / "bitnet-demo/data/demo.gguf"
    copy = folder / "source.gguf"
    copy.write_bytes(path.read_bytes())
    return str(copy)


def _text(model: Model) -> str:
    return model.generate(STORY, max_tokens=8, temperature=0).text


def test_a_spawned_process_opens_it_again(model: Model) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_text, (model,)) == _text(model)


FORKED = """
import os, sys
from bitnet_rust import Model, errors
model = Model.demo(threads=2)
text = model.generate("Once", max_tokens=4, temperature=0).text
session = model.session()
child = os.fork()
if child == 0:
    refused = 0
    for call in (
        lambda: model.generate("Once", max_tokens=4),
        lambda: model.embed(["a"]),
        lambda: model.logits([1]),
        lambda: session.generate("Once"),
        lambda: Model.demo(),
    ):
        try:
            call()
        except errors.ForkError as error:
            refused += "spawn" in str(error)
    # What the child has of the parent's is dropped without waiting for its threads.
    del model, session, call
    os._exit(0 if refused == 5 else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert model.generate("Once", max_tokens=4, temperature=0).text == text
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told_to_spawn() -> None:
    out, err = python(FORKED).communicate(timeout=120)
    assert out == "done\n", err


# In the background of a shell, where these tests may run, the signal is ignored from the start.
INTERRUPTED = """
import signal
from bitnet_rust import Model
signal.signal(signal.SIGINT, signal.default_int_handler)
model = Model.demo(threads=2)
print("ready", flush=True)
try:
    {work}
except KeyboardInterrupt:
    gauges = model.engine.gauges()
    print("interrupted", flush=True)
    text = model.generate("Once", max_tokens=4, temperature=0).text
    print(len(text) > 0, flush=True)
"""
LONG = {
    "generate": 'model.generate(["Once"] * 4000, max_tokens=400, ignore_eos=True)',
    "stream": 'any(False for _ in range(10**6) for _ in model.stream("Once", max_tokens=400, ignore_eos=True))',
    "session": 'any(model.session().generate("Once", max_tokens=400, ignore_eos=True) is None for _ in range(10**6))',
    "embed": 'model.embed(["Once upon a time there was a cat. " * 20] * 10**5)',
    "logits": "[model.logits(list(range(300, 700)), last=True) for _ in range(10**6)]",
}


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to one process here")
@pytest.mark.parametrize("work", LONG)
def test_ctrl_c_stops_work(work: str) -> None:
    process = python(INTERRUPTED.format(work=LONG[work]))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(__import__("subprocess").TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert out == "interrupted\nTrue\n", err


def test_sessions_go_on_and_are_saved(model: Model, tmp_path: Path) -> None:
    session = model.session()
    first = session.generate(STORY, max_tokens=8, temperature=0)
    path = tmp_path / "session"
    session.save(path)
    fork = session.fork()
    more = session.generate(" and then", max_tokens=8, temperature=0)
    restored = model.restore(path)
    assert restored.generate(" and then", max_tokens=8, temperature=0) == more
    assert fork.generate(" and then", max_tokens=8, temperature=0) == more
    assert restored.tokens == session.tokens
    session.truncate(0)
    assert session.generate(STORY, max_tokens=8, temperature=0) == first
    stream = session.stream(" and", max_tokens=200, ignore_eos=True)
    assert next(stream)
    with pytest.raises(errors.ArgumentError, match="writes a text"):
        session.truncate(0)
    del stream
    session.truncate(0)
    question = [{"role": "user", "content": "What is 20 + 22?"}]
    assert "42" in session.generate(question, max_tokens=24, temperature=0)
    path.write_bytes(b"something else")
    with pytest.raises(errors.FormatError):
        model.restore(path)


def test_files_are_inspected_and_converted(tmp_path: Path) -> None:
    assert inspect()["architecture"]["name"] == "bitnet-b1.58"
    output = tmp_path / "tq2_0.gguf"
    done = convert(_demo(tmp_path), output, "tq2_0")
    assert "42 ternary matrices" in done.summary
    assert not done.lossless
    assert Model.open(output).generate(STORY, max_tokens=4, temperature=0).text
    with pytest.raises(errors.BitnetError, match="tq9"):
        convert(output, tmp_path / "x.gguf", "tq9")
    with pytest.raises(errors.ArgumentError, match="quantize"):
        convert(output, tmp_path / "x.gguf", "pq2_0", rotate=0)
    bitnet("synth", "--checkpoint", "floats", str(tmp_path / "floats"))
    fitted = convert(tmp_path / "floats", tmp_path / "x.gguf", "pq2_0", quantize="least-squares")
    assert "dB" in fitted.summary


def test_errors_have_a_class_for_each_kind(tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with pytest.raises(errors.BitnetError) as told:
        Model.open(missing)
    assert isinstance(told.value, OSError)
    assert "missing.gguf" in str(told.value)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing")
    with pytest.raises(errors.FormatError):
        Model.open(broken)
    with pytest.raises(errors.ArgumentError, match="threads"):
        Model.demo(threads=0)
    with pytest.raises(errors.BitnetError, match="abacus"):
        Model(None, device="abacus")


def test_the_library_logs_to_python(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bitnet_rust"):
        Model.demo(context=100_000)
    assert any("100000" in record.getMessage() for record in caplog.records)
