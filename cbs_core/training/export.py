"""The finished weight file: safetensors with a header that says where the weights come from."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cbs_core.machine.files import replace


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    half: bool = False,
    over: bool = True,
) -> Path:
    """Writes a weight file, whole or not at all.

    Args:
        path: ending in ``.safetensors``.
        tensors: on any device.
        metadata: the header.
        half: whether floating-point tensors are stored as float16.
        over: whether a file of that name is replaced.

    Returns:
        The name that it has, another one where ``path`` was taken.

    Raises:
        SinkError: it cannot be written.
    """
    from safetensors.torch import save

    stored = {
        name: (t.detach().half() if half and t.is_floating_point() else t.detach())
        .cpu()
        .contiguous()
        for name, t in tensors.items()
    }
    content = save(stored, metadata=dict(metadata))
    return replace(path, lambda file: file.write(content), over=over)
