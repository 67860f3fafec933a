"""Run ternary (1.58-bit) language models.

>>> from bitnet_rust import Model
>>> model = Model.demo()
>>> print(model.generate("Once upon a time", temperature=0))  # doctest: +SKIP

The work runs without Python's lock: threads share one model and one engine. ``BITNET_LOG=info`` lets the library say more to
the logger ``bitnet_rust``.
"""

from bitnet_rust import errors
from bitnet_rust._native import VERSION, Tokenizer
from bitnet_rust.engine import ChatReply, ChatStream, Completion, CompletionStream, Engine
from bitnet_rust.errors import BitnetError
from bitnet_rust.files import Conversion, convert, inspect
from bitnet_rust.model import Model, Score
from bitnet_rust.session import Session

__version__ = VERSION

__all__ = [
    "BitnetError",
    "ChatReply",
    "ChatStream",
    "Completion",
    "CompletionStream",
    "Conversion",
    "Engine",
    "Model",
    "Score",
    "Session",
    "Tokenizer",
    "__version__",
    "convert",
    "errors",
    "inspect",
]
