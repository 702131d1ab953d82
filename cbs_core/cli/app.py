"""What the commands share: one line for an error, exit codes, Hydra's start.

Exit codes: 0 done, 1 an error in the program itself, 2 one that a user can mend, 130 interrupted.
"""

import logging
import os
import re
import select
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, NoReturn

from cbs_core.cli import ending
from cbs_core.cli.text import VERSION
from cbs_core.contract.errors import CbsError, ConfigError, closest, error_line, homeless
from cbs_core.machine import limits, signals
from cbs_core.machine.text import clean, printable

log = logging.getLogger("cbs")

DEBUG = "HYDRA_FULL_ERROR"
"""Set to 1, this environment variable shows tracebacks."""


@contextmanager
def one_line_errors(
    command: str,
    *,
    plugins: bool = False,
    config_name: str | None = None,
    presses: signals.Presses | None = None,
) -> Iterator[None]:
    """Turns an error into one line on stderr and an exit code, Ctrl-C into 130.

    Args:
        command: its name.
        plugins: whether who exits is one, and has failed; else it is a library that has said all.
        config_name: the file in ``conf`` of its keys.
        presses: what has been heard; who is interrupted within a library may see it fail otherwise.
    """
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A middle dot on an ASCII terminal, a file's name that is no Unicode.
            stream.reconfigure(errors="backslashreplace")
    if clean not in log.filters:
        log.addFilter(clean)
    _tell_strays()
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        _interrupted(command)
    except SystemExit as asked:
        if not plugins or ending.watch(command).left:
            with suppress(OSError):  # another that Python's own end tells
                _flush(command)
            raise
        fail(command, f"a plugin tried to end the program ({error_line(asked)})")
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            _unread(command)
        if _debug():
            raise
        if presses is not None and presses.some and not isinstance(error, CbsError):
            _interrupted(command)
        if told := explain(error, config_name):
            fail(command, told)
        fail(
            command,
            f"unexpected {error_line(error)}. This is a fault of the program: run again with "
            f"{DEBUG}=1 and report what it shows",
            code=1,
        )


def _open_streams() -> None:
    """Opens what whoever starts this has closed, or the next file would be printed into."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, "w" if number else "r", encoding="utf-8"))


def _flush(command: str) -> None:
    """Prints what is left to print.

    Raises:
        OSError: that cannot be, but for want of a reader.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _unread(command)


def _unread(command: str) -> NoReturn:
    """Ends as pipes do whose reader has left, as `head` does; nothing may be flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    ending.watch(command).leave(141)


def _reader_left() -> bool:
    """Tells whether nobody reads any more what is printed; another's pipe may break too."""
    if not hasattr(select, "poll"):  # Windows
        return True
    seen = select.poll()
    seen.register(1, 0)  # of errors it tells unasked
    return bool(seen.poll(0))


def _tell_strays() -> None:
    """Has what nobody can catch told in a line: a thread that fails, an object that goes badly."""

    def of_thread(failed: threading.ExceptHookArgs) -> None:
        if _debug():
            threading.__excepthook__(failed)
        elif failed.exc_value is not None and failed.exc_type is not SystemExit:
            name = failed.thread.name if failed.thread else "?"
            log.warning("the thread %s failed (%s)", name, error_line(failed.exc_value))

    def of_object(failed: "sys.UnraisableHookArgs") -> None:
        if _debug():
            sys.__unraisablehook__(failed)
        elif failed.exc_value is not None:
            where = getattr(failed.object, "__qualname__", type(failed.object).__name__)
            log.warning("%s failed (%s)", where, error_line(failed.exc_value))

    if threading.excepthook is threading.__excepthook__:  # and no test's or notebook's
        threading.excepthook = of_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = of_object


def fail(command: str, message: str, *, code: int = 2) -> NoReturn:
    """Prints the error as one line and exits."""
    ignore_interrupts()
    print(f"{command}: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    ending.watch(command).leave(code)


def _interrupted(command: str) -> NoReturn:
    ignore_interrupts()
    print(f"{command}: interrupted", file=sys.stderr)
    ending.watch(command).leave(130)


def ignore_interrupts() -> None:
    """Lets the process end with its own exit code when Ctrl-C is pressed again and again."""
    signals.ignore()


def _debug() -> bool:
    return os.environ.get("CBS_TRACEBACK") == "1"


def hydra_app(
    command: str,
    task: Callable[[Mapping[str, object]], int],
    argv: list[str],
    *,
    config_name: str = "config",
) -> None:
    """Runs a Hydra command; exits with what ``task`` returns.

    Args:
        command: its name.
        task: takes the composed, resolved configuration, returns the exit code.
        argv: the arguments as typed, without the program's name.
        config_name: the file in ``conf`` to start from; only ``config`` has a source and a sink.
    """
    os.environ["CBS_TRACEBACK"] = os.environ.get(DEBUG, "")
    # Hydra prints its errors over many lines and exits with 1, unless it is told to raise them.
    os.environ[DEBUG] = "1"
    presses, end = signals.Presses(), ending.watch(command)

    def interrupt(number: int, _: object) -> None:
        end.handled()
        # The first closes the file so far, the second gives it up; more would only cut the
        # tidying short.
        if presses.counts(number):
            raise KeyboardInterrupt

    signals.listen(interrupt)
    end.listens(interrupt)
    with one_line_errors(command, config_name=config_name, presses=presses):
        if "--version" in argv:
            print(VERSION)
            return
        import hydra
        from hydra.errors import HydraException
        from omegaconf import DictConfig

        from cbs_core.choose.presets import conf_dir, install
        from cbs_core.choose.userfiles import check_length
        from cbs_core.cli import help as help_text
        from cbs_core.cli import sweeps
        from cbs_core.cli.arguments import normalise
        from cbs_core.cli.keys import finished, refuse_unknown, refuse_unknown_of_hydra

        refuse_unknown_of_hydra(argv)
        sys.argv = [command, *normalise(argv, streamed=config_name == "config")]
        install()
        help_text.install(config_name)
        codes: list[int] = []

        def run(config: DictConfig) -> None:
            # Here too, because Hydra prints lines of its own about what a task raises.
            errors = one_line_errors(command, plugins=True, presses=presses)
            with errors, ending.exits_heard(command):
                try:
                    unresolved = _unresolved(config)
                    check_length(unresolved)
                    sweeps.tell_apart(config, sys.argv[1:])
                    refuse_unknown(unresolved, config_name)  # it may be what is missing
                    plain = finished(_plain(config), config_name)
                    from cbs_core.run import early

                    early.refuse(plain, config_name)
                    sweeps.make_no_folder_yet()
                    # Before torch, which imports it from C++ and there swallows Ctrl-C: numpy was
                    # then left half imported, and whoever used it next failed in strange ways.
                    import numpy  # noqa: F401

                    codes.append(task(plain))
                finally:
                    sweeps.leave_no_empty_folder()

        warnings.filterwarnings("error", message=r"provider=hydra\.searchpath", module="hydra")
        main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)
        try:
            main(run)()
        except RecursionError as error:  # of Hydra's; a run's own is told within it
            raise ConfigError(
                "the defaults of a configuration file lead back to that file: take out the one "
                "that does"
            ) from error
        except OSError as error:
            if isinstance(error, HydraException) or error.filename is None:  # what is printed
                raise
            raise ConfigError(
                f"cannot write the run folder '{error.filename}' ({error.strerror}): choose "
                "another with hydra.run.dir=FOLDER"
            ) from error
        ignore_interrupts()
        end.leave(max(codes, default=0))


def _plain(config: object) -> Mapping[str, object]:
    from omegaconf import OmegaConf

    from cbs_core.cli.keys import check_plugins

    raw = _unresolved(config)
    if missing := sorted(_missing(raw)):
        check_plugins(raw)  # a slip may be why it is
        raise ConfigError(f"no value for {', '.join(missing)}: say {missing[0]}=VALUE")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _unresolved(config: object) -> Mapping[str, object]:
    from omegaconf import OmegaConf

    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


def _missing(section: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Yields the keys whose value is ``???``."""
    for key, value in section.items():
        if value == "???":
            yield f"{prefix}{key}"
        elif isinstance(value, Mapping):
            yield from _missing(value, f"{prefix}{key}.")


def explain(error: BaseException, config_name: str | None = None) -> str | None:
    """Returns an error that a user can mend as one line with what to do, or None."""
    if isinstance(error, CbsError):
        return str(error)
    if told := homeless(error) or limits.memoryless(error):
        return told

    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError  # type: ignore[import-untyped]

    if isinstance(error, MissingConfigException):
        return _missing_preset(error.missing_cfg_file or "")
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    nowhere = re.search(r"path=(.*) is not available", str(error))
    if isinstance(error, Warning) and nowhere:  # of Hydra's, which goes on (`hydra_app`)
        return f"hydra.searchpath names '{nowhere[1]}', and there is no such folder"
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        where = f"'{mark.name}', line {mark.line + 1}" if mark else "a configuration file"
        return f"{where}, is no YAML ({error.problem}): mend that line"
    text = " ".join(str(error).split())
    if scheme := re.match(r"No config source registered for schema ([^,]+),", text):
        return f"hydra.searchpath names '{scheme[1]}://', which is not known: name a folder"
    if isinstance(error, HydraException):
        return _not_composed(error, text, config_name) or text
    if isinstance(error, OmegaConfBaseException):
        return f"configuration: {str(error).splitlines()[0]}"
    if isinstance(error, OSError):
        what = error.strerror or error_line(error)
        return what if error.filename is None else f"{what}: '{error.filename}'"
    return None


def _not_composed(error: BaseException, text: str, config_name: str | None) -> str | None:
    """Returns what to do about an error of Hydra's, as far as it is known."""
    from cbs_core.choose.presets import groups, keys
    from cbs_core.cli.keys import unknown_key

    if "default list use +" in text:
        added = text.rpartition(" +")[2]
        if added.partition("=")[0] in groups():
            return f"{added} is no choice of one that there is: say +{added}"
    if unknown := re.search(r"Could not override '([^']+)'", text):
        cause = error.__cause__
        parent, part = getattr(cause, "parent_node", None), getattr(cause, "key", None)
        part = part if part in unknown[1].split(".") else None
        return unknown_key(unknown[1], parent, config_name, part=part)
    if gone := re.search(r"Could not delete from config. '([^']+)' does not exist", text):
        near = closest(gone[1], keys(config_name or "config"))
        return f"~{gone[1]} takes away a key that is not there{near}"
    if several := re.match(r"Ambiguous value for argument '(.+?)' 1\.", text):
        key, _, values = several[1].partition("=")
        return (
            f"'{several[1]}' holds several values: add -m to run each of them; a list is "
            f"{key}=[{values}]; where the comma belongs to one value, quote it twice, as in "
            "\"KEY='a,b'\""
        )
    if merging := re.match(r"Error merging override (.+)", text):
        return f"'{merging[1]}' does not fit the value it replaces: give that option once only"
    return None


def _missing_preset(file: str) -> str:
    from cbs_core.choose.presets import conf_dir
    from cbs_core.choose.registry import REGISTRIES

    kind, _, name = file.removesuffix(".yaml").partition("/")
    if kind not in REGISTRIES:
        near = closest(kind, [one.stem for one in conf_dir().glob("*.yaml")])
        return f"no configuration file '{file}'{near}: check --config-name and --config-dir"
    try:
        REGISTRIES[kind].origin(name)
    except CbsError as told:
        return str(told)
    return f"no preset '{file}'"


def _unreadable(option: str) -> str:
    if "=" not in option:
        example = option if os.path.splitext(option)[1] else "photo.jpg"
        return f"'{option}' is no option: options are given as KEY=VALUE, such as input={example}"
    return (
        f"the option {option} cannot be read: check its brackets and quotes, and put all of it "
        "in quotes, as in 'routes={car: wave}'"
    )
