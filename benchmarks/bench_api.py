"""``cbs.restyle`` beside the pipeline itself: what Python costs a person, 512x512."""

from operator import truediv
from statistics import median
from time import perf_counter

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from skimage import data

import cbs_core as cbs
from cbs_core.api import restyler
from cbs_core.contract.tensors import to_image, to_pixels

ROUNDS = 15

LIMIT = 1.05
"""Of a call over the pipeline's own time, upload and download included."""


def test_a_second_call_costs_what_the_pipeline_does(benchmark: BenchmarkFixture) -> None:
    photo = data.astronaut()
    routes = {"person": "starry_night"}
    start = perf_counter()
    cbs.restyle(photo, routes)
    first = perf_counter() - start
    (kept,) = restyler._kept.values()
    stream = kept._stream

    def own() -> None:
        with torch.inference_mode():
            to_pixels(stream(to_image(torch.from_numpy(photo))).image)

    seconds: dict[str, list[float]] = {"restyle": [], "pipeline": []}

    def both() -> None:
        for name, call in (("restyle", lambda: cbs.restyle(photo, routes)), ("pipeline", own)):
            begin = perf_counter()
            call()
            seconds[name].append(perf_counter() - begin)

    benchmark.pedantic(both, rounds=ROUNDS, iterations=1, warmup_rounds=1)
    medians = {name: median(times) for name, times in seconds.items()}
    # Of each pair by itself: what else the machine does slows both of it.
    ratio = median(map(truediv, seconds["restyle"], seconds["pipeline"]))
    benchmark.extra_info |= {"first": first, "ratio": ratio, **medians}
    print(
        f"\nfirst call {first:.2f} s, then {1e3 * medians['restyle']:.0f} ms beside the "
        f"pipeline's {1e3 * medians['pipeline']:.0f} ms: {ratio:.3f}x"
    )
    assert ratio < LIMIT
