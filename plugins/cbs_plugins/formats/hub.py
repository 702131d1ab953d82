"""Checkpoints as transformers saves them: a local folder, or a name on the Hugging Face Hub.

Only safetensors, JSON and text files are read or fetched, and no code of a checkpoint is run. What
is in the Hub's cache is taken from there without asking the network.
"""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cbs_core.contract.errors import (
    ConfigError,
    PluginLoadError,
    WeightsError,
    WeightsMissingError,
)
from cbs_core.contract.types import WeightsFile

log = logging.getLogger("cbs")

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""A name on the Hub: ``OWNER/MODEL``, of some ``MODEL`` alone."""

TENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
"""Files of tensors; other safetensors of a repository are variants of these."""

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack")

TEXTS = (".json", ".txt")
"""Configurations and what a tokenizer reads."""

CARD = "README.md"

Check: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Given a model's name and what its ``config.json`` holds, raises where it is of no use."""

SECONDS = 10
"""That the Hub may take to say what a model is."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A checkpoint's folder."""

    name: str
    """As it was asked for."""

    folder: Path
    config: Mapping[str, Any]
    """What its ``config.json`` holds."""

    files: tuple[WeightsFile, ...]
    """Its tensors and its ``config.json``."""


def library(extra: str = "huggingface") -> Any:
    """Returns transformers.

    Raises:
        PluginLoadError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise PluginLoadError(
            f"Hugging Face models need {error.name}: pip install 'class-based-styling[{extra}]'"
        ) from error
    return transformers


def find(model: str | None, revision: str | None, *, key: str, check: Check) -> Pretrained:
    """Returns a checkpoint, after it was downloaded where it is in no folder and no cache.

    Args:
        model: a folder, or a name on the Hub.
        revision: branch, tag or commit on the Hub; None is its main branch, of a folder nothing.
        key: of the configuration, for messages: ``segmenter.model``.
        check: refuses models, before they are downloaded.

    Raises:
        ConfigError: neither is named.
        PluginLoadError: transformers is not installed.
        WeightsMissingError: there is no such model, or no network.
        WeightsError: it holds no safetensors, or cannot be read.
    """
    if not model:
        raise ConfigError(
            f"no model is chosen: give {key}=NAME, as on huggingface.co, or {key}=FOLDER"
        )
    library()
    folder = Path(model).expanduser()
    commit = ""
    if not folder.is_dir():
        if not NAME.fullmatch(model):
            raise WeightsMissingError(f"there is no folder '{model}': give {key}=NAME or FOLDER")
        folder = _cached(model, revision) or _fetched(model, revision, key, check)
        commit = folder.name
    elif revision is not None:
        raise ConfigError(f"'{model}' is a folder, which has no revision={revision}: leave it out")
    found = _read(model, folder, commit)
    _check_code(model, found.config)
    check(model, found.config)
    return found


def _read(model: str, folder: Path, commit: str) -> Pretrained:
    file = folder / "config.json"
    if not file.is_file():
        raise WeightsMissingError(
            f"'{model}' has no config.json: give a folder that model.save_pretrained(FOLDER) wrote"
        )
    try:
        data = file.read_bytes()
        config = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"'{file}' is no JSON that can be read ({error}): check it") from error
    if not isinstance(config, dict):
        raise WeightsError(f"'{file}' holds no mapping: it is no configuration of a model")
    tensors = sorted(path for path in folder.iterdir() if TENSORS.fullmatch(path.name))
    if not tensors:
        _refuse_pickles(model, [path.name for path in folder.iterdir()])
    licence = _licence(_card(folder))
    files = (
        *(WeightsFile(path, _digest(path), licence, commit) for path in tensors),
        WeightsFile(file, hashlib.sha256(data).hexdigest(), licence, commit),
    )
    return Pretrained(model, folder, config, files)


def _refuse_pickles(model: str, names: list[str]) -> None:
    pickles = [name for name in sorted(names) if name.endswith(PICKLES)]
    held = f"only {pickles[0]}, a format that could run code" if pickles else "no tensors"
    raise WeightsError(
        f"'{model}' holds {held}: choose a model, or a revision of it, with model.safetensors"
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read ({error.strerror}): check it") from error


def _card(folder: Path) -> Mapping[str, Any]:
    """Returns the header of a folder's model card, where there is one."""
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / CARD) or {}
    except Exception:  # a card is for people: one that cannot be read says nothing
        return {}


def _licence(card: Any) -> str:
    """Returns the licence that a model card's header names: ``apache-2.0``, ``other (nvidia)``."""
    said = [card.get(key) for key in ("license", "license_name", "license_link")]
    first, *more = [str(one) for one in said if isinstance(one, str)] or [""]
    return f"{first} ({', '.join(more)})" if more else first


def _cached(model: str, revision: str | None) -> Path | None:
    """Returns a model's folder in the Hub's cache, where all of it is there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    try:
        shards = {*json.loads(index.read_bytes())["weight_map"].values()} if index.is_file() else ()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    due = [*shards] or ["model.safetensors"]
    return folder if all((folder / str(name)).is_file() for name in due) else None


def _fetched(model: str, revision: str | None, key: str, check: Check) -> Path:
    """Downloads a model into the Hub's cache, after it was told what comes."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="class-based-styling")
    with _hub_errors(model, revision, key):
        info = api.model_info(model, revision=revision, files_metadata=True, timeout=SECONDS)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if not any(TENSORS.fullmatch(name) for name in sizes):
        _refuse_pickles(model, [*sizes])
    _check_code(model, info.config or {})
    check(model, info.config or {})
    due = [name for name in sizes if _is_due(name)]
    total = sum(sizes[name] for name in due)
    log.warning(
        "downloading %s at %s, %.1f MB, licence: %s, into the Hub's cache",
        model,
        info.sha,
        total / 1e6,
        _licence(info.card_data.to_dict() if info.card_data else {}) or "not stated",
    )
    with _hub_errors(model, revision, key), _progress():
        # By the branch's name, so that the cache knows which commit it means.
        return Path(api.snapshot_download(model, revision=revision, allow_patterns=due))


def _is_due(name: str) -> bool:
    if "/" in name:
        return False
    return bool(TENSORS.fullmatch(name)) or name.endswith(TEXTS) or name == CARD


@contextmanager
def _hub_errors(model: str, revision: str | None, key: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsMissingError(
            f"'{model}' is given to those who accepted its terms: do so on huggingface.co, then "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsMissingError(f"'{model}' has no revision '{revision}' on the Hub") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsMissingError(
            f"there is no model '{model}' on the Hub, and no folder of that name: give {key}=NAME "
            "or FOLDER"
        ) from error
    except Exception as error:  # of the HTTP library, which the Hub's client changed twice
        raise WeightsMissingError(
            f"'{model}' is not in the Hub's cache and cannot be downloaded "
            f"({type(error).__name__}): connect to the internet once, or give {key}=FOLDER"
        ) from error


@contextmanager
def _progress() -> Iterator[None]:
    """Lets the Hub's bars show on a terminal only."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()


def _check_code(model: str, config: Mapping[str, Any]) -> None:
    """Refuses a model that transformers knows only by code of the model's own."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES and "auto_map" in config:
        raise WeightsError(
            f"'{model}' brings code of its own, which is never run: choose one of a family that "
            "transformers knows"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing, and whatever it builds from the network."""
    from huggingface_hub import constants
    from transformers.utils import logging as told

    level, bars, offline = told.get_verbosity(), told.is_progress_bar_enabled(), None
    offline = constants.HF_HUB_OFFLINE
    told.set_verbosity_error()
    told.disable_progress_bar()
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()


def configuration(pretrained: Pretrained, net: Any) -> Any:
    """Returns a checkpoint's configuration, as a class of nets of transformers takes it.

    Raises:
        WeightsError: it does not take it.
    """
    try:
        with quiet():
            return net.config_class.from_pretrained(pretrained.folder)
    except Exception as error:  # each configuration refuses in its own way
        raise WeightsError(
            f"'{pretrained.name}' has a config.json that transformers does not take "
            f"({_line(error)})"
        ) from error


def load(pretrained: Pretrained, net: Any, config: Any) -> Any:
    """Builds a net with a checkpoint's tensors, on the host in float32.

    Args:
        pretrained: the checkpoint.
        net: a class of transformers.
        config: its configuration.

    Raises:
        WeightsError: tensors are missing, damaged, or of another net.
    """
    import torch

    try:
        with quiet():
            model, told = net.from_pretrained(
                pretrained.folder,
                config=config,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # each net refuses in its own way
        raise WeightsError(
            f"'{pretrained.name}' cannot be loaded as {net.__name__} ({_line(error)}): it is "
            "damaged, or of a newer transformers"
        ) from error
    lacking = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if lacking:
        raise WeightsError(
            f"'{pretrained.name}' lacks {len(lacking)} tensors of {net.__name__} ({lacking[0]}, "
            "...): it was not trained as one"
        )
    return model.eval()


def processor(pretrained: Pretrained, **options: Any) -> Any:
    """Returns a checkpoint's image processor, which works on tensors where they lie.

    Raises:
        WeightsError: there is none, or it cannot be read.
    """
    from transformers import AutoImageProcessor

    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(
                pretrained.folder,
                backend="torchvision",
                local_files_only=True,
                trust_remote_code=False,
                **options,
            )
    except Exception as error:  # each processor refuses in its own way
        raise WeightsError(
            f"'{pretrained.name}' has no image processor that can be used ({_line(error)})"
        ) from error


def tokenizer(pretrained: Pretrained) -> Any:
    """Returns a checkpoint's tokenizer.

    Raises:
        WeightsError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(
                pretrained.folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # each tokenizer refuses in its own way
        raise WeightsError(f"'{pretrained.name}' has no tokenizer that can be read") from error


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
