"""``cbs-live``: the studio, live pictures in a browser."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.choose import streams
    from cbs_core.cli.app import hydra_app, one_line_errors

    argv = sys.argv[1:]
    given = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    if "input" in given and "source" not in given:
        with one_line_errors("cbs-live"):
            argv.append(f"source={streams.source_for(given['input'].strip(chr(39)))}")
    hydra_app("cbs-live", run, argv, config_name="live")


def run(config: Mapping[str, object]) -> int:
    """Serves one composed configuration (``conf/live.yaml``) until Ctrl-C; returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from importlib.util import find_spec
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from cbs_core.contract.errors import ConfigError
    from cbs_core.machine.terminal import PlainConsole

    if missing := [name for name in ("starlette", "uvicorn", "websockets") if not find_spec(name)]:
        raise ConfigError(
            f"the studio needs {', '.join(missing)}: pip install 'class-based-styling[live]'"
        )
    from cbs_core.live.session import live_session

    console = PlainConsole(quiet=config.get("quiet") is True)
    folder = Path(HydraConfig.get().runtime.output_dir)
    live_session(config, run_folder=folder, say=lambda line: console.print(line, markup=False))
    return 0


if __name__ == "__main__":
    main()
