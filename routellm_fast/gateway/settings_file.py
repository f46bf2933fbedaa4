"""Reads the gateway's YAML file; what is wrong is said with the line, the key and what is allowed there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import yaml
from pydantic import ValidationError

from routellm_fast.errors import DataError
from routellm_fast.gateway.settings import Settings

_Path: TypeAlias = tuple["str | int", ...]
_MOST_BYTES: Final = 4 << 20
_MOST_FAULTS: Final = 20


class Fault(NamedTuple):
    """Something wrong in a file.

    Attributes:
        path: The keys that lead to it.
        text: What is wrong.
    """

    path: _Path
    text: str


def read_settings(path: Path) -> Settings:
    """Read a file. Raises DataError, whose text names each fault's line and key and what is allowed."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path} is larger than {_MOST_BYTES:,} bytes, more than any settings need")
    try:
        return settings_of(data.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from error


def settings_of(text: str, name: str) -> Settings:
    """Return the settings in a YAML text; `name` is what errors call it. Raises DataError."""
    try:
        tree = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "no line"
        raise DataError(f"{name}: {where}: no YAML: {error.problem or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{name}: no YAML: {error}") from error
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise DataError(f"{name}: the file holds {found}; expected keys {', '.join(Settings.model_fields)}")
    try:
        settings = Settings.model_validate(value)
    except ValidationError as error:
        faults = [_fault_of(detail) for detail in error.errors(include_url=False)]
    else:
        faults = list(_broken_names(settings))
        if not faults:
            return settings
    lines = [f"line {_line(tree, fault.path)}: {_shown(fault.path)}: {fault.text}" for fault in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"and {len(faults) - _MOST_FAULTS} more")
    raise DataError(f"{name}: " + "; ".join(lines))


def is_routellm_config(path: Path) -> bool:
    """Tell whether a file has RouteLLM's layout, a mapping of settings by router, rather than the gateway's."""
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False  # whoever reads it for what it is says what is wrong
    return isinstance(content, dict) and bool(content) and not set(content) & set(Settings.model_fields)


class _Loader(yaml.SafeLoader):
    """YAML without keys that are given twice, and without aliases, by which a small file can become a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"*{event.anchor}: aliases are not taken", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _fault_of(detail: Any) -> Fault:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _allowed_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return Fault(path, f"there is no such key{hint or '.'} Allowed here: {', '.join(allowed)}")
    if kind == "missing":
        return Fault(path, "this key is missing")
    if kind == "value_error":
        return Fault(path, str(context.get("error", detail["msg"])))
    found = detail.get("input")
    # A key may stand where its digest should.
    is_secret = any("key" in str(part) for part in path)
    shown = (
        f", found {found!r:.80}"
        if not is_secret and (found is None or isinstance(found, (str, int, float, bool)))
        else ""
    )
    return Fault(path, f"{detail['msg'][:1].lower()}{detail['msg'][1:]}{shown}")


def _allowed_keys(path: _Path) -> list[str]:
    """Return the keys of the section that a path leads to."""
    schema = Settings.model_json_schema()
    node: Any = schema
    for part in path:
        node = _resolved(node, schema)
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or _values_of(node)
    return list(_resolved(node, schema).get("properties", {}))


def _values_of(node: Any) -> Any:
    """Return what a mapping with keys of the user's own holds under each of them."""
    patterns = node.get("patternProperties", {})
    return next(iter(patterns.values()), None) or node.get("additionalProperties") or {}


def _resolved(node: Any, schema: Any) -> Any:
    for option in node.get("anyOf", [node]):
        if "$ref" in option:
            return schema["$defs"][option["$ref"].rpartition("/")[2]]
    return node


def _broken_names(settings: Settings) -> Iterator[Fault]:
    """Names that lead nowhere."""

    def known(path: _Path, name: str, among: Sequence[str], what: str) -> Iterator[Fault]:
        if name not in among:
            near = difflib.get_close_matches(name, among, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield Fault(path, f"{name!r} is no {what}{hint or '.'} There are: {', '.join(among) or 'none'}")

    models, routers = list(settings.models), list(settings.routers)
    for name, model in settings.models.items():
        yield from known(("models", name, "upstream"), model.upstream, list(settings.upstreams), "upstream")
        if name.startswith("router-") or name in settings.aliases:
            yield Fault(("models", name), "a model's name must not begin with router-, nor be an alias too")
    for name, router in settings.routers.items():
        at: _Path = ("routers", name)
        if router.pool is None:
            for key in ("strong", "weak"):
                yield from known((*at, key), getattr(router, key), models, "model")
        else:
            for model_name in router.pool.models:
                yield from known((*at, "pool", "models", model_name), model_name, models, "model")
            if router.pool.best_model is not None:
                best = router.pool.best_model
                yield from known((*at, "pool", "best_model"), best, list(router.pool.models), "model of the pool")
        known_models = {model: settings.models[model] for model in router.models if model in models}
        unpriced = [model for model, entry in known_models.items() if not entry.has_price]
        if unpriced and (router.pool is not None or router.monthly_budget_usd is not None):
            yield Fault(at, f"a pool and a budget need prices: give input_usd_per_1m of {', '.join(unpriced)}")
        servers = {entry.upstream for entry in known_models.values()}
        if len({settings.upstreams[server].dialect for server in servers if server in settings.upstreams}) > 1:
            yield Fault(at, "its models speak different dialects: a request of one cannot be sent to the other")
    for name, target in settings.aliases.items():
        is_router = any(target == f"router-{router}" or target.startswith(f"router-{router}-") for router in routers)
        if not is_router:
            among = [*models, *(f"router-{router}" for router in routers)]
            yield from known(("aliases", name), target, among, "model or router")
    for index, rule in enumerate(settings.rules):
        if rule.use not in ("strong", "weak"):
            yield from known(("rules", index, "use"), rule.use, ["strong", "weak", *models], "model")
    for section, entries in (("clients", settings.clients), ("rules", settings.rules)):
        names = [entry.name for entry in entries]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Fault((section, index, "name"), f"{name!r} is given twice")


def _line(tree: Any, path: _Path) -> int:
    """Return the line of the deepest key on the path that the file has, from 1."""
    node, line = tree, 1 if tree is None else tree.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _shown(path: _Path) -> str:
    return ".".join(str(part) for part in path) or "the file"
