"""``cbs-train``: train a styler or a segmenter; stop it at any time and go on."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    # A teacher is a segmenter, which Hydra's grammar would have people say.
    argv = [f"segmenter@{arg}" if arg.startswith("teacher=") else arg for arg in sys.argv[1:]]
    hydra_app("cbs-train", run, argv, config_name="train")


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/train.yaml``); returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from cbs_core.training import places

    places.check(config)  # before torch, and again by whoever needs them
    from cbs_core.training.session import train_session

    return train_session(config)


if __name__ == "__main__":
    main()
