# SPDX-License-Identifier: Apache-2.0
"""Python values as libconfig text: dict = group, list of dicts = list, other list = array."""


class Any(str):
    """Text put into the file as it stands: for numbers of a special form, and for mistakes on purpose."""


def libconfig(settings):
    """The whole file: one setting a line at the top level."""
    return "".join(f"{name} = {_value(value, 0)};\n" for name, value in settings.items())


def _value(value, depth):
    indent = "  " * (depth + 1)
    if isinstance(value, Any):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}L" if abs(value) > 0x7FFFFFFF else str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + " ".join(f"{k} = {_value(v, depth + 1)};" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        if not value:
            return "( )"
        if isinstance(value[0], dict):
            return "(\n" + ",\n".join(indent + _value(v, depth + 1) for v in value) + " )"
        return "[ " + ", ".join(_value(v, depth) for v in value) + " ]"
    raise TypeError(f"no libconfig form for {value!r}")
