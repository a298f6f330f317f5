"""Options that several commands have."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import click

_SINCE = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d)")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_SINCE_MAX_S = 3650 * 86_400


class Seconds(click.FloatRange):
    """click's range lets NaN pass: it is neither too small nor too large."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number.", param, ctx) if math.isnan(seconds) else seconds


class Since(click.ParamType[float]):
    """How far back, as seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _SINCE.fullmatch(str(value))
        if match is None:
            lacks = "has no unit" if re.fullmatch(r"\d+(\.\d+)?", str(value)) else "is not a length of time"
            self.fail(
                f"{value!r} {lacks}; allowed is a number with s, m, h or d, such as 90s, 10m, 2h, 1d.", param, ctx
            )
        seconds = float(match[1]) * _SECONDS[match[2]]
        if not 0 < seconds <= _SINCE_MAX_S:
            self.fail(f"{value!r} is out of range; allowed is more than 0s, up to 3650d.", param, ctx)
        return seconds


config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Default: /etc/slackwater/slackwater.toml."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
