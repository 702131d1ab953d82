"""Nets of transformers, tiny and of random weights, saved as checkpoints are; no network."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

NAMES = ("background", "person", "car, auto", "sky")
"""What they are said to know."""

SIDE = 64


def save(family: str, folder: Path) -> Path:
    """Writes a checkpoint of a family (a key of `MAKERS`) into a folder and returns it."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(1)
        net, processor = MAKERS[family](transformers)
        if family != "clipseg":
            _vary(net.eval())
    from transformers.utils import logging

    logging.disable_progress_bar()
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.inference_mode()
def _vary(net: Any) -> None:
    """Gives the net weights of a trained one's scale, and classes that score unlike.

    As they are built, nets score alike everywhere.
    """
    for parameter in net.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    given = (
        {"task_inputs": torch.ones(1, 12).long()} if net.config.model_type == "oneformer" else {}
    )
    out = net(pixel_values=torch.randn(1, 3, SIDE, SIDE), **given)
    if masks := "class_queries_logits" in out or "pred_masks" in out:
        scores = out["logits" if "pred_masks" in out else "class_queries_logits"][0].T
    else:
        scores = out["logits"][0].flatten(1)
    head = [
        module
        for module in net.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        and module.bias is not None
        and len(module.bias) == len(scores)
    ][-1]
    scale = 3 / scores.std(1).mean()
    head.bias.copy_(-scale * (scores.mean(1) - head.bias))
    head.weight.mul_(scale)
    if masks:
        head.bias[-1] -= 3  # seldom no object


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}


def _segformer(t: Any) -> Any:
    config = t.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16,
        num_attention_heads=[1, 1, 2, 2], **_labels(),
    )  # fmt: skip
    size = {"height": SIDE, "width": SIDE}
    return t.SegformerForSemanticSegmentation(config), t.SegformerImageProcessor(
        size=size, do_reduce_labels=True
    )


def _swin(t: Any, stages: list[str]) -> Any:
    return t.SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4,
        out_features=stages,
    )  # fmt: skip


STAGES = ["stage1", "stage2", "stage3", "stage4"]


def _upernet(t: Any) -> Any:
    backbone = t.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, image_size=SIDE, out_features=STAGES
    )
    config = t.UperNetConfig(
        backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, **_labels()
    )
    size = {"height": SIDE, "width": SIDE}
    return t.UperNetForSemanticSegmentation(config), t.SegformerImageProcessor(size=size)


def _beit_like(t: Any, name: str) -> Any:
    config = getattr(t, f"{name}Config")(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=SIDE, patch_size=16, out_indices=[1, 2, 3, 4], use_auxiliary_head=False,
        use_relative_position_bias=True, **_labels(),
    )  # fmt: skip
    processor = t.BeitImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, do_reduce_labels=True
    )
    return getattr(t, f"{name}ForSemanticSegmentation")(config), processor


def _dpt(t: Any) -> Any:
    config = t.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=SIDE, patch_size=16, backbone_out_indices=[0, 1, 2, 3], is_hybrid=False,
        neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, use_auxiliary_head=False,
        **_labels(),
    )  # fmt: skip
    processor = t.DPTImageProcessor(
        size={"height": SIDE, "width": SIDE}, ensure_multiple_of=32, resample=3
    )
    return t.DPTForSemanticSegmentation(config), processor


def _mobilevit(t: Any) -> Any:
    config = t.MobileViTConfig(
        image_size=SIDE, hidden_sizes=[8, 8, 16], neck_hidden_sizes=[8, 8, 8, 8, 8, 16, 16],
        num_attention_heads=2, aspp_out_channels=16, output_stride=16, **_labels(),
    )  # fmt: skip
    processor = t.MobileViTImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return t.MobileViTForSemanticSegmentation(config), processor


def _mobilevitv2(t: Any) -> Any:
    config = t.MobileViTV2Config(
        image_size=SIDE, width_multiplier=0.125, base_attn_unit_dims=[64, 64, 64],
        aspp_out_channels=16, output_stride=16, **_labels(),
    )  # fmt: skip
    processor = t.MobileViTImageProcessor(size={"shortest_edge": SIDE}, do_center_crop=False)
    return t.MobileViTV2ForSemanticSegmentation(config), processor


def _mobilenet_v2(t: Any) -> Any:
    config = t.MobileNetV2Config(
        depth_multiplier=0.25, output_stride=16, min_depth=4, image_size=SIDE, **_labels()
    )
    processor = t.MobileNetV2ImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return t.MobileNetV2ForSemanticSegmentation(config), processor


def _detr_decoder(t: Any) -> Any:
    return t.DetrConfig(
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=8,
    )  # fmt: skip


def _maskformer(t: Any) -> Any:
    config = t.MaskFormerConfig(
        backbone_config=_swin(t, STAGES), decoder_config=_detr_decoder(t), fpn_feature_size=32,
        mask_feature_size=32, **_labels(),
    )  # fmt: skip
    processor = t.MaskFormerImageProcessor(
        size={"shortest_edge": SIDE, "longest_edge": 160}, size_divisor=32, do_reduce_labels=True,
        ignore_index=255,
    )  # fmt: skip
    return t.MaskFormerForInstanceSegmentation(config), processor


def _mask2former(t: Any) -> Any:
    config = t.Mask2FormerConfig(
        backbone_config=_swin(t, STAGES), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        dim_feedforward=32, num_queries=8, **_labels(),
    )  # fmt: skip
    processor = t.Mask2FormerImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_reduce_labels=True, ignore_index=255
    )
    return t.Mask2FormerForUniversalSegmentation(config), processor


def _oneformer(t: Any) -> Any:
    config = t.OneFormerConfig(
        backbone_config=_swin(t, STAGES), num_queries=8, hidden_dim=32, conv_dim=32, mask_dim=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, encoder_feedforward_dim=32,
        dim_feedforward=32, text_encoder_width=32, text_encoder_num_layers=1,
        text_encoder_vocab_size=600, text_encoder_context_length=12, text_encoder_n_ctx=4,
        text_encoder_proj_layers=1, task_seq_len=12, is_training=False, query_dec_layers=1,
        **_labels(),
    )  # fmt: skip
    image = t.OneFormerImageProcessor(
        size={"shortest_edge": SIDE, "longest_edge": 160}, class_info_file=None, num_labels=4
    )
    processor = t.OneFormerProcessor(image, clip_tokenizer(t), task_seq_length=12)
    return t.OneFormerForUniversalSegmentation(config), processor


def clip_tokenizer(t: Any) -> Any:
    """Returns a tokenizer of letters, as CLIP's is of pieces of words."""
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    return t.CLIPTokenizer(vocab={one: i for i, one in enumerate(vocabulary)}, merges=[])


def _eomt(t: Any, **processor: Any) -> Any:
    config = t.EomtConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=SIDE, patch_size=16,
        num_blocks=1, num_queries=8, num_upscale_blocks=1, num_register_tokens=1, mlp_ratio=2,
        **_labels(),
    )  # fmt: skip
    return t.EomtForUniversalSegmentation(config), t.EomtImageProcessor(**processor)


def _detr(t: Any) -> Any:
    backbone = t.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1] * 4, layer_type="basic",
        out_features=STAGES,
    )  # fmt: skip
    config = t.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, backbone=None,
        use_pretrained_backbone=False, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=8,
        decoder_attention_heads=8, num_queries=8, **_labels(),
    )  # fmt: skip
    processor = t.DetrImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 160})
    return t.DetrForSegmentation(config), processor


def _clipseg(t: Any) -> Any:
    text = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "vocab_size": 200, "max_position_embeddings": 24,
        "eos_token_id": 189, "bos_token_id": 188, "pad_token_id": 189,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": SIDE, "patch_size": 16,
    }  # fmt: skip
    config = t.CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=16, reduce_dim=16,
        extract_layers=[0, 1, 3], decoder_num_attention_heads=2, decoder_intermediate_size=32,
    )  # fmt: skip
    image = t.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    return t.CLIPSegForImageSegmentation(config), t.CLIPSegProcessor(image, clip_tokenizer(t))


MAKERS = {
    "segformer": _segformer,
    "upernet": _upernet,
    "beit": lambda t: _beit_like(t, "Beit"),
    "data2vec": lambda t: _beit_like(t, "Data2VecVision"),
    "dpt": _dpt,
    "mobilevit": _mobilevit,
    "mobilevitv2": _mobilevitv2,
    "mobilenet_v2": _mobilenet_v2,
    "maskformer": _maskformer,
    "mask2former": _mask2former,
    "oneformer": _oneformer,
    "eomt": lambda t: _eomt(
        t, size={"shortest_edge": SIDE, "longest_edge": SIDE}, do_pad=True, do_split_image=False
    ),
    "eomt_windows": lambda t: _eomt(
        t, size={"shortest_edge": SIDE, "longest_edge": None}, do_split_image=True, do_pad=False
    ),
    "detr": _detr,
    "clipseg": _clipseg,
}


def once(base: Path, save: Callable[[str, Path], Path]) -> Callable[[str], Path]:
    """Returns what gives the checkpoint of a family, made below a folder when first asked for."""
    return cache(lambda family: save(family, base / family))
