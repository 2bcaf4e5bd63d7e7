PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

BENCHMARKS := training_step memory first_epoch prediction runtimes startup growth study_on_gpu ranks

.PHONY: demo test test-slow lint lint-page types docs bench bench-quality pack clean

demo: $(VENV)/installed  ## data, training, evaluation, one prediction (phantom), in minutes
	$(BIN)/brats-unet demo

test: $(VENV)/installed-for-tests  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(VENV)/installed-for-tests  ## what takes longer than a minute or so
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-for-tests lint-page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

ifneq ($(shell command -v npm),)
lint-page: node_modules/installed  ## the report's scripts and style, and every JSON file
	node_modules/.bin/biome check --error-on-warnings
else
lint-page:
	@echo "lint of the report's scripts and style skipped: npm is not installed"
endif

types: $(VENV)/installed-for-tests
	$(BIN)/mypy

docs: $(VENV)/installed-for-docs  ## the documentation site: open site/index.html
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/installed  ## speed and memory on generated patients; writes docs/benchmarks.md
	set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done

bench-quality: $(VENV)/installed  ## minutes of training to a good segmentation; make bench-quality BRATS_REAL_DATA=DIR
	@BRATS_REAL_DATA="$(BRATS_REAL_DATA)" $(BIN)/python benchmarks/quality.py

pack: $(VENV)/installed  ## make pack CHECKPOINT=runs/…/model.pt
	$(BIN)/brats-unet pack dist/brats_unet.zip --checkpoint $(CHECKPOINT)

$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-for-tests: setup.cfg constraints.txt | $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

node_modules/installed: package-lock.json
	npm ci --no-audit --no-fund --silent
	touch $@

$(VENV)/installed-for-docs: setup.cfg constraints.txt | $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) node_modules demo runs build dist site
