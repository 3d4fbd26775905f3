# Nothing is needed before these but git, Python 3.10 to 3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FRESH := build/fresh
# The pure modules, of which the tests run every line and every branch.
PURE := $(addprefix phototag/,errors.py analysis/scores.py analysis/vectors.py images/preprocess.py \
	$(addprefix metadata/,containers.py edits.py exif.py iptc.py keywords.py png.py) \
	$(addprefix models/,calibration.py card.py labels.py) \
	$(addprefix vocabulary/,choose.py evidence.py head_rule.py label_rule.py overlay.py taxonomy.py tree_rule.py))

.PHONY: help demo test test-fast check lint types dist format accuracy trust everyday bench bench-inspect bench-embed bench-library bench-crash clean

help:
	@echo "make demo      install into .venv, fetch sample photos into examples/photos, tag them"
	@echo "make test      install with what the tests need, run all of them, measure their coverage"
	@echo "make test-fast run the tests that take less than a second each"
	@echo "make check     before each commit: lint, types, test-fast"
	@echo "make lint      ruff: the rules and the format"
	@echo "make types     mypy, strict"
	@echo "make dist      build the wheel and the sdist into dist/, check both, run phototag from the wheel"
	@echo "make format    let ruff mend what it can"
	@echo "make accuracy  the default model on labelled photos: make accuracy PHOTOS=folder"
	@echo "make trust     how far tags can be trusted, on photos of labelled things and scenes: make trust PHOTOS='folder folder' [FIT=--fit]"
	@echo "make everyday  all tags of everyday photos against the goals, from features: make everyday FEATURES=file CROSS=file [EVERYDAY=--list]"
	@echo "make bench     how fast phototag is beside Keras programs, and beside what the machine allows: 12 minutes, 3 GB"
	@echo "make bench-inspect MODEL=folder  phototag inspect against saved_model_cli: time and memory"
	@echo "make bench-embed  writing tags into photos against exiftool, which has to be installed: time a photo"
	@echo "make bench-library [MILLION=--million]  a scan with nothing to do on 100,000 photos: time and memory"
	@echo "make bench-crash  scans that are killed 50 times over, and what a normal run makes of what they left"
	@echo "make clean     remove .venv, build, dist and the sample photos"

# Each set of requirements is installed once, and again when pyproject.toml changes.
$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "phototag needs Python 3.10 to 3.13; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/fetch_sample_photos.py
	$(BIN)/phototag scan examples/photos --force

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --cov --cov-report=
	$(BIN)/coverage report --skip-covered --skip-empty
	$(BIN)/coverage report --include=$$(echo $(PURE) | tr ' ' ,) --show-missing --fail-under=100

test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow"

check: lint types test-fast

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The wheel goes into an environment of its own, which borrows only the dependencies of the other one.
dist: $(VENV)/.installed-dev
	rm -rf dist $(FRESH)
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv --without-pip $(FRESH)
	$(BIN)/python -m pip --disable-pip-version-check --python $(FRESH)/bin/python install --quiet --no-deps --no-index dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(FRESH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	cd $(FRESH) && bin/phototag --version && PHOTOTAG_DATA_DIR=data bin/phototag doctor

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

accuracy: $(VENV)/.installed
	@test -n "$(PHOTOS)" || { echo "name the photos: make accuracy PHOTOS=folder" >&2; exit 2; }
	$(BIN)/python benchmarks/accuracy.py $(PHOTOS)

trust: $(VENV)/.installed
	@test -n "$(PHOTOS)" || { echo "name folders with labels: make trust PHOTOS='folder folder'" >&2; exit 2; }
	$(BIN)/python benchmarks/calibrate.py $(PHOTOS) $(FIT)

everyday: $(VENV)/.installed
	@test -n "$(FEATURES)" -a -n "$(CROSS)" || { echo "name the files: make everyday FEATURES=features.npz CROSS=cross.npz" >&2; exit 2; }
	$(BIN)/python benchmarks/everyday.py $(FEATURES) $(CROSS) $(EVERYDAY)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/speed.py $(if $(PHOTOS),--photos $(PHOTOS)) $(BENCH)

bench-inspect: $(VENV)/.installed
	@test -n "$(MODEL)" || { echo "name a SavedModel: make bench-inspect MODEL=folder" >&2; exit 2; }
	$(BIN)/python benchmarks/inspect_speed.py $(MODEL)

bench-embed: $(VENV)/.installed
	$(BIN)/python benchmarks/embed_speed.py

bench-library: $(VENV)/.installed
	$(BIN)/python benchmarks/library.py $(MILLION)

bench-crash: $(VENV)/.installed
	$(BIN)/python benchmarks/crash.py

clean:
	rm -rf $(VENV) build dist examples/photos
