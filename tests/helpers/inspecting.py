"""The verdict of `phototag inspect`."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers.program import phototag

HUB = "imagenet_mobilenet_v2_100_224_classification"


def verdict(*arguments: Any) -> dict[str, Any]:
    result = phototag("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)["verdict"]
    return found
