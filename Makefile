# make demo  talk to SAWYER at http://127.0.0.1:7860     make test   run the tests
# make check lint, format and type checks                make setup  build .venv (quick when nothing changed)
# make screenshots  the pictures in docs/images
PYTHON ?= python3
PORT ?= 7860
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process for each of two cores, each with one thread: processes whose threads wait for each other's are far slower.
PARALLEL := -n 2 --dist loadfile

.PHONY: demo test test-slow test-long test-harness check format setup screenshots clean

demo: setup
	$(BIN)/sawyer demo --port $(PORT)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow"

# What takes minutes: killing runs at random moments, training until something is learnt. Continuous integration runs it.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "slow and not long"

# What takes longer still and wants an idle machine: sixteen visitors, a round beside a server, a minute without database.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

# Benchmarks by lm-evaluation-harness, an extra of some forty packages: our local tasks equal its own to the last digit.
test-harness: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[harness]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/sawyer/test_benchmarks.py

# The modules that hold no model code are typed strictly enough for mypy; everything is linted and formatted.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sawyer/types sawyer/errors.py sawyer/home.py sawyer/recipe sawyer/data_formats.py sawyer/runs.py \
	  sawyer/plan sawyer/cli/plan.py \
	  sawyer/store sawyer/registry.py sawyer/rounds sawyer/simulated.py sawyer/preferences sawyer/estimates.py \
	  sawyer/curation sawyer/hub.py sawyer/importing.py sawyer/argilla.py sawyer/lines.py sawyer/model_card.py \
	  sawyer/processes.py sawyer/publishing.py sawyer/quiet.py sawyer/evaluation/stats.py \
	  sawyer/evaluation/text_metrics.py train/ppo/maths.py train/method_table.py train/round/votes.py serve/access.py \
	  serve/admin serve/drain.py serve/hosts.py serve/keys.py serve/limits.py serve/lineup.py serve/logs.py \
	  serve/board_api.py serve/rounds_api.py ui/board ui/review ui/chat.py ui/connection.py ui/handlers.py \
	  ui/history.py ui/http.py ui/numbers.py ui/panel.py ui/panes.py ui/presses.py ui/screen.py ui/share.py ui/turn.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Starts the nano model and the tests' scripted API by itself and takes each page into docs/images.
screenshots: setup
	$(BIN)/python -m tests.ui.screenshots --out docs/images

setup: $(STAMP)

# torch first and by itself: the pinned version must not be replaced by a newer one with gigabytes of GPU packages.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SAWYER needs Python 3.11 or later; make PYTHON=python3.12 names another.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
