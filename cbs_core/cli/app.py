"""What the commands share: one line for an error, exit codes, Hydra's start.

Exit codes: 0 done, 2 an error that a user can mend, 130 interrupted.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from cbs_core.errors import CbsError, closest

DEBUG = "HYDRA_FULL_ERROR"
"""Set to 1, this environment variable shows tracebacks."""


@contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Turns a `CbsError` into one line on stderr and exit code 2, Ctrl-C into 130."""
    try:
        yield
    except CbsError as error:
        if _debug():
            raise
        fail(command, str(error))
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        sys.exit(130)


def fail(command: str, message: str) -> NoReturn:
    """Prints the error as one line and exits with 2."""
    print(f"{command}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _debug() -> bool:
    return os.environ.get("CBS_TRACEBACK") == "1"


def hydra_app(command: str, task: Callable[[Mapping[str, object]], int], argv: list[str]) -> None:
    """Runs a Hydra command; exits with what ``task`` returns.

    Args:
        command: its name.
        task: takes the composed, resolved configuration, returns the exit code.
        argv: the arguments as typed, without the program's name.
    """
    os.environ["CBS_TRACEBACK"] = os.environ.get(DEBUG, "")
    # Hydra prints its errors over many lines and exits with 1, unless it is told to raise them.
    os.environ[DEBUG] = "1"
    signal.signal(signal.SIGTERM, _interrupt)
    with one_line_errors(command):
        import hydra
        from hydra.errors import HydraException
        from omegaconf import DictConfig
        from omegaconf.errors import OmegaConfBaseException

        from cbs_core.cli.arguments import normalise
        from cbs_core.confsearch import conf_dir, install

        sys.argv = [command, *normalise(argv)]
        install()
        codes: list[int] = []

        def run(config: DictConfig) -> None:
            with one_line_errors(command):
                codes.append(task(_plain(config)))

        main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
        try:
            main(run)()
        except (HydraException, OmegaConfBaseException) as error:
            if _debug():
                raise
            fail(command, explain(error))
        except OSError as error:
            if _debug() or codes:
                raise
            fail(
                command,
                f"cannot make the run folder ({error.strerror}: {error.filename}): choose another "
                "with hydra.run.dir=FOLDER",
            )
        sys.exit(max(codes, default=0))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _plain(config: object) -> Mapping[str, object]:
    from omegaconf import OmegaConf

    from cbs_core.errors import ConfigError

    if missing := OmegaConf.missing_keys(config):
        keys = sorted(missing)
        raise ConfigError(f"no value for {', '.join(keys)}: say {keys[0]}=VALUE")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def explain(error: Exception) -> str:
    """Returns what Hydra or OmegaConf said in one line, with what to do."""
    from hydra.errors import MissingConfigException, OverrideParseException

    from cbs_core.registry import REGISTRIES

    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        kind, _, name = error.missing_cfg_file.partition("/")
        if kind in REGISTRIES:
            try:
                REGISTRIES[kind].origin(name)
            except CbsError as told:
                return str(told)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read the option {error.override!r} ({str(error).splitlines()[0]}): put it in "
            "quotes, as in 'routes={car: wave}'"
        )
    if unknown := re.match(r"Could not override '([^']+)'", text):
        key = unknown[1]
        parent = getattr(error.__cause__, "parent_node", None)
        known = [str(k) for k in parent] if isinstance(parent, Mapping) else list(REGISTRIES)
        head, _, last = key.rpartition(".")
        near = closest(last, known)
        more = f" (a plugin without a preset takes new keys as +{key}=VALUE)" if head else ""
        return f"unknown key '{key}'{near} Known here: {', '.join(known)}{more}"
    return text
