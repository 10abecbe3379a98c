# make demo: the whole workflow on the simulated study. make test: the tests. Both set up what they need.
SHELL := bash
PYTHON ?= python3
VENV := .venv
CORES ?= 2
STUDY ?= config/studies/demo.yaml

.PHONY: setup demo test lint lock schema clean

setup: $(VENV)/.ready

# The stamp names the lock it was made from: a new lock renews the environment, an equal one does nothing.
$(VENV)/.ready: requirements.lock requirements-fmriprep.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'mcsp needs Python 3.11 or newer: make setup PYTHON=python3.12'; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-fmriprep.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(VENV)/bin/snakemake --cores $(CORES) --configfile $(STUDY) --rerun-incomplete --keep-going --quiet host reason
	@$(VENV)/bin/mcsp show $(STUDY)

test: setup
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint

schema: setup
	$(VENV)/bin/mcsp schema > config/study.schema.json
	$(VENV)/bin/mcsp schema --defaults > config/config.yaml

lock: setup
	{ head -n 1 requirements.lock; $(VENV)/bin/python -m pip freeze --all --exclude-editable --exclude mcsp --exclude pip | sed 's/+cpu$$//' | grep -vxFf requirements-fmriprep.lock; } > requirements.new
	mv requirements.new requirements.lock

clean:
	rm -rf $(VENV) .snakemake results/demo
