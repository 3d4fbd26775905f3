"""`engines/_child.py` is run by its path, so its folder comes first in `sys.path`."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions

from tests.helpers import PROJECT

ENGINES = PROJECT / "phototag" / "engines"


def test_no_engine_module_shadows_another_package() -> None:
    names = {path.stem for path in ENGINES.glob("*.py")}
    assert "_child" in names
    assert not names & (sys.stdlib_module_names | packages_distributions().keys())
