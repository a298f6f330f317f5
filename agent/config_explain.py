"""Words for configuration keys: why a document was refused, and the table of all keys. Pure.

Both read msgspec's view of the types (`msgspec.inspect`), so that neither can differ from what is decoded.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "%": "per cent"}
_VALUE_CHARS_MAX = 60


def one_line(text: str) -> str:
    """`text` with everything that does not print (newlines, escapes) spelled out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def explain(document: dict[str, Any], config_type: type[msgspec.Struct], error: str) -> str:
    """One line for the first thing that is wrong with `document`; `error` is msgspec's message.

    Unknown keys come first: after them the path in msgspec's message is made of known keys only.
    """
    root = inspect.type_info(config_type)
    for key, name, names in _unknown_keys(document, root, ""):
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
        return f"{_short(_join(key, name))}: unknown key, {hint}"
    path = re.search(r" - at `\$\.?([^`]*)`$", error)
    key = path[1] if path else ""
    if missing := re.match(r"Object missing required field `([^`]*)`", error):
        return f"{key}: lacks the key {missing[1]}"
    value, value_type = _at(document, root, key)
    return f"{key} = {shown(value)}: {_advice(value, value_type, key)}"


def reference(config_type: type[msgspec.Struct]) -> str:
    """All keys as a Markdown table."""
    lines = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    root = inspect.type_info(config_type)
    assert isinstance(root, inspect.StructType)
    for section in root.fields:
        rules = isinstance(section.type, inspect.VarTupleType)
        struct = section.type.item_type if isinstance(section.type, inspect.VarTupleType) else section.type
        assert isinstance(struct, inspect.StructType)
        prefix = f"[[{section.encode_name}]] " if rules else f"{section.encode_name}."
        for field in struct.fields:
            assert isinstance(field.type, inspect.Metadata)
            meaning = (field.type.extra_json_schema or {})["description"]
            value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            default = "(required)" if field.required else f"`{shown(value)}`"
            lines.append(f"| `{prefix}{field.encode_name}` | {default} | {_allowed(field.type)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _join(prefix: str, name: str) -> str:
    name = one_line(name)
    return f"{prefix}.{name}" if prefix else name


def _unknown_keys(value: Any, value_type: inspect.Type, key: str) -> Iterator[tuple[str, str, list[str]]]:
    """(key of the table, unknown name, known names) of every unknown key in `value`."""
    if isinstance(value_type, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in value_type.fields}
        for name, item in value.items():
            if name in fields:
                yield from _unknown_keys(item, fields[name], _join(key, name))
            else:
                yield key, name, list(fields)
    elif isinstance(value_type, inspect.VarTupleType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_keys(item, value_type.item_type, f"{key}[{index}]")


def _at(value: Any, value_type: inspect.Type, key: str) -> tuple[Any, inspect.Type]:
    """Value and type at a key like `class[0].match`; an element of `match` keeps the type of the key."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        value = value[name or int(index)]
        if name and isinstance(value_type, inspect.StructType):
            value_type = next(field.type for field in value_type.fields if field.encode_name == name)
        elif isinstance(value_type, inspect.VarTupleType):
            value_type = value_type.item_type
    return value, value_type


def _advice(value: Any, value_type: inspect.Type, key: str) -> str:
    plain, unit = _bare(value_type)
    numbers = {inspect.FloatType: ("a number", (float, int)), inspect.IntType: ("a whole number", (int,))}
    if type(plain) in numbers:
        words, kinds = numbers[type(plain)]
        if isinstance(value, bool) or not isinstance(value, kinds):
            return f"give {words}{' of ' + _UNIT_WORDS.get(unit, unit) if unit else ''}, {plain.ge:g} to {plain.le}"
    if isinstance(plain, inspect.VarTupleType) and isinstance(plain.item_type, inspect.StructType):
        return f"allowed is a list of tables, written as [[{key}]]"
    return f"allowed is {_allowed(value_type)}"


def _bare(value_type: inspect.Type) -> tuple[Any, str]:
    """The type without its metadata, and its unit."""
    if isinstance(value_type, inspect.Metadata):
        return value_type.type, (value_type.extra or {}).get("unit", "")
    return value_type, ""


def _allowed(value_type: inspect.Type) -> str:
    if isinstance(value_type, inspect.Metadata) and "allowed" in (value_type.extra or {}):
        return str((value_type.extra or {})["allowed"])
    plain, unit = _bare(value_type)
    match plain:
        case inspect.FloatType() | inspect.IntType():
            text = f"{plain.ge:g} to {plain.le}"
        case inspect.BoolType():
            text = "true or false"
        case inspect.LiteralType():
            text = ", ".join(shown(value) for value in plain.values)
        case inspect.EnumType():
            text = ", ".join(shown(str(member)) for member in plain.cls)
        case _:
            text = "a table of keys"
    return f"{text} {unit}".rstrip()


def shown(value: Any) -> str:
    """A value as TOML writes it, shortened."""
    return _short(one_line(json.dumps(value, ensure_ascii=False, default=str)))


def _short(text: str) -> str:
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 3] + "..."
