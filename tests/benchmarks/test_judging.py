"""What counts as a right tag in the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from phototag.core import Tag
from phototag.models.find import Model, find_model
from tests.benchmarks.conftest import WORDNET


@pytest.fixture
def judging(benchmark: Callable[[str], Any]) -> Any:
    return benchmark("judging")


@pytest.fixture
def model() -> Model:
    return find_model("efficientnet-lite0")


@pytest.fixture
def judge(judging: Any, model: Model) -> Any:
    return judging.Judge.of(model, judging.Nouns.read(WORDNET))


@pytest.fixture
def names(model: Model) -> Callable[[Iterable[str]], set[str]]:
    """The names of the words of the tree among ids."""
    assert model.taxonomy is not None
    nodes = model.taxonomy.nodes
    return lambda ids: {nodes[word].name for word in ids if word in nodes}


@pytest.fixture
def tags(model: Model) -> Callable[..., list[Tag]]:
    """Tags of the words of the tree, by their names."""
    assert model.taxonomy is not None
    taxonomy = model.taxonomy
    found = {node.name: node for node in taxonomy.nodes.values()}
    return lambda *words: [Tag(word, 0.9, taxonomy.path(found[word].id), found[word].synset) for word in words]


@pytest.mark.parametrize(
    ("synset", "right"),
    [
        ("n01514668", {"rooster", "chicken", "bird", "animal"}),
        ("n04254680", {"soccer ball", "ball", "sports equipment"}),
        ("n02924116", {"bus", "school bus", "vehicle"}),
        ("n04468005", {"train", "vehicle"}),
    ],
)
def test_what_a_thing_is_a_kind_of_is_right_by_the_tree_too(
    judge: Any, names: Any, synset: str, right: set[str]
) -> None:
    assert right <= names(judge.object_truth(synset).right)


def test_bus_and_train_are_vehicles_among_things_in_scenes(judging: Any, judge: Any, tags: Any) -> None:
    for kind in ("bus", "train"):
        one = judging.judge_tags(tags(kind, "vehicle", "animal"), judge.kinds_truth([kind]))
        assert (judge.names(one.right), judge.names(one.wrong)) == (f"{kind}, vehicle", "animal")


def test_places_on_photos_of_one_thing_are_not_judged(judging: Any, judge: Any, tags: Any) -> None:
    one = judging.judge_tags(
        tags("car", "vehicle", "outdoor", "street", "person", "dog"), judge.object_truth("n02958343")
    )
    assert judge.names(one.right) == "car, vehicle"
    assert judge.names(one.wrong) == "dog"
    assert judge.names(one.unjudged) == "outdoor, person, street"
    assert one.unjudged <= judge.place_words


def test_a_scene_is_judged_by_what_the_eye_saw(
    judging: Any, judge: Any, tags: Any, tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    photo = make_photo("a.jpg")
    words = ["people", "child", "portrait", "outdoor", "indoor", "mountain", "sky", "grass", "food"]
    scene = {"yes": ["outdoor", "mountain", "people"], "maybe": ["sky", "portrait"]}
    (photo.parent / "labels.json").write_text(json.dumps({"a.jpg": ["person", "dog"]}))
    (photo.parent / "scenes.json").write_text(json.dumps({"words": words, "photos": {"a.jpg": scene}}))
    collection = judging.read_collection(photo.parent, judge)
    assert (collection.has_scenes, collection.is_of_objects) == (True, False)
    (truth,) = collection.truths
    said = tags("people", "person", "child", "outdoor", "mountain", "nature", "sky", "portrait", "grass", "dog", "cake")
    one = judging.judge_tags(said, truth)
    assert judge.names(one.right) == "dog, mountain, nature, outdoor, people, person"
    assert judge.names(one.wrong) == "cake, child, grass"  # cake is food, and the eye saw none
    assert judge.names(one.unjudged) == "portrait, sky"
    assert judge.names(truth.there) == "dog, mountain, outdoor, people, person"


def test_nature_is_wrong_where_the_eye_saw_none_of_it(judging: Any, judge: Any, tags: Any) -> None:
    labels = {"mountain": False, "forest": False, "indoor": True}
    assert judge.names(judging.judge_tags(tags("nature"), judge.scene_truth(labels)).wrong) == "nature"
    arguable = labels | {"forest": None}
    assert judge.names(judging.judge_tags(tags("nature"), judge.scene_truth(arguable)).unjudged) == "nature"


def test_the_figures_are_shares_of_tags_and_of_photos(judging: Any, judge: Any, tags: Any) -> None:
    outdoors = judge.scene_truth({"outdoor": True, "indoor": False, "person": True, "tree": True})
    tall = judging.replace(outdoors, has_tall=True)
    photos = [
        judging.judge_tags(tags(*words), truth)
        for words, truth in (
            (("outdoor", "person"), tall),
            (("outdoor",), tall),
            (("indoor",), outdoors),
            ((), outdoors),
        )
    ]
    found = judging.figures(photos)
    assert (found.tags, found.precision, found.right, found.right_no_io) == (1.0, 0.75, 0.5, 0.25)
    assert (found.wrong, found.none, found.tall, found.said) == (0.25, 0.25, 0.5, 0.25)


def test_every_label_by_eye_has_a_word(judge: Any, judging: Any) -> None:
    assert {row["label"] for row in judging.table(judging.SCENE_WORDS)} == judge.scene_words.keys()


def test_the_tall_persons_are_on_photos_that_show_persons(judging: Any, shared: Path) -> None:
    labels = json.loads((shared / "photos/coco128/labels.json").read_text())
    assert len(judging.tall_photos()) == 48
    assert all("person" in labels[photo] for photo in judging.tall_photos())
