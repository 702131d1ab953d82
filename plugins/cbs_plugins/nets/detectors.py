"""Nets that find objects by words: Grounding DINO with SAM for the masks, and SAM 3.

Grounding DINO: Liu et al. 2023 (2303.05499). SAM 3: Carion et al. 2025 (2511.16719).

Letters: ``B`` batch, ``W`` words, ``Q`` queries, ``L`` tokens, ``D`` features, ``N`` objects,
``K`` classes, ``H W`` the frame, ``h w`` a net's output.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from cbs_core.contract.errors import ConfigError
from cbs_core.contract.types import Instances, WeightsFile
from cbs_core.temporal import objects
from cbs_plugins.formats import hub
from cbs_plugins.nets import sam
from cbs_plugins.nets.transformers import BACKGROUND, Asked, Preparation, widened

MOST = 50
"""Objects of a frame, the surest: each is a mask as large as the frame."""

SAME = 0.7
"""Intersection over union from which two boxes of a word are of one object."""

BOXES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}
"""Nets that find boxes: the class of transformers by a checkpoint's ``model_type``."""

BREAKS = str.maketrans(".?", "  ")
"""What would end a word for Grounding DINO."""


class WordDetector(nn.Module):
    """Finds objects of words (`InstanceSegmenter`); what is none of them is the background.

    Args:
        words: the classes beside the background.
        files: what was read.
        levels: ``(W,)``, the confidence from which there is an object of a word.
    """

    levels: Tensor

    def __init__(self, words: Sequence[str], files: Sequence[WeightsFile], levels: Tensor) -> None:
        super().__init__()
        self.classes = (BACKGROUND, *words)
        self.weights_files = tuple(files)
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(B,3,H,W)`` RGB in [0,1] -> logits ``(B,K,H,W)``, of each class its surest mask."""
        return objects.logits(self.instances(image), len(self.classes))

    def instances(self, image: Tensor) -> list[Instances]:
        """Returns the objects of each frame of ``(B,3,H,W)`` RGB in [0,1]."""
        return [_apart(*self.found(frame[None])) for frame in image]

    def found(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns masks ``(N,H,W)`` in [0,1], classes ``(N,)`` from 1 and scores ``(N,)``.

        Args:
            image: ``(1,3,H,W)``.
        """
        raise NotImplementedError


class GroundingDino(Asked):
    """A checkpoint of Grounding DINO and one of SAM.

    Args:
        found: what was read of the former.
        masks: the latter, as `sam.find` takes it.

    Raises:
        CbsError: as `sam.find`.
    """

    usual = 0.35
    """The paper's threshold of a box."""

    def __init__(self, found: hub.Pretrained, masks: str | None) -> None:
        kind = getattr(hub.library(), BOXES[found.config["model_type"]])
        self.masks, more = sam.find(masks or sam.USUAL, key="segmenter.masks")
        super().__init__(found, kind)
        self.files = (*found.files, *more.files)

    def segmenter(self, words: Sequence[str], levels: Tensor) -> "BoxedWords":
        """Returns a segmenter of words, each from a confidence ``(W,)`` on.

        Raises:
            ConfigError: the net cannot read so many words at once.
        """
        text, spans = "", []
        for word in words:
            plain = " ".join(word.lower().translate(BREAKS).split())
            spans.append((len(text), len(text) + len(plain)))
            text += f"{plain}. "
        tokens = self.tokenizer(
            text.strip(), return_tensors="pt", return_offsets_mapping=True,
            return_token_type_ids=True,
        )  # fmt: skip
        offsets = tokens.pop("offset_mapping")[0].tolist()
        longest = self.net.config.max_text_len
        if len(offsets) > longest:
            raise ConfigError(
                f"routes have {len(words)} names of {len(offsets)} tokens together, and this net "
                f"reads {longest}: name fewer, or say segmenter.model=CIDAS/clipseg-rd64-refined"
            )
        of_word = torch.tensor(
            [
                [start < end and first <= start < last for start, end in offsets]
                for first, last in spans
            ]
        )
        return BoxedWords(self, words, levels, dict(tokens), of_word)


class BoxedWords(WordDetector):
    """Grounding DINO finds boxes of all words at once, SAM the mask in each box.

    Args:
        nets: the checkpoints.
        words: the classes beside the background.
        levels: ``(W,)``.
        tokens: what the net reads, ``(1,L)`` each.
        of_word: ``(W,L)`` bool, the tokens of each word.
    """

    of_word: Tensor

    def __init__(
        self,
        nets: GroundingDino,
        words: Sequence[str],
        levels: Tensor,
        tokens: dict[str, Tensor],
        of_word: Tensor,
    ) -> None:
        super().__init__(words, nets.files, levels)
        self.net, self.masks = nets.net, nets.masks
        self.prepare = Preparation(nets.processor)
        self.given = tuple(tokens)
        for name, tensor in tokens.items():
            self.register_buffer(f"text_{name}", tensor, persistent=False)
        self.register_buffer("of_word", of_word, persistent=False)

    def boxes(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns boxes ``(N,4)``, words and scores ``(N,)``.

        Args:
            image: ``(1,3,H,W)``.

        Returns:
            Of boxes left, top, right and bottom, in pixels; words count from 0.
        """
        wide = widened(image)
        seen = self.prepare(wide)
        text = {name: getattr(self, f"text_{name}") for name in self.given}
        out = self.net(
            pixel_values=seen["pixel_values"].to(image.dtype), pixel_mask=seen["pixel_mask"], **text
        )
        of_token = out.logits[0].float().sigmoid()[:, : self.of_word.shape[1]]
        scores = (of_token[:, None] * self.of_word).amax(2)
        score, word = torch.where(scores > self.levels, scores, 0).max(1)
        sides = box_convert(out.pred_boxes[0].float(), "cxcywh", "xyxy")
        tall, broad = wide.shape[-2:]
        sides = sides * sides.new_tensor([broad, tall, broad, tall])
        sure = (score > 0).nonzero()[:, 0]
        best = sure[batched_nms(sides[sure], score[sure], word[sure], SAME)[:MOST]]
        return sides[best], word[best], score[best]

    def found(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `WordDetector.found`."""
        boxes, word, score = self.boxes(image)
        if not len(boxes):
            return image.new_zeros(0, *image.shape[-2:]), word, score
        logits, _ = self.masks(image, boxes=boxes)
        return logits[:, 0].sigmoid(), word + 1, score


class Sam3(Asked):
    """A checkpoint of SAM 3, which finds objects of words by itself.

    Args:
        found: what was read.
    """

    usual = 0.5

    def __init__(self, found: hub.Pretrained) -> None:
        super().__init__(found, hub.library().Sam3Model)

    def segmenter(self, words: Sequence[str], levels: Tensor) -> "Concepts":
        """Returns a segmenter of words, each from a confidence ``(W,)`` on."""
        length = self.net.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            [*words], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        device = next(self.net.parameters()).device
        ids, known = (tokens[key].to(device) for key in ("input_ids", "attention_mask"))
        with torch.no_grad():
            texts: Tensor = self.net.get_text_features(
                input_ids=ids, attention_mask=known, return_dict=True
            ).pooler_output
        return Concepts(self, words, levels, texts, known)


class Concepts(WordDetector):
    """SAM 3 with words that are encoded: a frame's features are computed once for all of them.

    Args:
        nets: the checkpoint.
        words: the classes beside the background.
        levels: ``(W,)``.
        texts: ``(W,L,D)``, the words' features.
        known: ``(W,L)``, which of these are of the word.
    """

    texts: Tensor
    known: Tensor

    def __init__(
        self, nets: Sam3, words: Sequence[str], levels: Tensor, texts: Tensor, known: Tensor
    ) -> None:
        super().__init__(words, nets.files, levels)
        self.net = nets.net
        self.prepare = Preparation(nets.processor)
        self.register_buffer("texts", texts, persistent=False)
        self.register_buffer("known", known, persistent=False)

    def found(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `WordDetector.found`."""
        height, width = image.shape[-2:]
        wide = widened(image)
        pixels = self.prepare(wide)["pixel_values"].to(image.dtype)
        seen = self.net.get_vision_features(pixel_values=pixels)
        masks, words, scores = [], [], []
        for word, level in enumerate(self.levels):
            text = SimpleNamespace(pooler_output=self.texts[word : word + 1])
            out = self.net(
                vision_embeds=seen, text_embeds=text, attention_mask=self.known[word : word + 1]
            )
            score = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0].float()
            keep = score > level
            masks.append(out.pred_masks[0, keep].float().sigmoid())
            scores.append(score[keep])
            words.append(torch.full_like(scores[-1], word + 1, dtype=torch.int64))
        score, best = torch.cat(scores).sort(descending=True)
        best = best[:MOST]
        mask = torch.cat(masks)[best][:, None]
        full = F.interpolate(mask, wide.shape[-2:], mode="bilinear", align_corners=False)
        return full[:, 0, :height, :width], torch.cat(words)[best], score[:MOST]


def _apart(masks: Tensor, classes: Tensor, scores: Tensor) -> Instances:
    """Returns objects of which each pixel is one's: where several lie, the surest's.

    Args:
        masks: ``(N,H,W)`` in [0,1].
        classes: ``(N,)``.
        scores: ``(N,)`` in [0,1].
    """
    if len(masks):
        first = (masks * scores[:, None, None]).argmax(0)
        own = first == torch.arange(len(masks), device=masks.device)[:, None, None]
        masks = torch.where(own, masks, masks.clamp(max=0.5))
        seen = (masks > 0.5).any(2).any(1)
        masks, classes, scores = masks[seen], classes[seen], scores[seen]
    return Instances(masks, classes, scores)
