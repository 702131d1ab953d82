"""Nets of transformers that are told what to look for, tiny and of random weights; no network."""

from pathlib import Path
from typing import Any

import torch

from tests.tiny_transformers import clip_tokenizer

SIDE = 64


def save(family: str, folder: Path) -> Path:
    """Writes a checkpoint of a family (a key of `MAKERS`) into a folder and returns it."""
    import transformers
    from transformers.utils import logging

    with torch.random.fork_rng():
        torch.manual_seed(1)
        net, processor = MAKERS[family](transformers)
        with torch.inference_mode():
            for parameter in net.parameters():  # of a trained net's scale
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    logging.disable_progress_bar()
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _decoder() -> dict[str, Any]:
    return {
        "hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }  # fmt: skip


def _prompts() -> dict[str, Any]:
    return {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}


def _sam(t: Any, name: str = "Sam", **decoder: Any) -> Any:
    vision = {
        "hidden_size": 16, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1],
        "num_pos_feats": 16, "mlp_dim": 32,
    }  # fmt: skip
    config = getattr(t, f"{name}Config")(
        vision_config=vision,
        prompt_encoder_config=_prompts(),
        mask_decoder_config={**_decoder(), **decoder},
    )
    image = t.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )  # fmt: skip
    return getattr(t, f"{name}Model")(config), getattr(t, f"{name}Processor")(image)


def _sam2(t: Any, name: str = "Sam2", **more: Any) -> Any:
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = getattr(t, f"{name}Config")(
        vision_config=vision,
        prompt_encoder_config=_prompts(),
        mask_decoder_config=_decoder(),
        **more,
    )
    image = t.Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16}
    )
    return getattr(t, f"{name}Model")(config), t.Sam2Processor(image, target_size=SIDE)


def _sam2_video(t: Any) -> Any:
    return _sam2(
        t, "Sam2Video", image_size=SIDE, memory_attention_hidden_size=32,
        memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16, mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32, memory_fuser_intermediate_dim=32,
    )  # fmt: skip


def bert_tokenizer(t: Any) -> Any:
    """Returns a tokenizer of letters with the marks of sentences where BERT has them."""
    at = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    letters = [chr(code) for code in range(97, 123)]
    at |= {200 + place: one for place, one in enumerate([*letters, "'"])}
    at |= {300 + place: f"##{one}" for place, one in enumerate(letters)}
    vocabulary = {at.get(place, f"[unused{place}]"): place for place in range(1030)}
    return t.BertTokenizer(vocab=vocabulary, do_lower_case=True)


def _grounding(t: Any, name: str = "GroundingDino") -> Any:
    backbone = t.SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = {
        "model_type": "bert", "vocab_size": 1030, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    config = getattr(t, f"{name}Config")(
        backbone_config=backbone, text_config=text, num_queries=12, encoder_layers=1,
        encoder_ffn_dim=32, encoder_attention_heads=4, decoder_layers=2, decoder_ffn_dim=32,
        decoder_attention_heads=4, d_model=32, max_text_len=60,
    )  # fmt: skip
    image = t.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 120})
    net = getattr(t, f"{name}ForObjectDetection")(config)
    return net, t.GroundingDinoProcessor(image, bert_tokenizer(t))


def _sam3(t: Any) -> Any:
    layers = {
        "hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    }  # fmt: skip
    config = t.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32,
                "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
                "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
                "pretrain_image_size": 28,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config={
            "model_type": "clip_text_model", "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 200,
            "max_position_embeddings": 32, "eos_token_id": 189, "bos_token_id": 188,
            "pad_token_id": 189, "projection_dim": 16,
        },
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 12},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )  # fmt: skip
    image = t.Sam3ImageProcessor(size={"height": 56, "width": 56})
    return t.Sam3Model(config), t.Sam3Processor(image, clip_tokenizer(t))


MAKERS = {
    "sam": _sam,
    "sam_hq": lambda t: _sam(t, "SamHQ", vit_dim=16),
    "sam2": _sam2,
    "sam2_video": _sam2_video,
    "grounding-dino": _grounding,
    "mm-grounding-dino": lambda t: _grounding(t, "MMGroundingDino"),
    "sam3": _sam3,
}
