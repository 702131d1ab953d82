"""The exception tree: every message says what is wrong and what to do.

Only the command line catches `CbsError`; it prints the message as one line and exits with 2.

    CbsError
    ├── PluginError: PluginNotFoundError, PluginConflictError, PluginLoadError, PluginContractError
    ├── ConfigError: UnknownClassError
    ├── AcceleratorError, EngineError
    ├── WeightsError: WeightsMissingError, WeightsHashError, WeightsKeysError
    ├── StreamError: SourceError, SinkError
    └── LostError: SourceLostError (a SourceError too), SinkLostError (a SinkError), DeviceLostError

Beside it stands `SinkClosedError`, which is no failure.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


class CbsError(Exception):
    """Base of every error that a user can mend."""


class PluginError(CbsError):
    """A plugin cannot be used."""


class PluginNotFoundError(PluginError):
    """No installed distribution declares this name."""


class PluginConflictError(PluginError):
    """Two distributions claim one name; neither is used."""


class PluginLoadError(PluginError):
    """The plugin is declared, but importing or building it failed."""


class PluginContractError(PluginError):
    """The plugin ran, but broke its interface (a wrong shape, say)."""


class ConfigError(CbsError):
    """A configuration value is missing, unknown or out of range."""


class UnknownClassError(ConfigError):
    """The segmenter knows no class of this name.

    Args:
        message: the line for people.
        word: the name.
        near: whether the message has a class that was probably meant.
    """

    def __init__(self, message: str, word: str = "", *, near: bool = False) -> None:
        super().__init__(message)
        self.word = word
        self.near = near


class AcceleratorError(CbsError):
    """A module cannot be made fast this way, or computes something else then."""


class EngineError(CbsError):
    """What does a batch's tasks cannot be had, or has no worker left."""


class StateError(CbsError):
    """A state cannot be saved, or is not one that can be gone on from."""


class WeightsError(CbsError):
    """Weights cannot be used."""


class WeightsMissingError(WeightsError):
    """No such weight file."""


class WeightsHashError(WeightsError):
    """The file's SHA-256 is not the expected one."""


class WeightsKeysError(WeightsError):
    """The file's tensors are not those of the net."""


class StreamError(CbsError):
    """A source or a sink failed."""


class SourceError(StreamError):
    """The input cannot be read."""


class SinkError(StreamError):
    """The output cannot be written."""


class LostError(CbsError):
    """Something failed in the middle of a run through no fault of the frames before it.

    They are kept: the output is closed with them, as after Ctrl-C.
    """


class SourceLostError(LostError, SourceError):
    """The input broke off, as a camera that is unplugged does."""


class SinkLostError(LostError, SinkError):
    """The output broke off, and what was written before is whole: a disk that is full, say.

    A sink that raises it is closed with the frames so far; any other `SinkError` aborts it.
    """


class DeviceLostError(LostError):
    """The device or its driver failed."""


class SinkClosedError(Exception):
    """Nobody looks any more: a window that its user closed. Raised by `Sink.write`.

    The run ends as at the source's last frame; of several sinks the others go on.
    """


LONGEST = 2000
"""Characters of what a stranger's error says that are told."""


def error_words(error: BaseException) -> str:
    r"""Returns what an error says, in one line and bounded; empty where it says nothing.

    Of a stranger's, whose ``__str__`` may raise too.

    Example:
        >>> error_words(ValueError("no such\n  thing"))
        'no such thing'
    """
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""
    words = " ".join(text[: 2 * LONGEST].split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


def error_line(error: BaseException) -> str:
    r"""Returns an error's kind and what it says.

    Example:
        >>> error_line(ValueError("no\nthing")), error_line(MemoryError())
        ('ValueError: no thing', 'MemoryError')
    """
    words = error_words(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def homeless(error: BaseException) -> str | None:
    """Returns the line for what `pathlib.Path.expanduser` raises; None for another error."""
    if not isinstance(error, RuntimeError) or "determine home dir" not in error_words(error):
        return None
    return (
        "a path begins with ~ (of an option, of $CBS_CACHE or $CBS_WEIGHTS, or because HOME is not "
        "set), and nobody's home folder is meant by it: write the folder out"
    )


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Returns the known name that is probably meant: two letters changed over, or a near one.

    Args:
        name: as typed.
        known: all that there are.
        cutoff: least likeness, 0..1. At 0.5 'sofa' would be near to 'face'; one letter of three
            makes 0.67.

    Example:
        >>> nearest("ople", ["people", "pole"]), nearest("sqm", ["smp", "sam"])
        ('pole', 'sam')
    """
    word, words = name.lower(), list(known)
    swaps = {word[:at] + word[at : at + 2][::-1] + word[at + 2 :] for at in range(len(word) - 1)}
    near = [one for one in words if one in swaps - {word}]
    near = near or get_close_matches(word, words, n=len(words) or 1, cutoff=cutoff)
    # Of equally near ones that with another letter, before one that lacks a letter and has another.
    return max(near, key=lambda one: _alike(one, word), default=None)


def _alike(known: str, word: str) -> tuple[bool, float, int]:
    """Returns how near a known name is: a letter; difflib's ratio; letters that are in place."""
    same = sum(ours == theirs for ours, theirs in zip(known, word, strict=False))
    return _one_letter(known, word), SequenceMatcher(None, known, word).ratio(), same


def _one_letter(known: str, word: str) -> bool:
    """Tells whether a letter is another, or one is there in one of them alone."""
    ends = min(len(known), len(word))
    at = next((at for at in range(ends) if known[at] != word[at]), ends)
    left, other = known[at:], word[at:]
    return left[1:] == other[1:] or left[1:] == other or left == other[1:]


def closest(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'car'?"`` for the `nearest` known name, or nothing.

    Example:
        >>> closest("kar", ["car", "person"])
        "; did you mean 'car'?"
    """
    near = nearest(name, known)
    return f"; did you mean '{near}'?" if near else ""
