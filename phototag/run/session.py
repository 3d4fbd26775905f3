"""The session, which every front end holds. It finds the model, keeps it loaded, and starts runs."""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from phototag.analysis.analyzer import Analyzer, result_types
from phototag.analysis.objects import ObjectAnalyzer
from phototag.core import Photo, Prediction, Results, SkippedFile, Tag, WalkItem, ignore
from phototag.index import Index, Run, open_index
from phototag.metadata.files import remove_unfinished
from phototag.metadata.writer import NullWriter, Writer
from phototag.models.find import Model, find_model
from phototag.paths import default_index
from phototag.photos.find import find_photos
from phototag.run.choosing import check_explainable, make_chooser
from phototag.run.defaults import worker_threads
from phototag.run.events import FileSkipped, ModelLoading, OnEvent
from phototag.run.looker import LocalLooker, Looker, look_at
from phototag.run.outcome import Outcome, Report, RunStatus, Timings, timed
from phototag.run.pipeline import Pipeline
from phototag.run.record import TOP_PREDICTIONS, Recorder, recipe_digest
from phototag.run.settings import Settings
from phototag.vocabulary.choose import Chooser, Explanation

if TYPE_CHECKING:
    from phototag.analysis.classifier import Classifier
    from phototag.engines.runner import Runner
    from phototag.errors import PhotoError
    from phototag.models.detector import Detector
    from phototag.run.untag import Untagged

MakeLooker = Callable[[Sequence[Analyzer], int, int, "Timings | None"], Looker]


@dataclass(frozen=True, slots=True)
class Tagging:
    """The tags of one image, and the model's likeliest labels in descending order."""

    tags: tuple[Tag, ...]
    predictions: tuple[Prediction, ...]


def never() -> bool:
    """Return False, to never stop."""
    return False


class Session(AbstractContextManager["Session"]):
    """A model with its settings, ready for runs over a library and for single images.

    The model is loaded when an image first needs it, and stays loaded. The index is open only during a run. Many
    threads may call `tag` and `explain` at the same time.

    `on_event` is called with each event, also from other threads. `analyzers` run after those that the settings ask
    for. `make_looker` replaces the threads of this process. It takes the analyzers, the number of threads, the batch
    size and the timings.

    Raises `ConfigError` if the settings are wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        on_event: OnEvent = ignore,
        *,
        analyzers: Sequence[Analyzer] = (),
        make_looker: MakeLooker = LocalLooker,
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        self.settings.check()
        self.on_event = on_event
        self._more_analyzers = tuple(analyzers)
        self._make_looker = make_looker
        self._loading = threading.RLock()
        self._analyzers: tuple[Analyzer, ...] | None = None
        self._classifier: Classifier | None = None
        self._timings: Timings | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the model."""
        self._analyzers = self._classifier = None

    @property
    def jobs(self) -> int:
        """The number of worker threads."""
        return self.settings.jobs or worker_threads()

    @functools.cached_property
    def model(self) -> Model:
        """The model's facts, known before it is loaded. Raises `ModelError` if it cannot be found."""
        return find_model(self.settings.model, labels=self.settings.labels, given=self.settings.facts)

    @property
    def analyzers(self) -> tuple[Analyzer, ...]:
        """The analyzers that look at each photo. Raises `ModelError` if there is no such model."""
        with self._loading:
            if self._analyzers is None:
                kind: Literal["probabilities", "logits"] = "probabilities"
                if self.settings.logit_threshold is not None:
                    kind = "logits"
                objects = ObjectAnalyzer(self.model, self.classifier, crops=self.settings.crops, kind=kind)
                self._analyzers = (objects, *self._detecting(), *self._more_analyzers)
            return self._analyzers

    def _detecting(self) -> tuple[Analyzer, ...]:
        if self.detector is None:
            return ()
        from phototag.analysis.detector import DetectorAnalyzer

        return (DetectorAnalyzer(self.detector, self._detector_runner),)

    @functools.cached_property
    def detector(self) -> Detector | None:
        """The facts of the object detector, or None without `detect`. Raises `ModelError` if it cannot be found."""
        if self.settings.detect is None:
            return None
        from phototag.models.detector import find_detector

        return find_detector(self.settings.detect)

    def _detector_runner(self) -> Runner:
        from phototag.engines.load import open_runner

        assert self.detector is not None, "the analyzer that asks for it has it"
        self.on_event(ModelLoading(self.detector.card.name))
        with self._loading, timed(self._timings, "load"):
            return open_runner(self.detector, self.settings.engine, self.on_event, self.jobs)

    @functools.cached_property
    def chooser(self) -> Chooser:
        """The chooser of tags. Raises `ConfigError`, and `ModelError` if there is no such model."""
        return make_chooser(self.settings, self.model, self.detector.line if self.detector is not None else None)

    def check(self) -> None:
        """Raise `ConfigError` if a setting is wrong, and `ModelError` if a model cannot be found. Loads no model."""
        _ = self.chooser, self.analyzers

    def check_explainable(self) -> None:
        """Raise `ConfigError` if the tags are not words of a tree, and the errors of `check`."""
        check_explainable(self.settings, self.model)
        self.check()

    def classifier(self) -> Classifier:
        """Return the loaded model. Build and convert it first if necessary. Raises `ModelError`."""
        from phototag.analysis.classifier import Classifier, check_known
        from phototag.zoo.build import ensure_built

        with self._loading:
            if self._classifier is None:
                self.on_event(ModelLoading(self.model.card.name))
                with timed(self._timings, "load"):
                    ensure_built(self.model, self.on_event)
                    classifier = Classifier(self.model, self.settings.engine, self.on_event, self.jobs)
                check_known(self.model, classifier)
                self._classifier = classifier
            return self._classifier

    # --- Single images ------------------------------------------------------------------------------------------------

    def tag(self, image: Path | bytes) -> Tagging:
        """Return the tags of one image, given as a file or as its content. Uses no index and writes nothing.

        Raises `PhotoError` if the image cannot be read, and `ModelError` if the model fails.
        """
        results = self.look(image)
        return Tagging(self.chooser.choose(results), self.chooser.top(results, TOP_PREDICTIONS))

    def explain(self, image: Path | bytes) -> tuple[Explanation, ...]:
        """Return why each word of the tree is a tag of the image or not.

        Raises `ConfigError` if the tags are not words of a tree, and the errors of `tag`.
        """
        self.check_explainable()
        return self.chooser.explain(self.look(image))

    def look(self, image: Path | bytes) -> Results:
        """Return the results of all analyzers for one image, by name. Raises the errors of `tag`."""
        return look_at(image, self.analyzers)

    # --- Runs ---------------------------------------------------------------------------------------------------------

    def untag(self, paths: Sequence[Path], should_stop: Callable[[], bool] = never) -> Iterator[Untagged]:
        """Remove what phototag wrote from the photos at and below `paths` and from their sidecars, lazily.

        Raises `ConfigError` if a path or a pattern is wrong; iterating raises `IndexBusy` and `IndexUnusable`.
        """
        from phototag.run.untag import untag_photos

        return untag_photos(self.find(paths), paths, self.index_path, should_stop, dry_run=self.settings.dry_run)

    def untag_run(self, run: int, should_stop: Callable[[], bool] = never) -> Iterator[Untagged]:
        """Undo what one scan wrote, the last change first, lazily.

        Iterating raises `ConfigError` if the index knows no such run, `IndexBusy` and `IndexUnusable`.
        """
        from phototag.run.untag import untag_run

        return untag_run(run, self.index_path, should_stop, dry_run=self.settings.dry_run)

    def orphans(
        self, paths: Sequence[Path], should_stop: Callable[[], bool] = never, *, remove: bool = False
    ) -> Iterator[Path | PhotoError]:
        """Yield phototag's sidecars at and below `paths` whose photos are gone, and errors. With `remove`, remove them.

        Raises `ConfigError` if a path does not exist.
        """
        from phototag.run.untag import find_orphans

        return find_orphans(paths, should_stop, remove=remove)

    def scan(
        self,
        paths: Sequence[Path],
        should_stop: Callable[[], bool] = never,
        *,
        details: bool = True,
        timings: Timings | None = None,
    ) -> Scan:
        """Return a run that tags the photos at and below `paths`. Iterate over it for the outcomes.

        Once `should_stop` returns True, the run finishes the photos in progress. `details`: include the tags in the
        outcomes of unchanged photos. `timings` are filled in.

        Raises `ConfigError` if a path or a pattern is wrong. Iterating raises `ModelError`, `IndexBusy` and
        `IndexUnusable`.
        """
        found = self.find(paths)
        roots = [Path(os.path.abspath(path)) for path in paths]
        return Scan(self, found, tuple(paths), roots, should_stop, details=details, timings=timings)

    def find(self, paths: Sequence[Path], exclude: Sequence[str] = ()) -> Iterator[WalkItem]:
        """Yield the files and folders at and below `paths`. Raises `ConfigError` if a path or a pattern is wrong."""
        return find_photos(
            paths,
            exclude=(*exclude, *self.settings.exclude),
            default_excludes=not self.settings.no_default_excludes,
            follow_symlinks=self.settings.follow_symlinks,
        )

    def count(self, paths: Sequence[Path]) -> int:
        """Return the number of photos at and below `paths`."""
        return sum(isinstance(one, Photo) for one in self.find(paths))

    @property
    def index_path(self) -> Path:
        """The path of the index."""
        return self.settings.index or default_index()

    @property
    def recipe(self) -> str:
        """The digest of everything that determines the tags and where they are written."""
        return recipe_digest(self.analyzers, self.chooser, self.settings.write)

    def recorder(self, index: Index, *, details: bool = True) -> Recorder:
        """Return the recorder that tags photos, and that tells which photos of `index` are up to date."""
        settings, recipe = self.settings, self.recipe
        return Recorder(
            types=result_types(self.analyzers),
            chooser=self.chooser,
            writer=self._writer(index, recipe),
            index=index,
            recipe=recipe,
            dry_run=settings.dry_run,
            force=settings.force,
            forget_rejections=settings.forget_rejections,
            details=details,
        )

    def pipeline(self, recorder: Recorder, roots: Sequence[Path], timings: Timings | None) -> Pipeline:
        """Return the pipeline of one run."""
        self._timings = timings
        batch_size = max(1, self.settings.batch_size // self.settings.crops)
        looker = self._make_looker(self.analyzers, self.jobs, batch_size, timings)
        return Pipeline(looker, recorder, roots, timings)

    def report_skipped(self, file: SkippedFile) -> None:
        """Report a file that a scan does not tag. Remove it if a killed run left it behind."""
        if file.kind == "unfinished" and not self.settings.dry_run:
            remove_unfinished(file.path)
        self.on_event(FileSkipped(file))

    def _writer(self, index: Index, recipe: str) -> Writer:
        name, again, write = self.model.card.name, self.settings.forget_rejections, self.settings.write
        if write == "none":
            return NullWriter()
        if write == "json":
            from phototag.metadata.json_sidecar import JsonSidecarWriter

            return JsonSidecarWriter(name, self.model.digest, index, recipe, again)
        if write == "xmp":
            from phototag.metadata.xmp_sidecar import XmpSidecarWriter

            return XmpSidecarWriter(name, index, recipe, again)
        from phototag.metadata.embed import EmbedWriter

        return EmbedWriter(name, index, recipe, again, touch=self.settings.touch)


def scan(paths: Sequence[str | os.PathLike[str]], **settings: Any) -> Generator[Outcome, None, None]:
    """Tag the photos at and below `paths`, and yield their outcomes. `settings` are the fields of `Settings`.

    Raises `ConfigError`, `ModelError`, `IndexBusy` and `IndexUnusable`.
    """
    with Session(Settings(**settings)) as session:
        yield from session.scan([Path(path) for path in paths])


@dataclass
class Scan:
    """One run over a library: iterate over it once for the outcomes, in the order of the photos.

    report: the counts so far. run: the run in the index, or None in a dry run. status: how the run ended, and "failed"
    until then.
    """

    session: Session
    found: Iterable[WalkItem]
    paths: tuple[Path, ...]
    roots: Sequence[Path]
    should_stop: Callable[[], bool] = never
    details: bool = True
    timings: Timings | None = None
    report: Report = field(default_factory=Report)
    run: Run | None = None
    status: RunStatus = "failed"

    def __iter__(self) -> Generator[Outcome, None, None]:
        """Open the index, tag the photos and yield their outcomes.

        Raises `ConfigError`, `ModelError`, `IndexBusy` and `IndexUnusable`.
        """
        started = time.monotonic()
        self.session.check()  # before the index is opened
        with open_index(self.session.index_path, read_only=self.session.settings.dry_run) as index:
            yield from self.outcomes(index, started)

    def outcomes(self, index: Index, started: float) -> Generator[Outcome, None, None]:
        """Tag the photos with the open `index`, and yield their outcomes.

        `started`: the start of the run, by `time.monotonic`.
        """
        session, max_runtime = self.session, self.session.settings.max_runtime
        deadline = math.inf if max_runtime is None else started + max_runtime

        def should_stop() -> bool:
            return self.should_stop() or time.monotonic() > deadline

        recorder = session.recorder(index, details=self.details)
        pipeline = session.pipeline(recorder, self.roots, self.timings)
        with ExitStack() as stack:
            if not session.settings.dry_run:
                self.run = stack.enter_context(index.run(self.report.counts, self.paths))
            outcomes = stack.enter_context(closing(pipeline.run(self._noting_skipped(), should_stop)))
            for outcome in outcomes:
                self.report.add(outcome)
                yield outcome
            self.status = "interrupted" if self.should_stop() else "out of time" if should_stop() else "complete"
            if self.run is not None:
                self.run.ending = self.status

    def _noting_skipped(self) -> Iterator[WalkItem]:
        for one in self.found:
            if isinstance(one, SkippedFile) and one.kind != "unreadable":
                self.report.other_files += one.kind == "other"
                self.session.report_skipped(one)
            yield one
