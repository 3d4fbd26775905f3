"""The benchmarks are programs, and no part of the package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import PROJECT

WORDNET = Path("/usr/share/wordnet/data.noun")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that imports a benchmark by its name."""
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    if not WORDNET.exists():
        pytest.skip("needs WordNet's noun file (Debian: wordnet-base)")
    return importlib.import_module
