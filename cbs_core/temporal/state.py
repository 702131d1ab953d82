"""All that outlives a frame, as one value: what a stream is gone on from, anywhere.

With the same frame, plan and state the picture is the same, whatever the process did before. A
frame has two steps (`cbs_core.frame.pipeline`), and each has its half, so that the next frame can
be segmented while this one is restyled. Every fact has one owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from cbs_core.contract.errors import StateError
from cbs_core.machine import snapshot
from cbs_core.temporal.carrying import Key, Seen
from cbs_core.temporal.lookahead import Coming
from cbs_core.temporal.objects import Followed
from cbs_core.temporal.scenes import Scene
from cbs_core.temporal.statistics import Statistics
from cbs_core.temporal.steady import Belief
from cbs_core.temporal.strokes import Strokes

VERSION = 4
"""Of the saved form; another is refused."""

Memory: TypeAlias = Statistics | Mapping[str, Any] | None
"""What a style, or a plugin with a state of its own, goes on from; None is the stream's start."""


class Untold(dict[str, Any]):
    """The memory of a plugin that does not tell it: it can be gone on from here alone.

    Args:
        what: names the plugin.
    """

    def __init__(self, what: str) -> None:
        super().__init__(untold=what)


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """Of the first step, from a frame to its scores."""

    scene: Scene = field(default_factory=Scene)
    """Kept here only where something goes along with the motion; else in `Styling`."""

    seen: Seen | None = None
    """The last frame, where something does."""

    key: Key | None = None
    """The frame that scores are carried from, where they are."""

    belief: Belief | None = None
    """What mattes are held by, where they are."""

    coming: tuple[Coming, ...] = ()
    """The frames after the last one that were segmented ahead."""

    segmenter: Memory = None


@dataclass(frozen=True, slots=True, eq=False)
class Styling:
    """Of the second step, from the scores to the picture."""

    scene: Scene = field(default_factory=Scene)
    followed: Followed = field(default_factory=Followed)
    styles: Mapping[str, Memory] = field(default_factory=dict)
    """By `cbs_core.frame.routes.Route.style`."""

    strokes: Mapping[str, Strokes] = field(default_factory=dict)
    """Likewise, of those that the last frame showed, where strokes are held."""

    compositor: Memory = None


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a stream stands between two frames. A new one is the stream's start."""

    scoring: Scoring = field(default_factory=Scoring)
    styling: Styling = field(default_factory=Styling)

    def state(self) -> dict[str, object]:
        """Returns it as plain values and tensors, which `cbs_core.machine.snapshot` writes down.

        Raises:
            StateError: a plugin has a state that it does not tell.
        """
        scoring, styling = self.scoring, self.styling
        return {
            "version": VERSION,
            "scoring": {
                "scene": scoring.scene.state(),
                "seen": None if scoring.seen is None else scoring.seen.state(),
                "key": None if scoring.key is None else scoring.key.state(),
                "belief": None if scoring.belief is None else scoring.belief.state(),
                "coming": [one.state() for one in scoring.coming],
                "segmenter": _kept(scoring.segmenter),
            },
            "styling": {
                "scene": styling.scene.state(),
                "followed": styling.followed.state(),
                "styles": {name: _kept(memory) for name, memory in styling.styles.items()},
                "strokes": {name: one.state() for name, one in styling.strokes.items()},
                "compositor": _kept(styling.compositor),
            },
        }

    @classmethod
    def restore(cls, kept: Mapping[str, Any]) -> Self:
        """Returns what `state` was called of.

        Raises:
            StateError: it is of another version, or no state.
        """
        if kept.get("version") != VERSION:
            raise StateError(
                f"this state is of version {kept.get('version')}, and {VERSION} is due: begin the "
                "stream anew"
            )
        scoring, styling = kept["scoring"], kept["styling"]
        return cls(
            Scoring(
                Scene.restore(scoring["scene"]),
                None if scoring["seen"] is None else Seen.restore(scoring["seen"]),
                None if scoring["key"] is None else Key.restore(scoring["key"]),
                None if scoring["belief"] is None else Belief.restore(scoring["belief"]),
                tuple(Coming.restore(one) for one in scoring["coming"]),
                _memory(scoring["segmenter"]),
            ),
            Styling(
                Scene.restore(styling["scene"]),
                Followed.restore(styling["followed"]),
                {name: _memory(memory) for name, memory in styling["styles"].items()},
                {name: Strokes.restore(one) for name, one in styling["strokes"].items()},
                _memory(styling["compositor"]),
            ),
        )

    def to_bytes(self) -> bytes:
        """Returns it as bytes; raises as `state`."""
        return snapshot.dumps(self.state())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns what `to_bytes` was called of; raises as `restore`."""
        return cls.restore(snapshot.loads(data))


def _kept(memory: Memory) -> object:
    if isinstance(memory, Untold):
        raise StateError(
            f"the {memory['untold']} has a state that it does not tell, so that this stream cannot "
            "be gone on with elsewhere: it has reset(), but not state() and restore()"
        )
    if isinstance(memory, Statistics):
        return {"statistics": memory.state()}
    return None if memory is None else {"plugin": memory}


def _memory(kept: Mapping[str, Any] | None) -> Memory:
    if kept is None:
        return None
    if "statistics" in kept:
        return Statistics.restore(kept["statistics"])
    plugin: Mapping[str, Any] = kept["plugin"]
    return plugin
