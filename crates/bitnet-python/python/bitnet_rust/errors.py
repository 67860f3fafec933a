"""What can go wrong, a class for each kind. All are ``BitnetError``; those that Python has a kind for are of that kind, too."""


class BitnetError(Exception):
    """Something went wrong in the library."""


class FileError(BitnetError, OSError):
    """The operating system refused to read, map or write a file."""


class FormatError(BitnetError, ValueError):
    """A file breaks the rules of its format, or lacks a tensor that the model needs."""


class UnsupportedError(BitnetError, NotImplementedError):
    """A well-formed file, or a request, that this library does not run; the message says what to do instead."""


class TokenizerError(BitnetError, ValueError):
    """The tokenizer cannot be built from its description, or refused a text."""


class TemplateError(BitnetError, ValueError):
    """The chat template does not compile, ran too long, or raised an error; or the model has none."""


class ArgumentError(BitnetError, ValueError):
    """An option or argument outside what it can be."""


class ContextError(BitnetError, ValueError):
    """The prompt does not fit the context."""


class DownloadError(BitnetError, OSError):
    """A model's name cannot be resolved, or the model not downloaded."""


class BackendError(BitnetError, RuntimeError):
    """A compute backend failed, is not there, or memory is short."""


class OverloadedError(BitnetError, RuntimeError):
    """More requests wait for an engine than it lets wait."""


class StoppedError(BitnetError, RuntimeError):
    """The engine has stopped, or the text ended before its end."""


class CancelledError(BitnetError):
    """The work was cancelled."""


class ForkError(BitnetError, RuntimeError):
    """This process was forked from one in which the library was at work: start processes by "spawn" instead."""
