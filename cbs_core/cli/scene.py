"""``cbs-scene``: restyle classes of a 3D scene, the same from every side."""

import re
import sys
from collections.abc import Mapping


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    # Hydra's grammar takes no colon in a key.
    argv = [
        re.sub(r"([{,\[=]\s*)(material|object):", r"\1\2/", arg)
        if arg.startswith("routes=")
        else arg
        for arg in sys.argv[1:]
    ]
    hydra_app("cbs-scene", run, argv, config_name="scene")


def run(config: Mapping[str, object]) -> int:
    """Runs one composed configuration (``conf/scene.yaml``); returns the exit code.

    Raises:
        CbsError: whatever a user can mend.
    """
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from cbs_core.scene.places import known_format, places

    run_folder = Path(HydraConfig.get().runtime.output_dir)
    source = Path(str(config["input"])).expanduser()
    known_format(source)  # before torch, and again by whoever needs them
    places(config, source, run_folder)
    from cbs_core.scene.session import scene_session

    return scene_session(config, run_folder=run_folder)


if __name__ == "__main__":
    main()
