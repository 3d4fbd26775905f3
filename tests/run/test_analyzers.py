"""More than one analyzer for a photo: each looks once, all share one decode, and none changes the tags of another."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phototag.analysis.analyzer import Analyzer, ResultType
from phototag.core import Photo, Results
from phototag.errors import ModelError, PhotoError
from phototag.images import decode
from phototag.images.decode import Picture
from phototag.images.preprocess import Preprocessing
from phototag.index import Index
from phototag.photos.find import find_photos
from phototag.run.looker import Later, LookJob, Seen, StillWanted, look
from phototag.run.pipeline import Pipeline
from phototag.run.session import Session
from phototag.run.settings import Settings
from phototag.vocabulary.choose import Chooser
from phototag.vocabulary.evidence import Evidence, Word, words_of_labels
from phototag.vocabulary.label_rule import LabelRule
from tests.helpers.stages import LABELS, ColourAnalyzer, ToyNetwork, classify, make_pipeline, run


class Brightness:
    """A toy analyzer that shares nothing with the classifier: the mean brightness of a larger picture."""

    recipe = ("brightness",)

    def __init__(self, side: int = 640, *, by_photo: bool = True, after: tuple[str, ...] = ()) -> None:
        self.results = (ResultType[float]("brightness", "brightness-1", self._pack, self._unpack),)
        self.shortest_side = side
        self.by_photo = by_photo
        self.after = after
        self.analysed = 0
        self.earlier: list[Results] = []

    @staticmethod
    def _pack(value: float) -> bytes:
        return repr(value).encode()

    @staticmethod
    def _unpack(packed: bytes) -> float:
        return float(packed)

    def prepare(self, picture: Picture) -> np.ndarray:
        return picture.view(Preprocessing(self.shortest_side, self.shortest_side, resize="squash"))

    def analyse(self, prepared: Sequence[np.ndarray], earlier: Sequence[Results]) -> Sequence[Results]:
        self.analysed += len(prepared)
        self.earlier += [dict(results) for results in earlier]
        return [{"brightness": float(pixels.mean())} for pixels in prepared]


class BrightnessRule:
    """Calls a photo bright: a rule that needs the second result."""

    needs = ("brightness",)
    digest = "bright"

    def evidence(self, results: Results) -> dict[str, tuple[Evidence, ...]]:
        return {"bright": (Evidence("brightness", results["brightness"] / 255, 80 / 255),)}


def counting(seen: list[int]) -> Callable[[], ToyNetwork]:
    def count(pixels: np.ndarray) -> np.ndarray:
        seen.append(len(pixels))
        return classify(pixels)

    return lambda: ToyNetwork(count)


MakePipeline = Callable[..., Pipeline]


def test_each_model_looks_once_at_each_photo_however_often_they_alternate(
    pipeline: MakePipeline, library: Path
) -> None:
    looked: list[int] = []
    for model in ("A", "B", "A", "B", "A"):
        outcomes = run(pipeline(model=model, recipe=model, load_network=counting(looked)), find_photos([library]))
        assert {outcome.status for outcome in outcomes} == {"tagged", "untagged"}
        assert sum(looked) == (31 if model == "A" and len(looked) <= 8 else 62)
    assert sum(looked) == 62


def test_a_new_analyzer_looks_without_the_first_one_looking_again(
    pipeline: MakePipeline, library: Path, index: Index
) -> None:
    run(pipeline(), find_photos([library]))
    looked: list[int] = []
    brightness = Brightness()
    more = pipeline(analyzers=[brightness], recipe="both", load_network=counting(looked))
    assert {outcome.status for outcome in run(more, find_photos([library]))} == {"tagged", "untagged"}
    assert (looked, brightness.analysed) == ([], 31)
    again = pipeline(analyzers=[brightness], recipe="again", load_network=counting(looked))
    run(again, find_photos([library]))
    assert (looked, brightness.analysed) == ([], 31)
    known = index.known(next(one for one in find_photos([library]) if isinstance(one, Photo)))
    assert known is not None
    assert index.results(known, ["model", "brightness-1"]).keys() == {"model", "brightness-1"}


@pytest.mark.parametrize("is_by_photo", [False, True])
@pytest.mark.parametrize("is_other_by_photo", [False, True])
def test_two_analyzers_share_one_decode(
    pipeline: MakePipeline,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_by_photo: bool,
    is_other_by_photo: bool,
) -> None:
    decoded: list[str] = []
    real = decode._decode

    def noting(file: Any, name: Any, *rest: Any) -> Any:
        decoded.append(Path(name).name)
        return real(file, name, *rest)

    monkeypatch.setattr(decode, "_decode", noting)
    both = pipeline(
        analyzers=[Brightness(by_photo=is_other_by_photo)],
        load_network=functools.partial(ToyNetwork, classify, is_by_photo),
    )
    run(both, find_photos([library]))
    assert sorted(decoded) == sorted(path.name for path in library.glob("*.jpg"))


@pytest.mark.parametrize("is_by_photo", [False, True])
def test_an_analyzer_starts_from_the_results_of_another(
    pipeline: MakePipeline, library: Path, is_by_photo: bool
) -> None:
    second = Brightness(side=8, by_photo=is_by_photo, after=("objects",))
    run(pipeline(analyzers=[second], batch_size=8), find_photos([library]))
    assert len(second.earlier) == 31
    assert {tuple(sorted(results)) for results in second.earlier} == {("objects",)}


def test_an_analyzer_starts_from_results_that_are_stored(pipeline: MakePipeline, library: Path) -> None:
    run(pipeline(), find_photos([library]))
    second, looked = Brightness(side=8, after=("objects",)), list[int]()
    run(pipeline(analyzers=[second], recipe="both", load_network=counting(looked)), find_photos([library]))
    assert (looked, len(second.earlier)) == ([], 31)
    assert all(results["objects"].shape == (3,) for results in second.earlier)


def test_a_second_analyzer_changes_no_outcome(pipeline: MakePipeline, library: Path) -> None:
    (library / "07.jpg").write_bytes(b"broken")
    alone = run(pipeline(dry_run=True), find_photos([library]))
    both = run(pipeline(dry_run=True, analyzers=[Brightness()]), find_photos([library]))
    assert [(one.path, one.status, one.tags, one.predictions) for one in both] == [
        (one.path, one.status, one.tags, one.predictions) for one in alone
    ]


def test_a_rule_turns_a_second_result_into_tags(pipeline: MakePipeline, library: Path) -> None:
    words = {**words_of_labels(LABELS), "bright": Word("bright", "bright", ("bright",))}
    chooser = Chooser(LabelRule(LABELS, max_tags=5), words, 5, [BrightnessRule()])
    outcomes = run(pipeline(chooser=chooser, analyzers=[Brightness()]), find_photos([library]))
    found = {outcome.path.name: {tag.name for tag in outcome.tags} for outcome in outcomes}
    assert (found["00.jpg"], found["01.jpg"], found["30.jpg"]) == ({"red", "bright"}, {"green", "bright"}, {"bright"})


@pytest.mark.parametrize("value", ["x'00'", "'text'"])
def test_a_damaged_result_is_found_out_again(pipeline: MakePipeline, library: Path, index: Index, value: str) -> None:
    brightness = Brightness()
    run(pipeline(analyzers=[brightness]), find_photos([library]))
    with index._connection:
        index._connection.execute(f"UPDATE results SET value = {value}")
    looked: list[int] = []
    run(pipeline(analyzers=[brightness], recipe="other", load_network=counting(looked)), find_photos([library]))
    assert (sum(looked), brightness.analysed) == (31, 62)


# --- In other processes -----------------------------------------------------------------------------------------------


class ProcessLooker:
    """Looks at photos in other processes: nothing but jobs and what was seen goes between them."""

    ahead = 8

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, job: LookJob, still_wanted: StillWanted | None = None) -> Later:
        return self._pool.submit(look_elsewhere, job)

    def close(self) -> None:
        pass  # the pool is the test's


def look_elsewhere(job: LookJob) -> Seen:
    return look(job, [ColourAnalyzer(ToyNetwork), Brightness()])


def test_processes_give_the_same_outcomes_in_the_same_order(
    index: Index, library: Path, make_photo: Callable[..., Path], tmp_path: Path
) -> None:
    (library / "07.jpg").write_bytes(b"broken")
    shutil.copy(library / "01.jpg", library / "08-copy.jpg")
    (library / "09-link.jpg").symlink_to(tmp_path / "nowhere")
    both: list[Analyzer] = [Brightness()]
    here = run(make_pipeline(index, analyzers=both, dry_run=True), find_photos([library], follow_symlinks=True))
    there = make_pipeline(index, analyzers=both, dry_run=True)
    with ProcessPoolExecutor(2) as pool:
        elsewhere = run(Pipeline(ProcessLooker(pool), there.recorder), find_photos([library], follow_symlinks=True))
    there.looker.close()
    assert [str(one.error) for one in elsewhere] == [str(one.error) for one in here]
    assert [(one.path, one.status, one.tags, one.predictions) for one in elsewhere] == [
        (one.path, one.status, one.tags, one.predictions) for one in here
    ]


@pytest.mark.parametrize(
    "error", [PhotoError("/p/a.jpg", "it is damaged", "restore it"), ModelError("m", "use {engine}")]
)
def test_errors_survive_the_way_between_processes(error: Exception) -> None:
    import pickle

    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


# --- With the real model ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.usefixtures("default_model")
def test_tags_do_not_depend_on_other_analyzers(shared: Path) -> None:
    """The second analyzer needs a larger picture; 99.5 % of the shared photos must keep their tags."""
    photos = [one.path for one in find_photos([shared / "photos"]) if isinstance(one, Photo)]
    settings = Settings(write="none", dry_run=True)
    same = different = 0
    with Session(settings) as alone, Session(settings, analyzers=[Brightness()]) as both:
        for path in photos:
            try:
                tags = alone.tag(path).tags
            except PhotoError:
                with pytest.raises(PhotoError):
                    both.tag(path)
                continue
            is_same = {tag.name for tag in both.tag(path).tags} == {tag.name for tag in tags}
            same, different = same + is_same, different + (not is_same)
    assert same > 900
    assert different <= 0.005 * (same + different)
