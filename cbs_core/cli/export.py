"""``cbs-export``: a segmenter or a styler as ONNX, with its preprocessing, checked against torch.

Letters: ``B`` batch, ``H W`` the picture.
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cbs_core.contract.attributes import HasMinSide
from cbs_core.contract.errors import (
    ConfigError,
    PluginContractError,
    PluginLoadError,
    SinkError,
    error_words,
)
from cbs_core.machine import unfinished
from cbs_core.machine.files import MARK, rename
from cbs_core.machine.text import say

if TYPE_CHECKING:
    from torch import nn

MIN_SIDE = 8
"""Pixels: nets that reflect at their borders pad smaller pictures, which no graph repeats. What
pads larger ones too says so (`HasMinSide`)."""

SIZES = ((1, 64, 96), (2, 65, 131), (1, 270, 480))
"""B, H and W of the pictures on which the file is compared with torch, beside the smallest."""

TOLERANCE = 1e-3
"""Of a styler's [0,1]; of a segmenter's largest logit."""

FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS}
"""What a system says of a disk that takes no more, or of one that fails."""


def main() -> None:
    """Entry point."""
    from cbs_core.cli.app import hydra_app

    hydra_app("cbs-export", run, sys.argv[1:], config_name="export")


def run(config: Mapping[str, object]) -> int:
    """Exports the one plugin that a composed configuration (``conf/export.yaml``) chooses.

    Raises:
        CbsError: whatever a user can mend.
    """
    from cbs_core.choose import registry, weights
    from cbs_core.choose.sections import flag, one_net, split
    from cbs_core.run.destinations import refuse, refuse_part, writable

    kind = one_net(config, "exported")
    output = Path(str(config["output"])).expanduser()
    if output.suffix != ".onnx":
        raise ConfigError(f"output={output} does not end in .onnx: say output={output}.onnx")
    overwrite = flag(config, "overwrite", default=False)
    refuse([output], overwrite)
    refuse_part(output.with_name(f"{output.name}.yaml"), overwrite=overwrite)
    writable(output)
    _require_onnx()
    name, params = split(config[kind], kind)
    plugin = registry.REGISTRIES[kind].create(name, **params)
    say(f"{kind} {name} · weights: {weights.told(weights.of(plugin))}")
    difference, scale = export(plugin, output, what=f"{kind} '{name}'")
    of = "in [0,1]" if kind == "styler" else f"of logits up to {scale:.3g}"
    say(
        f"{output}: max difference from torch {difference:.1e} {of} "
        f"(allowed: {TOLERANCE * scale:.1e})"
    )
    return 0


def export(plugin: object, output: Path, *, what: str) -> tuple[float, float]:
    """Writes a plugin as ONNX with dynamic B, H and W, and its description beside it.

    Both files take their names only after the graph was found to equal torch.

    Args:
        plugin: a segmenter or a styler that is a `torch.nn.Module`.
        output: the ONNX file; the description is ``OUTPUT.yaml``.
        what: the plugin in words, for messages.

    Returns:
        The largest difference from torch over `SIZES`, and the scale it is to be seen against: 1
        for a styler, the largest logit for a segmenter.

    Raises:
        ConfigError: the plugin is no module.
        PluginContractError: the exporter failed, or the graph differs or does not run; nothing is
            written.
        SinkError: the files cannot be written.
    """
    import yaml  # type: ignore[import-untyped]
    from torch import nn

    if not isinstance(plugin, nn.Module):
        raise ConfigError(f"the {what} is no torch module, so there is nothing to export")
    plugin.eval()
    classes = getattr(plugin, "classes", None)
    least = max(MIN_SIDE, plugin.min_side) if isinstance(plugin, HasMinSide) else MIN_SIDE
    try:
        with _workplace(output) as folder:
            graph, description = folder / "graph.onnx", folder / "graph.yaml"
            _write(plugin, graph, what=what)
            difference, scale = compare(plugin, graph, least, what=what)
            if not difference <= TOLERANCE * scale:
                raise PluginContractError(
                    f"the {what} as ONNX differs from torch by {difference:.3g}, which is more "
                    f"than {TOLERANCE:g} x {scale:.3g}: nothing was written"
                )
            size = getattr(plugin, "good_size", None)
            text = yaml.safe_dump(
                describe(classes, size, least), sort_keys=False, default_flow_style=None
            )
            description.write_text(f"# Written by {MARK.decode()}.\n{text}", encoding="utf-8")
            # The description last: one without a file that fits it would be wrong.
            over = os.path.lexists(output)  # whoever calls has asked
            final = rename(graph, output, over=over)
            rename(description, final.with_name(f"{final.name}.yaml"), over=over)
    except OSError as error:
        raise SinkError(
            f"cannot write '{output}': {error.strerror or error}; make room there, or choose "
            "another place with output="
        ) from error
    return difference, scale


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """Yields a folder beside the output; those that processes which were killed left are removed.

    In the same folder, because only within one file system is a rename atomic.
    """
    left = unfinished.left_over(output)
    work = unfinished.UnfinishedFolder(output)
    try:
        yield work.path
    finally:
        unfinished.remove([work.path, *left], "graph.*")
        work.release()


def describe(
    classes: "tuple[str, ...] | None", good_size: object = None, least: int = MIN_SIDE
) -> dict[str, object]:
    """Returns the description that a reader of ONNX files needs; arguments of a segmenter.

    Args:
        classes: of a segmenter.
        good_size: `HasGoodSize`'s.
        least: pixels of a side to which smaller pictures are to be padded.
    """
    meaning = {"output_range": [0, 1]} if classes is None else {"classes": list(classes)}
    if isinstance(good_size, tuple):
        meaning["good_size"] = list(good_size)
    return {"layout": "NCHW", "color": "RGB", "range": [0, 1], "min_side": least, **meaning}


def compare(plugin: "nn.Module", graph: Path, least: int, *, what: str) -> tuple[float, float]:
    """Returns the largest difference of a graph from its module over `SIZES`, and the scale.

    Args:
        plugin: the module.
        graph: its ONNX file.
        least: pixels of the smallest picture's sides.
        what: the plugin in words.

    Raises:
        PluginContractError: the graph does not run at one of the sizes.
    """
    import onnxruntime
    import torch

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what fails is raised too
    session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    difference, scale = 0.0, 1.0 if getattr(plugin, "classes", None) is None else 0.0
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in ((1, least, least + 1), *SIZES):
        image = torch.rand(batch, 3, height, width, generator=generator)
        with torch.inference_mode():
            want = plugin(image)
        try:
            (have,) = session.run(None, {"image": image.numpy()})
        except Exception as error:  # ONNX Runtime's have no common base
            raise PluginContractError(
                f"the {what} as ONNX does not run on {height}x{width} pixels "
                f"({error_words(error)[:200]}): nothing was written; a plugin that pads small "
                "pictures says up to which side by its attribute min_side"
            ) from error
        if have.shape != tuple(want.shape):
            return float("inf"), scale
        difference = max(difference, float((torch.from_numpy(have) - want).abs().max()))
        scale = max(scale, float(want.abs().max()))
    return difference, scale


def _write(plugin: "nn.Module", graph: Path, *, what: str) -> None:
    import torch

    example = torch.rand(2, 3, 96, 136)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    try:
        with _silence():
            torch.onnx.export(
                plugin,
                (example,),
                graph,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["image"],
                output_names=["styled" if getattr(plugin, "classes", None) is None else "logits"],
                dynamic_shapes=(free,),
            )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the exporter's errors have no common base, a plugin's none
        if isinstance(error, OSError) and error.errno in FULL:
            raise  # of the disk, which neither can help
        raise PluginContractError(
            f"torch cannot export the {what} to ONNX ({error_words(error)[:300]})"
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the exporter's warnings, which are to its own authors, off the terminal."""
    import logging
    import warnings

    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _require_onnx() -> None:
    from importlib.util import find_spec

    absent = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if absent:
        raise PluginLoadError(
            f"cbs-export needs {', '.join(absent)}: pip install 'class-based-styling[onnx]'"
        )


if __name__ == "__main__":
    main()
