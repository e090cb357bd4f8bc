# `make demo` and `make test` need Python 3.11+ and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO_ROOT ?= demo

.PHONY: demo test lint screenshots install clean

demo: install
	$(BIN)/tagreel demo --root $(DEMO_ROOT)

test: install lint
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "not ray and not slow and not gpu"
	$(BIN)/pytest -m "ray and not slow and not gpu"

lint: install
	$(BIN)/ruff check .

# Pictures of the demo's report for docs/; needs Chromium or Chrome.
screenshots: demo
	$(BIN)/python -m tests.screenshots $(DEMO_ROOT)/sweeps/demo/report.html docs

install: .venv/installed

# uv resolves and links in seconds what pip takes minutes for; both read the same files.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]' --constraints constraints.txt
	touch $@

clean:
	rm -rf .venv demo
