# make demo   real data, trained to its target, report written      make test   the test suite
# make lint   ruff                make test-slow   tests that take minutes or a network        make clean
# make docs   the documentation as a site, in site/
# make test-faults   runs of two processes that are killed, stopped, starved and resumed
# make test-engines   dataset preparation on a Ray cluster and in an object store, both on this machine
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
MERMAID := docs/javascripts/mermaid.min.js
DATA ?= data
RUNS ?= runs

.PHONY: demo test test-slow test-faults test-engines lint docs clean
.DEFAULT_GOAL := demo

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@echo "Installing into $(VENV): downloads about 3 GB (PyTorch with its CUDA libraries), takes about 6 GB of disk and 1 to 5 minutes."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt --editable '.[test,dali]'
	@touch $(INSTALLED)

demo: $(INSTALLED)
	@$(BIN)/python -m training demo --data $(DATA) --runs $(RUNS)

# A file stays on one core, so that what its tests share is made once. Bytecode is kept, also where the environment says
# otherwise: each process would compile all that it imports, a tenth of the time.
test: $(INSTALLED)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

test-slow: $(INSTALLED)
	@$(BIN)/python -m pytest -m slow

test-faults: $(INSTALLED)
	@$(BIN)/python -m pytest -m faults

$(VENV)/engines: $(INSTALLED)
	@$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt --editable '.[engines]'
	@touch $@

test-engines: $(VENV)/engines
	@$(BIN)/python -m pytest -m slow tests/data_prep/engines tests/data_prep/test_stores.py

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

$(VENV)/docs: $(INSTALLED)
	@$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

# One file, so that the diagrams of the site need no network. Without npm the browser asks a CDN.
$(MERMAID):
	@mkdir -p $(@D)
	@cd $(@D) && npm pack --silent @mermaid-js/tiny@11.17.2 >/dev/null \
	    && tar -xzOf mermaid-js-tiny-11.17.2.tgz package/dist/mermaid.tiny.js >$(@F).part && mv $(@F).part $(@F); \
	    rm -f *.tgz *.part
	@test -e $@ || echo "No Mermaid from npm: the diagrams of the site need a network."

# --quiet would hide the warnings that --strict turns into errors
docs: $(VENV)/docs $(MERMAID)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo site/index.html

clean:
	rm -rf site docs/javascripts $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
