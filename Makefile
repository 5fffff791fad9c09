# Everything without a ROS 2 installation. On a ROS 2 machine: rosdep, colcon, ros2 launch.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# Nodes of another run or machine must not be heard, a robot's least of all: a domain of its own
# (1 to 101), and nothing of a sourced ROS installation beside the one in the environment.
export ROS_DOMAIN_ID := $(shell echo $$(( $$$$ % 101 + 1 )))
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
unexport PYTHONPATH AMENT_PREFIX_PATH LD_LIBRARY_PATH

.DELETE_ON_ERROR:
.PHONY: help demo test lint bench docs clean
.DEFAULT_GOAL := help

help:  ## Say what there is.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## Run the real nodes on a sample bag; ends with a table and the report's path.
	$(VENV)/bin/dectrain_demo

# Two files at a time: much of a test is waiting for nodes, and each has a network domain of its own.
test: $(VENV)/ready  ## Run the whole suite.
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile

bench: $(VENV)/ready  ## Measure speed on this machine.
	@set -e; for file in benchmarks/*.py; do $(RUN) $$file; done

docs: $(VENV)/ready  ## Write config/dectrain.yaml and docs/OPTIONS.md's table anew from the options.
	$(RUN) config/generate.py

lint: $(VENV)/lint-ready  ## Check style as ament_flake8 does.
	$(RUN) -m flake8

clean:  ## Remove what make and builds have made; results stay.
	rm -rf $(VENV) build install log *.egg-info .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is touched last: a half-made environment has none, and is made anew.
$(VENV)/ready: requirements.txt setup.py setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 13) else \
		f"Python 3.11 or 3.12 is needed, this is {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --requirement requirements.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/lint-ready: $(VENV)/ready requirements-lint.txt
	$(RUN) -m pip install --quiet --requirement requirements-lint.txt
	touch $@
