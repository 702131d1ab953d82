"""CLIPSeg (Lüddecke and Ecker 2022, 2112.10003): where a picture shows what words say.

Letters: ``B`` batch, ``W`` words, ``K`` classes, ``D`` features, ``H W`` the frame, ``h w`` the
net's output.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cbs_core.contract.types import WeightsFile
from cbs_plugins.formats import hub
from cbs_plugins.nets.transformers import BACKGROUND, Asked, MapSegmenter


class ClipSeg(Asked):
    """A checkpoint, which words are asked of.

    Args:
        found: what was read.
    """

    usual = 0.5
    """Confidence from which a pixel is a word's."""

    def __init__(self, found: hub.Pretrained) -> None:
        super().__init__(found, hub.library().CLIPSegForImageSegmentation)

    def segmenter(self, words: Sequence[str], levels: Tensor) -> "WordSegmenter":
        """Returns a segmenter of words, each from a confidence ``(W,)`` on."""
        tokens = self.tokenizer([*words], padding=True, truncation=True, return_tensors="pt")
        device = next(self.net.parameters()).device
        with torch.no_grad():
            texts: Tensor = self.net.get_conditional_embeddings(
                batch_size=len(words),
                input_ids=tokens["input_ids"].to(device),
                attention_mask=tokens["attention_mask"].to(device),
            )
        return WordSegmenter(self.net, self.processor, words, self.files, texts, levels)


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
