"""``cbs-eval``: how good a segmenter or a styler is, and what it costs."""

import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-eval", run, sys.argv[1:], config_name="eval")


def run(config: Mapping[str, object]) -> int:
    """Evaluates what a composed configuration (``conf/eval.yaml``) names; returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from cbs_core.evaluation import places

    places.chosen(config)  # before torch, and again by whoever needs them
    places.places(config)
    from cbs_core.evaluation.session import evaluate_session

    return evaluate_session(config)


if __name__ == "__main__":
    main()
