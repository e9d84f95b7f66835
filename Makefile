# Each target installs what it needs. It requires Python 3.11 or newer, make, and access to the package index.

.PHONY: help report accept portable test bench coverage fuzz kill sweep slurm mutate lab student data notebooks lock clean setup
.DEFAULT_GOAL := help

export PYTHONHASHSEED := 0
export JUPYTER_PREFER_ENV_PATH := 1
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache

BIN := .venv/bin
# One marker file for each content of the lock file: packages are installed again only after a version has changed.
INSTALLED := .venv/installed-$(shell cksum < requirements.lock | tr -s ' \t' '-')
# The marker file of the environment with the libraries that only make bench needs.
PEERS := benchmarks/.venv/installed-$(shell cat requirements.lock benchmarks/peers.lock | cksum | tr -s ' \t' '-')
# To build a source package runs its code. Only these two packages, which have no wheel, are built.
WHEELS := --only-binary :all: --no-binary connection-pool --no-binary fontmeta
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; \
	done

help:
	@echo 'make report     run the notebooks, compute all results, write both editions to build/default'
	@echo '                (make report PROFILE=course: with the parameters of profiles/course.yaml, to build/course;'
	@echo '                SET="backbone=efficientnet_lite0": with this parameter value in all notebooks that have it)'
	@echo 'make accept     replace the reference results, figures and pages of the repository by build/default'
	@echo 'make portable   run all notebooks with the instruction sets of other processors, and compare (an hour on 2 cores)'
	@echo 'make test       check style and types, run all tests'
	@echo 'make bench      compare time, memory and results with other libraries (hours on 2 cores, up to 18 GB of memory)'
	@echo 'make coverage   run all tests in one process, list the lines of mmad_utils that no test executes'
	@echo 'make fuzz       test the readers with mutated files for ten minutes (make fuzz MINUTES=1: one minute)'
	@echo 'make kill       kill 200 runs at random times, start 40 pairs of runs in parallel, mutate 5,000 files'
	@echo 'make sweep      measure data sets x detectors x parameters x seeds (make sweep FILE=sweep.yaml)'
	@echo 'make slurm      start Slurm with two nodes and test a sweep on it (root; Debian: slurm-wlm, munge)'
	@echo 'make mutate     mutation tests of metrics, thresholds, ranking, position-wise Gaussian and readers; list undetected changes'
	@echo 'make lab        open the notebooks in JupyterLab (make lab FOLDER=build/student: the student copies)'
	@echo 'make student    write copies without solutions to build/student; existing copies are not changed'
	@echo 'make data       generate the synthetic images, list all data sets'
	@echo 'make notebooks  make notebooks/*.ipynb and notebooks/src/*.py equal (the file saved last is kept), also of the report'
	@echo 'make lock       resolve pyproject.toml into requirements.lock again'
	@echo 'make clean      delete all built files, also build/student; the environment (.venv) and the data are kept'

report: PROFILE := default
report: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course report --profile $(PROFILE) $(foreach value,$(SET),--set '$(value)')

accept: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course accept

portable: report
	$(BIN)/python -m mmad_utils.course portable

# Three processes for two cores: one of them often waits. tests/conftest.py says which tests one process runs.
# The types are checked while the tests start.
# OPTIONS are passed to pytest.
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	set -e; $(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -n 3 --dist loadgroup $(OPTIONS); wait $$types

# Pairs in benchmarks/runs/bench.jsonl are not measured again.
bench: $(INSTALLED) $(PEERS)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/page.py

coverage: export OMP_NUM_THREADS := 1
coverage: $(INSTALLED)
	mkdir -p build/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 3 --dist loadgroup --ignore=tests/browser --ignore=tests/notebooks/test_run.py
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

fuzz: MINUTES := 10
fuzz: export MMAD_HYPOTHESIS_PROFILE := fuzz
fuzz: $(INSTALLED)
	end=$$(( $$(date +%s) + 60 * $(MINUTES) )); seed=0; \
	while [ $$(date +%s) -lt $$end ]; do \
	  $(BIN)/python -m pytest -n 2 -q tests/trust/test_readers.py --hypothesis-seed=$$seed || exit 1; seed=$$((seed + 1)); \
	done

kill: export OMP_NUM_THREADS := 1
kill: $(INSTALLED)
	$(BIN)/python -m pytest -m campaign tests/trust

sweep: FILE := sweep.yaml
sweep: $(INSTALLED)
	$(BIN)/snakemake sweep --configfile $(FILE)

slurm: export OMP_NUM_THREADS := 1
slurm: $(INSTALLED)
	$(BIN)/python -m pytest -m slurm tests/trust/test_slurm.py

mutate: export OMP_NUM_THREADS := 1
mutate: $(INSTALLED)
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lab: FOLDER := notebooks
lab: $(INSTALLED)
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$(FOLDER)"

student: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course student

data: $(INSTALLED)
	$(BIN)/python -m mmad_utils.datasets check synthetic/hazelnut
	$(BIN)/python -m mmad_utils.datasets check synthetic/zipper
	$(BIN)/python -m mmad_utils.datasets list

notebooks: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course sync
	$(BIN)/python -m mmad_utils.course check
	$(BIN)/python -m report.editions sync
	$(BIN)/python -m report.editions check

lock: $(INSTALLED)
	UV_CUSTOM_COMPILE_COMMAND='make lock' $$(cat $(INSTALLED)) pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --python-version 3.11 --extra course --extra dev --extra report --extra cluster pyproject.toml --output-file requirements.lock
	@# The other libraries use the versions of requirements.lock: deepod requires a torch of 2022 and works with this one.
	sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' requirements.lock | sort -u > benchmarks/.venv-names
	UV_CUSTOM_COMPILE_COMMAND='make lock' $$(cat $(INSTALLED)) pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --python-version 3.11 --excludes benchmarks/.venv-names benchmarks/peers.in \
	  --output-file benchmarks/peers.lock
	rm benchmarks/.venv-names

clean:
	rm -rf build mutants .snakemake .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(INSTALLED)

# uv is taken from the PATH, otherwise pip installs it into .venv. If Python has no ensurepip (Debian without
# python3-venv), pip installs uv into a folder of .venv, which is also allowed on externally managed systems (PEP 668).
$(INSTALLED):
	@set -eu; python=$$($(FIND_PYTHON)); \
	test -n "$$python" || { echo 'No Python 3.11 or newer found: install one as python3 and try again.' >&2; exit 1; }; \
	uv=uv; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Building .venv with $$($$python --version)"; \
	  "$$python" -m venv .venv 2>/dev/null || "$$python" -m venv --clear --without-pip .venv; \
	fi; \
	if ! uv --version >/dev/null 2>&1; then \
	  if $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: uv; uv=$(BIN)/uv; \
	  else \
	    "$$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --target .venv/uv uv; uv=.venv/uv/bin/uv; \
	  fi; \
	fi; \
	$$uv pip install --compile-bytecode --python $(BIN)/python --no-deps --require-hashes $(WHEELS) --requirement requirements.lock; \
	$$uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	rm -f .venv/installed-*; echo "$$uv" > $@

# This environment can import the packages of .venv and has only the others; its own packages take precedence.
$(PEERS): $(INSTALLED)
	@set -eu; $(BIN)/python -m venv --clear --without-pip benchmarks/.venv; \
	theirs=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	ours=$$(benchmarks/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	echo "import site; site.addsitedir('$$theirs')" > "$$ours/project.pth"; \
	$$(cat $(INSTALLED)) pip install --compile-bytecode --python benchmarks/.venv/bin/python --no-deps --require-hashes \
	  --only-binary :all: --no-binary freia --requirement benchmarks/peers.lock; \
	touch $@
