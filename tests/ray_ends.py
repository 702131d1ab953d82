"""A Ray of one's own with a task that never ends: ``python -m tests.ray_ends FOLDER``."""

import sys
from functools import partial

import psutil
from cbs_plugins.engines.ray import RayEngine

from cbs_core.contract.engines import Task
from cbs_core.testing.engines import Toy

if __name__ == "__main__":
    folder = sys.argv[1]
    try:
        with RayEngine(partial(Toy, folder), cpus=1, workers=1) as engine:
            engine.submit(Task("quick", ("return", 1)))
            engine.wait()
            engine.submit(Task("endless", ("wait for", f"{folder}/never")))
            print(*(one.pid for one in psutil.Process().children(recursive=True)), flush=True)
            engine.wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
