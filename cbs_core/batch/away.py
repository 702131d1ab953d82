"""A worker of a batch some of whose files lie in stores: they are brought, and taken back at last.

A source that reads stores by ranges is given the address; any other one a copy. What is written is
written here, and is put to its place whole: of a part what is told of it comes last.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cbs_core.batch.items import Item
from cbs_core.batch.mirror import STATE, Mirror
from cbs_core.batch.tasks import Bundle, Done, Join, Lasting, Made, Survey, Whole, Window
from cbs_core.choose import streams
from cbs_core.contract.engines import Task, Worker
from cbs_core.contract.errors import CbsError
from cbs_core.machine import stores
from cbs_core.machine.scratch import scratch


class Away:
    """Does tasks by a worker that knows files alone (`cbs_core.contract.engines.Worker`).

    Args:
        worker: that one.
        far: the store in which the output lies; None: it is a path.
    """

    def __init__(self, worker: Worker, far: Mirror | None) -> None:
        self._worker = worker
        self._far = far

    def do(self, task: Task, /) -> Any:
        """Does a task.

        Raises:
            CbsError: whatever a user can mend.
        """
        what = task.what
        if not isinstance(what, Survey | Window | Join | Whole | Bundle):
            return self._worker.do(task)
        items = what.items if isinstance(what, Bundle) else (what.item,)
        if self._far is None and not any(stores.stored(one.input) for one in items):
            return self._worker.do(task)  # no folder, which one that is killed would leave
        with scratch("cbs-away-") as made:
            errand = _Errand(self._worker, self._far, made)
            try:
                return errand.do(task)
            except CbsError as error:
                text = errand.told(str(error))
                if text == str(error):
                    raise
                raise type(error)(text) from error

    def close(self) -> None:
        """Closes the worker."""
        self._worker.close()


class _Errand:
    """One task, with the folder in which its files lie meanwhile."""

    def __init__(self, worker: Worker, far: Mirror | None, folder: Path) -> None:
        self._worker = worker
        self._far = far
        self._folder = folder
        self._brought: dict[str, str] = {}
        """Paths here of inputs, and what these are called."""

    def told(self, text: str) -> str:
        """Returns a text as if nothing had been brought here."""
        for path, address in self._brought.items():
            text = text.replace(path, address)
        far = self._far
        if far is None:
            return text
        return far.told(text.replace(str(self._folder / "out"), str(far.root.parent)))

    def do(self, task: Task) -> Any:
        what = task.what
        match what:
            case Survey() | Whole():
                value = self._by(task, item=self._item(what.item))
                if isinstance(what, Whole):
                    value = self._put_output(what.item, value)
            case Window():
                value = self._window(task, what)
            case Join():
                value = self._join(task, what)
            case Bundle():
                value = self._bundle(task, what)
        return value

    def _by(self, task: Task, **changed: Any) -> Any:
        return self._worker.do(replace(task, what=replace(task.what, **changed)))

    def _window(self, task: Task, what: Window) -> Made:
        file, state = self._here(what.file), what.state
        if state is not None:
            state = self._bring(state)
        made: Made = self._by(task, item=self._item(what.item), file=file, state=state)
        if made.found:
            for suffix in (file.suffix, *([STATE] if what.keep else []), ".json"):
                self._put(what.file.with_suffix(suffix), over=True)
        return made

    def _join(self, task: Task, what: Join) -> Done:
        files = tuple(self._bring(file) for file in what.files)
        for file in what.files:
            self._bring(file.with_suffix(".json"))
            if self._far is not None:  # that there is a state is part of what makes a part whole
                self._here(file).with_suffix(STATE).touch()
        done: Done = self._by(task, item=self._item(what.item), files=files)
        return self._put_output(what.item, done)

    def _bundle(self, task: Task, what: Bundle) -> list[Done | str]:
        items, lost = [], {}
        for item in what.items:
            try:
                items.append(self._item(item))
            except CbsError as error:
                lost[item.name] = str(error)
        folder = self._folder / "drafts" if self._far is not None else what.folder
        made = iter(self._by(task, items=tuple(items), folder=folder) if items else [])
        return [
            lost[item.name] if item.name in lost else self._picture(item, next(made))
            for item in what.items
        ]

    def _picture(self, item: Item, made: Done | str) -> Done | str:
        if isinstance(made, str):
            lasts = isinstance(made, Lasting) and stores.stored(item.input) is None
            return Lasting(self.told(made)) if lasts else self.told(made)
        try:
            return self._put_output(item, made)
        except CbsError as error:
            return self.told(str(error))

    def _item(self, item: Item) -> Item:
        return replace(item, input=self._input(item), output=self._here(item.output))

    def _input(self, item: Item) -> str:
        file = stores.stored(item.input)
        if file is None:
            return item.input
        by_ranges = streams.reads_stores(streams.for_suffix("source", file.suffix))
        if by_ranges and stores.has_ranges(file):
            return item.input
        copy = self._folder / "in" / str(len(self._brought)) / file.name
        copy.parent.mkdir(parents=True)
        stores.fetch(file, copy)
        self._brought[str(copy)] = str(file)
        return str(copy)

    def _here(self, path: Path) -> Path:
        """Returns where a file of the output lies meanwhile; its folder is made."""
        if self._far is None:
            return path
        here = self._folder / "out" / self._far.name(path)
        here.parent.mkdir(parents=True, exist_ok=True)
        return here

    def _bring(self, path: Path) -> Path:
        here = self._here(path)
        if self._far is not None:
            stores.fetch(self._far.store.at(self._far.name(path)), here)
        return here

    def _put(self, path: Path, *, over: bool) -> str:
        here = self._here(path)
        if self._far is None:
            return str(path)
        address = self._far.store.put(here, self._far.name(path), over=over)
        here.unlink()
        return address

    def _put_output(self, item: Item, done: Done) -> Done:
        if self._far is None:
            return done
        return replace(done, output=self._put(item.output, over=item.over))
