"""Read WordNet's noun file, as Debian's package wordnet-base installs it. wndb(5WN) describes the format."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

NOUN_FILE = Path("/usr/share/wordnet/data.noun")


@dataclass(frozen=True)
class Nouns:
    """WordNet's nouns: the `words` of each synset, and its `hypernyms`. Both by the id, n and eight digits."""

    words: dict[str, tuple[str, ...]]
    hypernyms: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path = NOUN_FILE) -> Nouns:
        """Read the noun file at `path`."""
        words: dict[str, tuple[str, ...]] = {}
        hypernyms: dict[str, tuple[str, ...]] = {}
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith(" "):  # the licence
                continue
            offset, _, _, count, *rest = line.partition("|")[0].split()
            end = 2 * int(count, 16)  # a number follows each word, to tell its senses apart
            pointers = rest[end + 1 :]
            words[f"n{offset}"] = tuple(word.replace("_", " ") for word in rest[:end:2])
            hypernyms[f"n{offset}"] = tuple(
                f"n{pointers[at + 1]}" for at in range(0, len(pointers), 4) if pointers[at] in ("@", "@i")
            )
        return cls(words, hypernyms)

    @cached_property
    def _above(self) -> dict[str, tuple[str, ...]]:
        return {}

    def above(self, synset: str) -> tuple[str, ...]:
        """Return all synsets that `synset` is a kind of, the nearest first."""
        if synset not in self._above:
            found: dict[str, None] = {}
            waiting = deque(self.hypernyms.get(synset, ()))
            while waiting:
                at = waiting.popleft()
                if at not in found:
                    found[at] = None
                    waiting.extend(self.hypernyms[at])
            self._above[synset] = tuple(found)
        return self._above[synset]
