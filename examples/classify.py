"""Use phototag as a library: print what a model sees in some photos.

    python examples/classify.py PHOTO...

With another model, say what its SavedModel does not:

    Classifier.open("some/saved_model", labels="labels.txt", facts={"input": {"range": "0..1"}})
"""

from __future__ import annotations

import sys

from phototag import Classifier


def main() -> None:
    """Classify the photos that are named on the command line."""
    classifier = Classifier.open()
    for photo in sys.argv[1:]:
        guesses = ", ".join(f"{guess.label.name} {guess.score:.0%}" for guess in classifier.classify(photo, count=3))
        print(f"{photo}: {guesses}")


if __name__ == "__main__":
    main()
