"""Classes by words: CLIPSeg, Grounding DINO with SAM, or SAM 3, through transformers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cbs_core.contract.errors import ConfigError, WeightsError
from cbs_core.contract.interfaces import Segmenter
from cbs_core.words.names import plain
from cbs_plugins.formats import hub
from cbs_plugins.nets.clipseg import ClipSeg
from cbs_plugins.nets.detectors import BOXES, GroundingDino, Sam3

CLIPSEG = "CIDAS/clipseg-rd64-refined"
"""Apache-2.0, some 600 MB."""

FAMILIES = ("clipseg", *BOXES, "sam3", "sam3_video")
"""By a checkpoint's ``model_type``; of SAM 3's for films the part for pictures is used."""


class PromptedSegmenter:
    """Makes segmenters whose classes are words (`Promptable`).

    Args:
        model: a checkpoint of CLIPSeg, Grounding DINO or SAM 3, as a folder or by its name on the
            Hub.
        revision: branch, tag or commit on the Hub.
        threshold: confidence from which a pixel, or an object, is a word's, between 0 and 1; None
            is what is usual for the net.
        thresholds: the same a word, ``{"red car": 0.3}``.
        masks: of Grounding DINO, the SAM that makes masks of its boxes, likewise; None is
            `cbs_plugins.nets.sam.USUAL`.

    Raises:
        ConfigError: a threshold out of range, or ``masks`` for a net that makes them itself.
        PluginLoadError: transformers is not installed.
        WeightsMissingError: there is no such model, or no network.
        WeightsError: it is of no such family, or cannot be read.
    """

    def __init__(
        self,
        model: str = CLIPSEG,
        revision: str | None = None,
        threshold: float | None = None,
        thresholds: Mapping[str, float] | None = None,
        masks: str | None = None,
    ) -> None:
        given = None if threshold is None else _checked("threshold", threshold)
        self.thresholds = {
            plain(word): _checked(f"thresholds: '{word}'", value)
            for word, value in (thresholds or {}).items()
        }
        found = hub.find(model, revision, key="segmenter.model", check=_check)
        family = found.config["model_type"]
        if masks is not None and family not in BOXES:
            raise ConfigError(
                f"segmenter.masks={masks} is for a Grounding DINO, and '{model}' is {family}, "
                "which makes masks itself: leave it out"
            )
        self.nets: ClipSeg | GroundingDino | Sam3
        if family == "clipseg":
            self.nets = ClipSeg(found)
        elif family in BOXES:
            self.nets = GroundingDino(found, masks)
        else:
            self.nets = Sam3(found)
        self.threshold = self.nets.usual if given is None else given
        self.weights_files = self.nets.files

    @property
    def classes(self) -> tuple[str, ...]:
        """Tells that there are none yet.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "segmenter=prompted has no classes of its own, those of cbs-run's routes are: choose "
            "another segmenter here"
        )

    def prompted(self, words: Sequence[str], /) -> Segmenter:
        """Returns a segmenter of the background and these words; all share one net.

        Raises:
            ConfigError: a threshold of a word that is not among them, or too many words.
        """
        known = [plain(word) for word in words]
        if strange := [word for word in self.thresholds if word not in known]:
            raise ConfigError(
                f"segmenter.thresholds names '{strange[0]}', which is in no route (there are: "
                f"{', '.join(words)})"
            )
        levels = [self.thresholds.get(word, self.threshold) for word in known]
        return self.nets.segmenter(words, torch.tensor(levels))


def _check(model: str, config: Mapping[str, Any]) -> None:
    """Refuses other models (`hub.Check`)."""
    if config.get("model_type") not in FAMILIES:
        raise WeightsError(
            f"'{model}' is {config.get('model_type') or 'of no known kind'}, which takes no words: "
            f"give a checkpoint of CLIPSeg, such as segmenter.model={CLIPSEG}, of Grounding DINO "
            "or of SAM 3"
        )


def _checked(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise ConfigError(f"segmenter.{name}={value} is no number between 0 and 1")
    return float(value)
