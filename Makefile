# Sketchstack. `make` without a target lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup demo chaos fuzz bench-formats repro test lint tune experiments bench bench-data bench-train bench-effects bench-gpu bench-plain bench-kills bench-stack bench-coverage bench-report bench-scores bench-serve submit reproduce compare report data profile
SHELL := bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
# One file of tests at a time per core; waiting threads free their core.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile
SKETCHSTACK := $(PYTHON) -m pipeline
CHECKED := .venv/.checked
COMPARE := make compare A=strokenet B=seresnet

# A variable reaches a command as one word, whatever characters it contains.
# make itself must not expand a dollar sign in it, neither here nor for the environment of a command.
unexport BASE NAME AT FROM ROWS WORDS ADDRESS FORCE LEARNER TRIALS A B ROPE HOURLY
q = $(if $(value $(1)),'$(subst ','\'',$(value $(1)))')
option = $(if $(value $(2)),$(1)=$(call q,$(2)))
needed = $(or $(call q,$(1)),$(error $(1) is missing, as in: $(2)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## create .venv with all dependencies (BASE=/usr/bin/python3.12 names the Python; uv is used if there)

$(INSTALLED): pyproject.toml constraints.txt environment.sh
	@BASE=$(call q,BASE) ./environment.sh

$(CHECKED): $(INSTALLED) params.yaml $(wildcard pipeline/learners/*.py pipeline/stacking/metalearners/*.py)
	@$(SKETCHSTACK) check
	@touch $@

repro: $(CHECKED) ## run the changed stages, from raw drawings to ranked submissions
	@$(SKETCHSTACK) repro

test: $(INSTALLED) ## the fast tests, then the slow ones
	$(PYTEST) -m 'not slow'
	$(PYTEST) -m slow

lint: $(INSTALLED) ## ruff (rules and format) and mypy
	ruff check
	ruff format --check
	mypy

submit: $(INSTALLED) ## send the best submission (or NAME=...) to Kaggle, or show exactly what would be sent
	@$(SKETCHSTACK) submit $(call q,NAME)

demo: $(INSTALLED) ## draw and let the trained ensemble guess: serves http://127.0.0.1:8000, after `make repro`
	@$(SKETCHSTACK) serve champion.zip --repack --log text

reproduce: $(INSTALLED) ## make a submission of ledger.csv again and compare the bytes: NAME=super_learner, AT=REVISION
	@$(SKETCHSTACK) reproduce $(call needed,NAME,make reproduce NAME=super_learner) $(call option,--at,AT)

data: $(INSTALLED) ## fetch raw files: NAME=mini FROM=FOLDER copies them; NAME=google (ROWS=1000 WORDS=cat,dog) and NAME=kaggle download
	@$(SKETCHSTACK) fetch $(call needed,NAME,make data NAME=mini FROM=FOLDER) $(call option,--from,FROM) \
		$(call option,--rows,ROWS) $(call option,--words,WORDS) $(call option,--address,ADDRESS)

profile: $(INSTALLED) ## copy profiles/NAME.yaml to params.yaml (FORCE=1 discards edits)
	@$(SKETCHSTACK) profile $(call needed,NAME,make profile NAME=synthetic) $(if $(value FORCE),--force)

tune: $(INSTALLED) ## search for better params: LEARNER=lstm TRIALS=30; can be stopped and resumed
	@$(SKETCHSTACK) tune $(call needed,LEARNER,make tune LEARNER=lstm) $(call option,--trials,TRIALS)

compare: $(INSTALLED) ## is B better than A? A=strokenet B=seresnet, or revisions: A=HEAD~1 B=super_learner
	@$(SKETCHSTACK) compare $(call needed,A,$(COMPARE)) $(call needed,B,$(COMPARE)) $(call option,--rope,ROPE)

experiments: $(INSTALLED) ## experiments of `dvc exp run`, best first: MAP@3, and the params that differ
	@$(SKETCHSTACK) experiments

report: $(INSTALLED) ## scores, plots and drawings of the current run on one page (HOURLY=2.5 adds the price)
	@$(SKETCHSTACK) report $(call option,--hourly,HOURLY)

bench: bench-data bench-train ## the benchmarks of data and of training

bench-data: $(INSTALLED) ## shuffle, batches and shards of data/mini against the published code; needs an idle machine
	@for name in shuffle memory batches first_batch shard_size; do $(PYTHON) -m bench.$$name || exit 1; echo; done

bench-formats: $(INSTALLED) ## rows per second of each format of raw files, beside a plain reader
	@$(PYTHON) -m bench.formats

fuzz: $(INSTALLED) ## raw folders to which things happen: a traceback, a lost row or an unnamed file (20 minutes)
	@$(PYTHON) -m bench.fuzz --minutes 20

bench-train: $(INSTALLED) ## training steps of every learner, with new batches and from memory; needs an idle machine
	@$(PYTHON) -m bench.train

bench-effects: $(INSTALLED) ## effect of each training method on 60 words of data/mini; can be stopped and resumed
	@$(PYTHON) -m bench.effects

bench-gpu: $(INSTALLED) ## on a machine with a GPU: drawings/s at the kaggle profile's sizes, mini's scores at GPU sizes
	@$(PYTHON) -m bench.gpu

bench-plain: $(INSTALLED) ## plain baselines with the training time of a learner of the mini profile: LEARNER=strokenet
	@$(PYTHON) -m bench.plain $(call needed,LEARNER,make bench-plain LEARNER=strokenet)

chaos: $(INSTALLED) ## kills, full disks, damage, odd environments, a broken Kaggle: what a small run survives (an hour)
	@$(PYTHON) -m bench.chaos

bench-kills: $(INSTALLED) ## kill and resume every learner many times, and compare the bytes
	@$(PYTHON) -m bench.kills

bench-stack: $(INSTALLED) ## effect of each part of stacking on the current run; time and memory up to a million rows
	@$(PYTHON) -m bench.stacking
	@$(PYTHON) -m bench.stack_size

bench-coverage: $(INSTALLED) ## how often the interval of a comparison covers the true difference, over simulated pairs
	@$(PYTHON) -m bench.coverage

bench-report: $(INSTALLED) ## time and size of the report of the current run, and errors that a browser finds
	@$(PYTHON) -m bench.report

bench-scores: $(INSTALLED) ## write the scores of the current run as bench/results/PROFILE.md
	@$(PYTHON) -m bench.scores

bench-serve: $(INSTALLED) ## load on the server of the current run's packs, and 5,000 junk requests (10 minutes)
	@$(PYTHON) -m bench.load
	@$(PYTHON) -m bench.junk
