"""What every analyzer has in common: it takes pictures and gives results that can be stored.

An analyzer is one network pass, or another look at the pixels, with one or several results. `objects.ObjectAnalyzer` is
the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    key: a digest of everything that decides about the value: weights, head, input. A stored result is valid for it.
    pack, unpack: to and from the bytes that the index stores. `unpack` raises `ValueError` for foreign bytes.
    """

    name: str
    key: str
    pack: Callable[[R], bytes]
    unpack: Callable[[bytes], R]


class Analyzer(Protocol):
    """Finds out something about photos.

    It loads its model when it first needs it, so that a run with nothing new loads none. Many threads may call it.
    """

    @property
    def results(self) -> tuple[ResultType[Any], ...]:
        """The results of one pass. Known before the model is loaded."""

    @property
    def recipe(self) -> tuple[str, ...]:
        """Texts that identify the analyzer in the recipe of a run."""

    @property
    def shortest_side(self) -> int:
        """How many pixels the shorter side of a decoded photo needs."""

    @property
    def after(self) -> tuple[str, ...]:
        """The names of the results that it starts from: recognition after detection."""

    @property
    def by_photo(self) -> bool:
        """Whether a call for one photo keeps a core busy, so that each thread calls it; else batches are faster.

        Loads the model.
        """

    def prepare(self, picture: Picture) -> Any:
        """Return what `analyse` needs of the picture, small enough to wait for a batch. Raises `PhotoError`."""

    def analyse(self, prepared: Sequence[Any], earlier: Sequence[Results]) -> Sequence[Results]:
        """Return the results of photos by name.

        `prepared` is what `prepare` returned for each photo, `earlier` has the results named in `after`.

        Raises `OutOfMemory` if fewer photos at a time may work, another `ModelError` if the model fails.
        """
