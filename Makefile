# `make demo` and `make test` each set up their own virtual environment; nothing but Python and git need be there.
# uv is used where it is installed, else venv and pip.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# make demo trains on generated images, which takes a few minutes on two cores and needs no data: the baseline against
# all the paper's tricks, as classifiers (ten seeds from FIRST_SEED on), detectors and segmenters (one seed).
# make demo DATA=… evaluates MODEL, with WEIGHTS if given, on a folder of images in any ImageNet layout.
DATA    ?=
MODEL   ?= resnet50_d
WEIGHTS ?=
EVAL    ?=
DEMO    ?= runs/demo
FIRST_SEED ?= 0

# make fuzz MINUTES=60 gives damaged files to every parser; inputs that fail and summary.json go to FUZZ.
# make two-hosts trains and evaluates over two network namespaces; it needs root, Linux and iproute2.
MINUTES ?= 10
FUZZ    ?= runs/fuzz

# make soak KILLS=60 kills small trainings at random and compares them with undisturbed ones; the summary goes to SOAK.
KILLS   ?= 60
SOAK    ?= runs/soak.json

# make bench DATA=… compares the speed with other libraries, on a folder of images in class folders; benchmarks/results/speed/ gets the figures.
BENCH   ?=

BEST = $(BIN)/python -c "import json; rung = json.load(open('$(DEMO)/ladder.json'))['rungs'][-1]; \
       print(max(zip(rung['top1']['values'], rung['seeds']))[1])"

.PHONY: demo test fuzz soak two-hosts bench lint types docs clean

demo: $(VENV)/.installed
ifeq ($(strip $(DATA)),)
	@echo "The images are easy, and their number and the epochs were chosen so that there is something to see within minutes."
	@echo "Do the paper's tricks make a better classifier?"
	$(BIN)/trickzoo ladder --set easy_shapes --model mobilenet_v1_025 --pretrained tz_imagenette128 --rungs baseline,mixup \
	    --seeds 10 --first-seed $(FIRST_SEED) --images 600 --val-images 1000 --batch-size 32 --lr 0.05 --jobs 2 --out $(DEMO)
	@echo
	@echo "Generated images that no training and no validation has seen, named after what they show, and what the network"
	@echo "with all tricks predicts that was best in validation:"
	@$(BIN)/trickzoo shapes $(DEMO)/images --difficulty easy --first 1000
	@best=$(DEMO)/mixup-$$($(BEST)); echo "$(BIN)/trickzoo predict $(DEMO)/images --top 2 --model $$best"; \
	    $(BIN)/trickzoo predict $(DEMO)/images --top 2 --model $$best
	@echo
	@echo "Do the better classifiers make better detectors and segmenters?"
	$(BIN)/trickzoo transfer --checkpoints $(DEMO) --detection easy_shapes --segmentation easy_shapes \
	    --seeds 1 --first-seed $(FIRST_SEED) --images 300 --jobs 2
	@echo
	@echo "The report: $(abspath $(DEMO))/transfer/report.html"
	@echo "To evaluate a folder of images: make demo DATA=/path/to/imagenet [MODEL=$(MODEL)]"
else
	@$(BIN)/trickzoo describe $(MODEL)
	@echo
	$(BIN)/trickzoo-eval imagenet --data $(DATA) --model $(MODEL) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(EVAL)
endif

# The tests of a file run in one process, so that what they share, such as an exported network, is made once.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

soak: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.soak --kills $(KILLS) --out $(SOAK)

fuzz: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m tests.fuzz --minutes $(MINUTES) --out $(FUZZ)

two-hosts: $(VENV)/.installed-test
	$(BIN)/python -m tests.two_hosts

bench: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m benchmarks.speed $(BENCH) $(if $(DATA),--data $(DATA))
	$(BIN)/python docs/generate.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	if command -v uv >/dev/null; then uv venv --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

INSTALL = if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python -e $(1); \
          else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e $(1); fi

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(call INSTALL,.)
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(call INSTALL,'.[test]')
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(call INSTALL,'.[docs]')
	@touch $@

clean:
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache
