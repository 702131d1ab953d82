"""``cbs-batch``: restyle many videos and pictures, on this machine or on many."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-batch", run, sys.argv[1:], config_name="batch")


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/batch.yaml``); returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from cbs_core.batch.session import batch_session

    return batch_session(config)


if __name__ == "__main__":
    main()
