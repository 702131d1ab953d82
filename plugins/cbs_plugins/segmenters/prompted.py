"""Classes by words: CLIPSeg (Lüddecke and Ecker 2022, 2112.10003), through transformers.

Letters: ``B`` batch, ``W`` words, ``K`` classes, ``H W`` the frame, ``h w`` the net's output.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.contract.errors import ConfigError, WeightsError
from cbs_core.contract.types import WeightsFile
from cbs_core.words.names import plain
from cbs_plugins.formats import hub
from cbs_plugins.nets.transformers import BACKGROUND, MapSegmenter

CLIPSEG = "CIDAS/clipseg-rd64-refined"
"""Apache-2.0, some 600 MB."""


class PromptedSegmenter:
    """Makes segmenters whose classes are words (`Promptable`).

    Args:
        model: a CLIPSeg checkpoint, as a folder or by its name on the Hub.
        revision: branch, tag or commit on the Hub.
        threshold: confidence from which a pixel is a word's, between 0 and 1.
        thresholds: the same a word, ``{"red car": 0.3}``.

    Raises:
        ConfigError: a threshold out of range.
        PluginLoadError: transformers is not installed.
        WeightsMissingError: there is no such model, or no network.
        WeightsError: it is no CLIPSeg, or cannot be read.
    """

    def __init__(
        self,
        model: str = CLIPSEG,
        revision: str | None = None,
        threshold: float = 0.5,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.threshold = _checked("threshold", threshold)
        self.thresholds = {
            plain(word): _checked(f"thresholds: '{word}'", value)
            for word, value in (thresholds or {}).items()
        }
        found = hub.find(model, revision, key="segmenter.model", check=_check)
        library = hub.library()
        with hub.quiet():
            config = library.CLIPSegConfig.from_pretrained(found.folder)
        self.net = hub.load(found, library.CLIPSegForImageSegmentation, config).eval()
        self.processor = hub.processor(found)
        self.tokenizer = hub.tokenizer(found)
        self.weights_files = found.files

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

    def prompted(self, words: Sequence[str], /) -> "WordSegmenter":
        """Returns a segmenter of the background and these words; all share one net.

        Raises:
            ConfigError: a threshold of a word that is not among them.
        """
        known = [plain(word) for word in words]
        if strange := [word for word in self.thresholds if word not in known]:
            raise ConfigError(
                f"segmenter.thresholds names '{strange[0]}', which is in no route (there are: "
                f"{', '.join(words)})"
            )
        tokens = self.tokenizer([*words], padding=True, truncation=True, return_tensors="pt")
        device = next(self.net.parameters()).device
        with torch.no_grad():
            texts: Tensor = self.net.get_conditional_embeddings(
                batch_size=len(words),
                input_ids=tokens["input_ids"].to(device),
                attention_mask=tokens["attention_mask"].to(device),
            )
        levels = [self.thresholds.get(word, self.threshold) for word in known]
        return WordSegmenter(
            self.net, self.processor, words, self.weights_files, texts, torch.tensor(levels)
        )


class WordSegmenter(MapSegmenter):
    """CLIPSeg with words that are encoded: a frame's features are computed once for all of them.

    Args:
        net: of transformers.
        processor: its image processor.
        words: the classes beside the background.
        files: what was read.
        texts: ``(W, D)``, the words' embeddings.
        levels: ``(W,)``, the confidence from which a pixel is a word's.
    """

    texts: Tensor
    levels: Tensor

    def __init__(
        self,
        net: Any,
        processor: Any,
        words: Sequence[str],
        files: Sequence[WeightsFile],
        texts: Tensor,
        levels: Tensor,
    ) -> None:
        super().__init__(net, processor, (BACKGROUND, *words), files)
        self.register_buffer("texts", texts, persistent=False)
        self.register_buffer("levels", levels.logit().to(texts.device), persistent=False)

    def scores(self, image: Tensor) -> Tensor:
        """Returns logits ``(B,K,h,w)``; the background's is 0, a word's is 0 at its threshold."""
        pixels = self.prepare(image)["pixel_values"].to(image.dtype)
        count = len(self.texts)
        seen = self.net.clip.get_image_features(
            pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True
        ).hidden_states
        # As in CLIPSegForImageSegmentation.forward, which would see the frame anew for each word.
        layers = [
            seen[layer + 1].repeat_interleave(count, 0) for layer in self.net.config.extract_layers
        ]
        texts = self.texts.repeat(len(pixels), 1)
        logits = self.net.decoder(layers, texts).logits
        logits = logits.reshape(len(pixels), count, *logits.shape[-2:])
        logits = logits - self.levels[:, None, None]
        return nn.functional.pad(logits, (0, 0, 0, 0, 1, 0))


def _check(model: str, config: Mapping[str, Any]) -> None:
    """Refuses other models (`hub.Check`)."""
    if config.get("model_type") != "clipseg":
        raise WeightsError(
            f"'{model}' is {config.get('model_type') or 'of no known kind'}, which takes no words: "
            f"give a CLIPSeg checkpoint, such as segmenter.model={CLIPSEG}"
        )


def _checked(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise ConfigError(f"segmenter.{name}={value} is no number between 0 and 1")
    return float(value)
