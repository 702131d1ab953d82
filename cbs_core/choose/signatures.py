"""A plugin's parameters read from its source: a slip is told before torch is imported for it."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cbs_core.choose.registry import REGISTRIES, judged

_TYPES = MappingProxyType({"int": int, "float": float, "bool": bool, "str": str})

_MAKERS = ("__init__", "__new__")
"""What of a class says what it is made with."""

_MOST_BASES = 4

_UNKNOWN: Any = inspect.Parameter.empty


def check(kind: str, name: str, params: Mapping[str, object]) -> None:
    """Refuses parameters that a plugin does not take, as far as its source tells.

    What is missing is not judged: whoever builds the plugin may add it.

    Raises:
        ConfigError: an unknown one, with those accepted, or one of another type.
        PluginNotFoundError: nobody declares the name.
        PluginConflictError: several distributions do.
    """
    if signature := _read(REGISTRIES[kind].target(name)):
        judged(signature, params, owner=f"{kind} '{name}'")


def check_all(config: Mapping[str, object]) -> None:
    """Refuses parameters of each chosen plugin, as `check` does.

    Args:
        config: composed; what is missing or taken from another key is left to a later look.

    Raises:
        CbsError: as `check` raises.
    """
    for kind in REGISTRIES:
        section = config.get(kind)
        if isinstance(section, Mapping) and section:
            of_all = {"name", *(("where", "statistics") if kind == "styler" else ())}
            if kind in ("source", "sink"):
                of_all.add("path")  # input= and output=: lists and nothing too, to some commands
            check(
                kind,
                str(section.get("name")),
                {
                    key: value
                    for key, value in section.items()
                    if key not in of_all and value != "???" and "${" not in str(value)
                },
            )


def _read(target: str) -> inspect.Signature | None:
    """Returns a plugin's signature by its import string; None where it cannot be told."""
    module, _, name = target.partition(":")
    return _of(module, name, _MOST_BASES)


def _of(module: str, name: str, bases: int) -> inspect.Signature | None:
    """Returns the signature of a function, or of a class or its base, of up to so many."""
    try:
        (file, *_) = _files(module)
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError):
        return None  # whoever loads it tells
    match [node for node in tree.body if name in _bound(node)]:
        case [ast.FunctionDef(decorator_list=[]) as said]:
            return inspect.Signature([*_parameters(said.args, _aliases(tree))])
        case [ast.ClassDef(decorator_list=[], keywords=[]) as said]:
            return _of_class(said, tree, module, bases)
    return None


def _bound(node: ast.stmt) -> set[str]:
    """Returns the names that a statement gives to what it makes."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    name = getattr(node, "name", None)
    return {name} if isinstance(name, str) else set()


def _of_class(
    said: ast.ClassDef, tree: ast.Module, module: str, bases: int
) -> inspect.Signature | None:
    inits = [node for node in said.body if getattr(node, "name", "") in _MAKERS]
    match inits, said.bases:
        case [ast.FunctionDef(name="__init__", decorator_list=[]) as init], _:
            return inspect.Signature([*_parameters(init.args, _aliases(tree))][1:])  # without self
        case [], []:
            return inspect.Signature()
        case [], [ast.Name(id=base)] if bases:
            return _of(*_origin(tree, module, base), bases - 1)
    return None


def _origin(tree: ast.Module, module: str, name: str) -> tuple[str, str]:
    """Returns the module that a name of a module is from, and what it is called there."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return node.module, alias.name
    return module, name


def _files(module: str) -> Iterator[Path]:
    """Yields a module's file; of its package the top alone is looked for, and nothing imported."""
    top, *below = module.split(".")
    spec = find_spec(top) if module.replace(".", "").isidentifier() else None
    if spec is not None and not below and spec.origin:
        yield Path(spec.origin)
    for root in (spec.submodule_search_locations or ()) if spec and below else ():
        path = Path(root, *below)
        yield from (one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file())


def _aliases(tree: ast.Module) -> dict[str, ast.expr]:
    """Returns the names that a module gives to annotations."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def _parameters(
    args: ast.arguments, aliases: Mapping[str, ast.expr]
) -> Iterator[inspect.Parameter]:
    places = (*args.posonlyargs, *args.args)
    padded: list[ast.expr | None] = [*[None] * (len(places) - len(args.defaults)), *args.defaults]
    for one, default in zip(places, padded, strict=True):
        yield _parameter(one, default, inspect.Parameter.POSITIONAL_OR_KEYWORD, aliases)
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(one, default, inspect.Parameter.KEYWORD_ONLY, aliases)
    if args.kwarg is not None:
        yield inspect.Parameter(args.kwarg.arg, inspect.Parameter.VAR_KEYWORD)


def _parameter(
    one: ast.arg, default: ast.expr | None, kind: Any, aliases: Mapping[str, ast.expr]
) -> inspect.Parameter:
    annotation = _UNKNOWN if one.annotation is None else _annotation(one.annotation, aliases)
    value = ... if default is not None else _UNKNOWN
    if isinstance(default, ast.Constant) and default.value is None:
        value = None
    return inspect.Parameter(one.arg, kind, default=value, annotation=annotation)


def _annotation(node: ast.expr, aliases: Mapping[str, ast.expr]) -> Any:
    """Returns a type that is made of plain ones, words and None; else that it is unknown."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Name(id=name) if name in aliases:
            return _annotation(aliases[name], {})
        case ast.Subscript(value=ast.Name(id="Literal"), slice=words):
            listed = words.elts if isinstance(words, ast.Tuple) else [words]
            if all(isinstance(word, ast.Constant) for word in listed):
                return Literal[tuple(word.value for word in listed)]  # type: ignore[attr-defined]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            either = [_annotation(side, aliases) for side in (left, right)]
            if _UNKNOWN not in either and either[0] is not None:
                return either[0] | either[1]
    return _UNKNOWN
