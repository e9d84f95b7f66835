# Each target sets up all it needs: Python 3.11 or newer, make and a network to the package index are enough.

.PHONY: help report accept portable test bench coverage fuzz kill sweep slurm mutate lab student data notebooks lock clean setup
.DEFAULT_GOAL := help

export PYTHONHASHSEED := 0
export JUPYTER_PREFER_ENV_PATH := 1
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache

BIN := .venv/bin
# One mark for each content of the lock file: nothing is installed again until a version changes.
INSTALLED := .venv/installed-$(shell cksum < requirements.lock | tr -s ' \t' '-')
# Of the environment with the libraries that only make bench needs.
PEERS := benchmarks/.venv/installed-$(shell cat requirements.lock benchmarks/peers.lock | cksum | tr -s ' \t' '-')
# A source package runs its own code when it is built: only these two, which have no wheel, are built.
WHEELS := --only-binary :all: --no-binary connection-pool --no-binary fontmeta
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; \
	done

help:
	@echo 'make report     run the notebooks, compute every number, write both editions to build/default'
	@echo '                (make report PROFILE=course: with the parameters of profiles/course.yaml, to build/course;'
	@echo '                SET="backbone=efficientnet_lite0": with this parameter in all notebooks that have it)'
	@echo 'make accept     renew the reference results, figures and pages of the repository from build/default'
	@echo 'make portable   run all notebooks as other processors would, and compare (an hour on 2 cores)'
	@echo 'make test       check style and types, run all tests'
	@echo 'make bench      measure time, memory and results beside other libraries (hours on 2 cores, up to 18 GB of memory)'
	@echo 'make coverage   run all tests in one process, list the lines of mmad_utils that none of them executes'
	@echo 'make fuzz       read mutated files for ten minutes (make fuzz MINUTES=1: for one)'
	@echo 'make kill       kill 200 runs at random moments, start 40 pairs at once, mutate 5,000 files'
	@echo 'make sweep      measure data sets x detectors x parameters x seeds (make sweep FILE=sweep.yaml)'
	@echo 'make slurm      test a sweep on a Slurm of two nodes that it starts (root; Debian: slurm-wlm, munge)'
	@echo 'make mutate     change metrics, thresholds, ranking, position-wise Gaussian and readers, and list what no test notices'
	@echo 'make lab        open the notebooks in JupyterLab (make lab FOLDER=build/student: the copies)'
	@echo 'make student    write copies without solutions to build/student; those that are there stay'
	@echo 'make data       make the generated pictures, list all data sets'
	@echo 'make notebooks  bring notebooks/*.ipynb and notebooks/src/*.py in step (the file saved last wins), and the report'
	@echo 'make lock       resolve pyproject.toml into requirements.lock again'
	@echo 'make clean      delete what was built, build/student too; the environment (.venv) and the data stay'

report: PROFILE := default
report: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course report --profile $(PROFILE) $(foreach value,$(SET),--set '$(value)')

accept: $(INSTALLED)
	$(BIN)/python -m mmad_utils.course accept

portable: report
	$(BIN)/python -m mmad_utils.course portable

# For two cores: a third process works while one of the others waits.
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 3 --dist worksteal

# Pairs that benchmarks/runs/bench.jsonl has are not measured again.
bench: $(INSTALLED) $(PEERS)
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/page.py

coverage: export OMP_NUM_THREADS := 1
coverage: $(INSTALLED)
	mkdir -p build/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --ignore=tests/browser
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
	@# The other libraries use the versions of requirements.lock: deepod names a torch of 2022 and works with this one.
	sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' requirements.lock | sort -u > benchmarks/.venv-names
	UV_CUSTOM_COMPILE_COMMAND='make lock' $$(cat $(INSTALLED)) pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --python-version 3.11 --excludes benchmarks/.venv-names benchmarks/peers.in \
	  --output-file benchmarks/peers.lock
	rm benchmarks/.venv-names

clean:
	rm -rf build mutants .snakemake .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(INSTALLED)

# uv is taken from the PATH, else pip brings it into .venv. Where Python comes without ensurepip (Debian without
# python3-venv), pip puts uv into a folder of .venv, which systems that forbid installs (PEP 668) allow as well.
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
	$$uv pip install --compile-bytecode --python $(BIN)/python --require-hashes $(WHEELS) --requirement requirements.lock; \
	$$uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	rm -f .venv/installed-*; echo "$$uv" > $@

# It sees the packages of .venv and holds only what these lack; a package of its own comes before one of .venv.
$(PEERS): $(INSTALLED)
	@set -eu; $(BIN)/python -m venv --clear --without-pip benchmarks/.venv; \
	theirs=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	ours=$$(benchmarks/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	echo "import site; site.addsitedir('$$theirs')" > "$$ours/project.pth"; \
	$$(cat $(INSTALLED)) pip install --compile-bytecode --python benchmarks/.venv/bin/python --no-deps --require-hashes \
	  --only-binary :all: --no-binary freia --requirement benchmarks/peers.lock; \
	touch $@
