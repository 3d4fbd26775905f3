"""The interface of analyzers, which turn pictures into results that can be stored.

An analyzer runs a network once for each picture, or examines the pixels in another way. It gives one or more results.
`objects.ObjectAnalyzer` is an example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from phototag.core import Results

if TYPE_CHECKING:
    from phototag.images.decode import Picture

R = TypeVar("R")


@dataclass(frozen=True)
class ResultType(Generic[R]):
    """One kind of result of an analyzer.

    name: how rules and other analyzers refer to it, such as `objects`.
    key: a digest of everything that determines the value: weights, head, input. A stored result is valid for one key.
    pack, unpack: convert a result to and from bytes for the index. `unpack` raises `ValueError` for foreign bytes.
    """

    name: str
    key: str
    pack: Callable[[R], bytes]
    unpack: Callable[[bytes], R]


class Analyzer(Protocol):
    """Analyzes photos. Many threads may call it.

    It loads its model when it first needs it, so that a run without new photos loads none.
    """

    @property
    def results(self) -> tuple[ResultType[Any], ...]:
        """The kinds of results of one pass, known before the model is loaded."""

    @property
    def recipe(self) -> tuple[str, ...]:
        """Texts that identify the analyzer in the recipe of a run."""

    @property
    def shortest_side(self) -> int:
        """The pixels that the shorter side of a decoded photo needs."""

    @property
    def after(self) -> tuple[str, ...]:
        """The names of the results that it depends on, as recognition depends on detection."""

    @property
    def by_photo(self) -> bool:
        """Whether a call for one photo keeps a core busy. If so, each thread calls it; if not, batches are faster.

        Loads the model.
        """

    def prepare(self, picture: Picture) -> Any:
        """Return the data that `analyse` needs, small enough to keep until a batch is full. Raises `PhotoError`."""

    def analyse(self, prepared: Sequence[Any], earlier: Sequence[Results]) -> Sequence[Results]:
        """Return the results of photos by name.

        `prepared` holds what `prepare` returned for each photo, and `earlier` the results named in `after`.

        Raises `OutOfMemory` if fewer photos at a time may work, and another `ModelError` if the model fails.
        """


def result_types(analyzers: Iterable[Analyzer]) -> tuple[ResultType[Any], ...]:
    """Return the results of all `analyzers`, in their order."""
    return tuple(kind for analyzer in analyzers for kind in analyzer.results)


def unpacked(kinds: Iterable[ResultType[Any]], packed: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the results by name. `packed`: packed results by key; those that a damaged index holds are left out."""
    results: dict[str, Any] = {}
    for kind in kinds:
        if kind.key in packed:
            with contextlib.suppress(ValueError):
                results[kind.name] = kind.unpack(packed[kind.key])
    return results
