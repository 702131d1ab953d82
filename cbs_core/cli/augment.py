"""``cbs-augment``: restyle a labelled set by class, its labels as they are."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-augment", run, sys.argv[1:], config_name="augment")


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/augment.yaml``); returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from pathlib import Path

    from cbs_core.augment import rules
    from cbs_core.datasets import labelled
    from cbs_core.machine.inputs import input_file
    from cbs_core.run.destinations import writable

    # Before torch, and again by whoever needs them.
    rules.check(config.get("routes"))
    if config.get("remake") is not None:
        input_file(str(config["remake"]))
    if config.get("data") is not None:
        labelled.place(str(config["data"]))
    writable(Path(str(config["output"])).expanduser() / "any")
    from cbs_core.augment.session import augment_session

    return augment_session(config)


if __name__ == "__main__":
    main()
