"""``cbs-run``: restyle chosen classes of a picture, a folder or a video."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-run", run, sys.argv[1:])


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/config.yaml``); returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from cbs_core.run.session import run_session

    return run_session(config, run_folder=Path(HydraConfig.get().runtime.output_dir))
