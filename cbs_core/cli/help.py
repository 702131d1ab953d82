"""``--help``: every key of the chosen configuration with what it means.

The words are the comments of the files in ``conf``, of strangers' packages too: beside the key,
going on below it, or in the lines above it. Nothing is imported to read them.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from cbs_core.choose.presets import conf_dir, keys, loaded, preset_dirs, presets
from cbs_core.choose.registry import REGISTRIES

COLUMN, WIDTH = 25, 110
"""Where words begin, and where lines end at most."""

FLAGS = """\
--help, -h                  this; with KIND=NAME it explains the keys of that plugin
--version                   of class-based-styling
--cfg job, -c job           print the configuration and run nothing
--multirun, -m              run each of KEY=A,B
--config-dir, -cd FOLDER    a folder of YAML files of your own
--config-name, -cn NAME     which file in it is the job: NAME.yaml
--shell-completion, -sc     install=bash, zsh or fish: how to complete keys and names in a shell
--info, -i searchpath       where configuration is looked for; also config, defaults, plugins"""

ENVIRONMENT = """\
CBS_WEIGHTS        folders of weights, PLUGIN/NAME.safetensors, which go before all others
CBS_CACHE          where nets that were made fast are kept (~/.cache/cbs)
CBS_DATA           where cbs-train, cbs-eval and cbs-augment look for camvid, cityscapes and voc
HYDRA_FULL_ERROR   1: tracebacks of errors"""

KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?P<value>(?: .*?)?)(?: +# ?(?P<words>.*))?$")
GOES_ON = re.compile(r"^ *# ?(?P<words>.*)$")


@cache
def words_of(file: Path) -> dict[str, str]:
    """Returns what the comments of a YAML file say of each key, by dotted name."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    last = ""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if key := KEY.match(line):
            path = [one for one in path if one[0] < len(key["indent"])]
            path.append((len(key["indent"]), key["key"]))
            last = ".".join(name for _, name in path)
            found[last] = key["words"] or " ".join(above)
            above = []
        elif more := GOES_ON.match(line):
            if line.startswith("#") or not last:
                above.append(more["words"])  # at the margin: of the key below
            else:
                found[last] = f"{found[last]} {more['words']}"
        else:
            above, last = [], ""
    return {key: " ".join(text.split()) for key, text in found.items()}


def explained(
    config: Mapping[str, Any], config_name: str, choices: Mapping[str, str | None]
) -> dict[str, str]:
    """Returns the words for each key of a composed configuration, by dotted name.

    Args:
        config: plain values.
        config_name: the file in ``conf`` that it begins with.
        choices: which preset each group has, as Hydra tells it.
    """
    found: dict[str, str] = {}
    for group, name in choices.items():
        kind, _, section = group.partition("@")
        section = section or kind
        if not name or section.startswith("hydra"):
            continue
        plugin = config.get(section)
        files = _presets(kind, name.removeprefix("./"))
        if isinstance(plugin, Mapping) and kind in REGISTRIES:
            # A variant of a preset need not repeat what its keys mean.
            files += presets(kind, str(plugin.get("name")))
        for file in reversed(files):
            found |= {f"{section}.{key}": text for key, text in words_of(file).items() if text}
    for key, text in words_of(conf_dir() / f"{config_name}.yaml").items():
        if text:
            found[key] = text
    return found


def _presets(kind: str, name: str) -> list[Path]:
    """Returns the files of a preset, and after them those of presets that it takes as they are."""
    named = [folder / kind / f"{name}.yaml" for folder in preset_dirs().values()]
    files = [file for file in named if file.is_file()]
    taken = [base for file in files for base in _bases(file)]
    return files + [file for base in taken for file in _presets(kind, base)]


def _bases(file: Path) -> list[str]:
    from omegaconf import OmegaConf

    preset = OmegaConf.to_container(OmegaConf.load(file))
    listed = preset.get("defaults") if isinstance(preset, dict) else None
    return [one for one in listed or () if isinstance(one, str) and one != "_self_"]


def lines(config: Mapping[str, Any], words: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    """Yields the configuration as YAML, each key with its words."""
    indent = "  " * prefix.count(".")
    for key, value in config.items():
        text = words.get(f"{prefix}{key}", "")
        if isinstance(value, Mapping) and value:
            yield from _line(f"{indent}{key}:", text)
            yield from lines(value, words, f"{prefix}{key}.")
        else:
            yield from _line(f"{indent}{key}: {_value(value)}", text)


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return "{}" if value == {} else str(value)


def _line(said: str, text: str) -> Iterator[str]:
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns)
    column = max(COLUMN, len(said) + 2)
    told = textwrap.wrap(text, max(30, width - column - 2)) or [""]
    yield f"{said:{column}}# {told[0]}" if text else said
    yield from (f"{'':{column}}# {one}" for one in told[1:])


def install(config_name: str) -> None:
    """Has Hydra print such a text where a template asks for it (``$KEYS``)."""
    from hydra._internal.hydra import Hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    original = Hydra.get_help

    def get_help(hydra: Hydra, help_cfg: Any, cfg: Any, args_parser: Any, resolve: bool) -> str:
        if "$KEYS" not in help_cfg.template:
            text: str = original(hydra, help_cfg, cfg, args_parser, resolve)
            return text
        config: Any = OmegaConf.to_container(cfg, resolve=resolve)
        choices = HydraConfig.instance().cfg.hydra.runtime.choices  # type: ignore[union-attr]
        words = explained(config, config_name, choices)
        # Sections last, so that the keys of all runs are found at once.
        plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
        return Template(help_cfg.template).substitute(
            FLAGS=FLAGS,
            ENVIRONMENT=ENVIRONMENT,
            GROUPS=_groups(),
            APP_CONFIG_GROUPS=hydra.format_config_groups(
                lambda group: _belongs(group, keys(config_name))
            ),
            KEYS="\n".join(lines({**plain, **config}, words)),
        )

    Hydra.get_help = get_help  # type: ignore[method-assign, assignment]


def _belongs(group: str, known: Set[str]) -> bool:
    """Tells whether a command has a kind of plugins, or all that a group's presets change."""
    top = group.partition("/")[0]
    if top == "hydra" or top in known:
        return top in known - {"hydra"}
    changed = set[str]()
    for folder in preset_dirs().values():
        for file in (folder / group).glob("*.yaml"):
            said = loaded(file)
            for one in said.pop("defaults", []):
                changed |= {re.split("[/ ]", str(key))[-1] for key in one if isinstance(one, dict)}
            changed |= said.keys()
    return bool(changed) and changed <= known


def _groups() -> str:
    from cbs_core.words.vocabularies import read_lines

    return "\n".join(read_lines("groups")).replace(";", ",")
