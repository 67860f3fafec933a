"""Renders the templates of this folder with Jinja2, as Hugging Face's transformers does, and writes expected.json.

    pip install jinja2==3.1.6
    python3 expected.py

Every template of templates/ is rendered with every conversation of conversations.json in three forms: as it is
("plain", whose texts are kept), with CR LF for its line ends ("crlf"), and without its signs for whitespace control
("open"), of which 16 digits of SHA-256 are kept. The templates of expressions.json, one construct or error a line, are rendered with
variables of their own. What raises an error is null.
"""

import datetime
import hashlib
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
TIME = 1_741_257_296  # 2025-03-06 10:34:56 UTC


class Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks answers for training and writes nothing."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(TIME, datetime.timezone.utc).replace(tzinfo=None).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def forms(source):
    opened = source
    for sign in "-+":
        for tag in ("%", "{", "#"):
            opened = opened.replace("{" + tag + sign, "{" + tag)
        for tag in ("%", "}", "#"):
            opened = opened.replace(sign + tag + "}", tag + "}")
    return {"plain": source, "crlf": source.replace("\n", "\r\n"), "open": opened}


def render(env, source, conversation):
    variables = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    variables |= conversation.get("kwargs", {})
    try:
        return env.from_string(source).render(
            messages=conversation["messages"],
            add_generation_prompt=conversation["add_generation_prompt"],
            **variables,
        )
    except Exception:  # What a template raises, and what Python does.
        return None


def main():
    env = environment()
    conversations = json.loads((HERE / "conversations.json").read_text())
    expected = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        of_template = {}
        for form, source in forms(path.read_bytes().decode()).items():
            texts = [render(env, source, conversation) for conversation in conversations]
            if form != "plain":
                texts = [t if t is None else hashlib.sha256(t.encode()).hexdigest()[:16] for t in texts]
            of_template[form] = texts
        expected[path.stem] = of_template
    expressions = json.loads((HERE / "expressions.json").read_text())
    conversation = {"messages": expressions["variables"].pop("messages"), "add_generation_prompt": True}
    conversation["kwargs"] = expressions["variables"]
    expected["expressions"] = [render(env, source, conversation) for source in expressions["templates"]]
    lines = [f"{json.dumps(name)}: {json.dumps(of, ensure_ascii=False, separators=(',', ':'))}" for name, of in expected.items()]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
