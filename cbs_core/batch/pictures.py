"""Pictures, many in one task: each is a stream of its own, done in one thread."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cbs_core.batch.items import Item
from cbs_core.batch.tasks import Bundle, Done, reason
from cbs_core.choose import registry
from cbs_core.contract.errors import CbsError, SinkError
from cbs_core.contract.types import StreamInfo
from cbs_core.frame.cutout import Exports
from cbs_core.frame.plan import Plan
from cbs_core.machine import files
from cbs_core.machine.unfinished import elsewhere
from cbs_core.run.job import shown_by
from cbs_core.run.settings import Look, Settings, source_of
from cbs_core.run.stream import Stream
from cbs_core.run.trials import unhurried
from cbs_core.run.workshop import Workshop


class Pictures:
    """Does bundles of pictures.

    Args:
        shop: builds the plan.
        settings: of an item.
    """

    def __init__(self, shop: Workshop, settings: Callable[[Item], Settings]) -> None:
        self._shop = shop
        self._settings = settings
        self._last: tuple[Look, Plan] | None = None

    def __call__(self, bundle: Bundle) -> list[Done | str]:
        """Does each; a text is the reason why one could not be."""
        bundle.folder.mkdir(parents=True, exist_ok=True)
        # A worker that was given up, or one of a driver that was killed, may be at the same bundle.
        folder = Path(tempfile.mkdtemp(dir=bundle.folder))
        try:
            return [self._try(item, folder) for item in bundle.items]
        finally:
            with suppress(OSError):
                folder.rmdir()
                bundle.folder.rmdir()

    def _try(self, item: Item, folder: Path) -> Done | str:
        try:
            return self._one(item, folder)
        except CbsError as error:
            return reason(error, item)
        except Exception as error:  # the next picture is none the worse for it
            return f"{type(error).__name__}: {error}"

    def _one(self, item: Item, folder: Path) -> Done:
        # A folder with few names: a sink looks at those beside its own.
        draft = folder / f"draft{item.output.suffix}"
        settings = self._settings(item)
        params = {**settings.sink.params, "path": str(draft)}
        sink = registry.sinks.create(settings.sink.name, **params)
        with source_of(settings)[0] as source:
            info = replace(source.info, transparent=settings.cutout)
            stream = Stream(self._plan(settings, info), exports=Exports(False, settings.cutout))
            stream.check(info.height, info.width)
            sink.open(info)
            try:
                for raw in source:
                    result = stream(stream.upload(raw))
                    sink.write(stream.finished(raw, result))
                sink.close()
            except BaseException:
                sink.abort()
                raise
        notes = (*info.notes, *getattr(sink, "notes", ()))
        return self._placed(draft, item, notes)

    def _placed(self, draft: Path, item: Item, notes: tuple[str, ...]) -> Done:
        try:
            item.output.parent.mkdir(parents=True, exist_ok=True)
            final = files.settle(draft, item.output, over=item.over)
        except OSError as error:
            raise SinkError(f"cannot write '{item.output}': {files.reason(error)}") from error
        if final == item.output:
            return Done(1, notes)
        return Done(1, (*notes, elsewhere(item.output, final)), os.fspath(final))

    def _plan(self, settings: Settings, info: StreamInfo) -> Plan:
        look = unhurried(shown_by(settings.look, info))
        if self._last is None or self._last[0] != look:
            self._last = look, self._shop.plan(look)
        return self._last[1]
