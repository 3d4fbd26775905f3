"""Use phototag as a library: print the labels that a model gives some photos.

    python examples/classify.py PHOTO...

For another model, give the facts that its SavedModel does not hold:

    Classifier.open("some/saved_model", labels="labels.txt", facts={"input": {"range": "0..1"}})
"""

from __future__ import annotations

import sys

from phototag import Classifier


def main() -> None:
    """Classify the photos named on the command line."""
    classifier = Classifier.open()
    for photo in sys.argv[1:]:
        guesses = ", ".join(f"{guess.label.name} {guess.score:.0%}" for guess in classifier.classify(photo, count=3))
        print(f"{photo}: {guesses}")


if __name__ == "__main__":
    main()
