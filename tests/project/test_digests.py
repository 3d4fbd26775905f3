"""The digests of phototag 0.1.0: an index, a recipe or a conversion of that version stays valid."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from phototag.analysis.analyzer import Analyzer
from phototag.analysis.objects import ObjectAnalyzer, scores_key
from phototag.core import Label, canonical
from phototag.engines.load import _Kept
from phototag.models.find import find_model
from phototag.run.record import recipe_digest
from phototag.run.session import Session
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.label_rule import LabelRule
from tests.helpers.heads import without_heads


def test_the_digests_of_the_default_model_are_those_of_0_1_0() -> None:
    session = Session()
    model = session.model
    assert model.digest == "b78d8cca5673fa8bb6bac63810eafbb6b248d432ba3c710e31e05763701f6396"
    objects, *_ = (kind for analyzer in session.analyzers for kind in analyzer.results)
    assert (objects.name, objects.key) == ("objects", "fc664c9bec4c9a29ded9bc847610f842")
    assert scores_key(model, 1, "probabilities") == objects.key
    plain = ObjectAnalyzer(without_heads(model), session.classifier)
    assert (plain.recipe, [kind.key for kind in plain.results]) == ((model.digest, "1"), [objects.key])


def test_the_digest_of_a_recipe_with_one_result_is_that_of_0_1_0() -> None:
    analyzer, chooser = Mock(spec=Analyzer), Mock(spec=Chooser)
    analyzer.recipe = ("b78d8cca5673fa8bb6bac63810eafbb6b248d432ba3c710e31e05763701f6396", "1")
    chooser.digest = "65c5af745ecc6f2c3874b976149b68e957dbbb963767f75bf856250ffce0e9e9"
    assert recipe_digest([analyzer], chooser, "json") == "28dfa4095aeab249650120fee061fb90"


def test_the_digest_of_a_label_chooser_is_that_of_0_1_0() -> None:
    labels = find_model("efficientnet-lite0").labels
    logits = LabelRule(labels, threshold=None, logit_threshold=5.0, temperature=0.95, max_tags=3)
    plain = LabelRule(labels, threshold=0.7, max_tags=12)
    assert plain.digest == "400a1c3d9bfb7d659f5849f5575becaafb559bb6cbfad98cbb2c32220886b587"
    assert logits.digest == "22b3d148a17441cc73ca31598392270685c2a1b9ff116009bf113c025c0031e9"


def test_the_digests_of_another_saved_model_are_those_of_0_1_0(shared: Path) -> None:
    model = find_model(
        str(shared / "models/tf1_photoprism_style"),
        labels=shared / "models/ImageNetLabels.txt",
        given={
            "input": {"range": "-1..1", "name": "input_1"},
            "output": {"name": "predictions/Softmax"},
            "tag_set": ("photoprism",),
        },
    )
    assert model.digest == "873450769786c6fd99e7b8081f3449c6a36be331ed46b99c365caa7bcd5bb561"
    assert ObjectAnalyzer(model, lambda: pytest.fail("the model is not needed")).recipe == (model.digest, "1")
    assert _Kept.of(model).use == "f2d60da88be9d91d6583b9f0302a629d9b1721b1a10aaaecd478f9f45e122842"


def test_the_canonical_text_is_the_repr_of_plain_values() -> None:
    values = (None, True, 1, -0.5, 1e-30, "a'b", ("one",), (), [1, "x"], (("deep", 2.0), None))
    assert canonical(values) == repr(values)
    assert canonical((Label("a", "n00000001"),)) == "(Label(name='a', synset='n00000001'),)"


def test_a_value_without_a_canonical_text_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no canonical text"):
        canonical((object(),))
