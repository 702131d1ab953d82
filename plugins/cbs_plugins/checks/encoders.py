"""Whether the codecs are there that videos are written with."""

from collections.abc import Iterator

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError

from cbs_core.contract.extensions import NOTE, OK, Finding

ENCODERS = {"libx264": "mp4, mov, mkv", "libvpx-vp9": "webm"}
"""Encoder -> the containers that it is for."""


def encoders() -> Iterator[Finding]:
    """Yields the version of PyAV, and a finding an encoder."""
    yield Finding(OK, "PyAV", f"{av.__version__}")
    for name, containers in ENCODERS.items():
        try:
            Codec(name, "w")
            yield Finding(OK, "encoder", f"{name} ({containers})")
        except UnknownCodecError:
            yield Finding(
                NOTE, "encoder", f"{name} is missing, so no {containers}: pip install --upgrade av"
            )
