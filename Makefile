# The two commands are `make demo` and `make test`; both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
WHEELS := target/wheels
INSTALLED := target/installed
SENTENCES := target/sentences/movieReviewSnippets_GroundTruth.txt
# The schemas of the Prometheus operator, for the test of the manifests.
OPERATOR := target/tools/operator
OPERATOR_SCHEMAS := @kubernetes-models/prometheus-operator@6.0.0
# Value tables with known optima; the benches do without where the file is not there.
GOLDEN ?= $(CURDIR)/../shared/golden/values.safetensors
# Seconds of `make fuzz` for each reader.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS := safetensors torch pickle torchscript hf
FUZZ_TOOL := target/tools/bin/cargo-fuzz
# Sanitizers are not stable yet; this lets the one toolchain of the project build with them.
FUZZ := RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo fuzz
# torch-sys asks the `python` (or python3) that it finds first for libtorch.
export PATH := $(BIN):$(PATH)
export LIBTORCH_USE_PYTORCH := 1
# libtorch's idle threads spin.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup prometheus chromium deploy-tools build demo demo-phase pictures test test-rust test-analysis test-python test-installed wheel fuzz bench-solver bench-forward bench-history bench-scrape bench-colocated bench-loss experiments lint lint-core format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## the virtual environment with PyTorch (5 GB) and the Python package

$(READY): python/pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	# The package as it lies here; `make wheel` makes one to install.
	$(BIN)/python -c 'import sysconfig, pathlib; pathlib.Path(sysconfig.get_paths()["purelib"], "convergd.pth").write_text("$(CURDIR)/python\n")'
	touch $(READY)

# Packages that only tests need, where programs are missing and it may: $(call packages,PROGRAMS,PACKAGES).
packages = if ! { $(foreach program,$(1),command -v $(program) &&) true; } >/dev/null \
		&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(2); } \
			>/dev/null 2>&1 || true; \
	fi
# Debian would start servers that nobody asked for where a service manager runs.
no_services = [ -d /run/systemd/system ] ||

# The tests of alerts and dashboards say so where these are missing.
prometheus:
	@$(no_services) { $(call packages,promtool prometheus-alertmanager,prometheus prometheus-alertmanager); }

# The tests of the page say so where it is missing.
chromium:
	@$(call packages,chromium,chromium)

# The tests of containers, units and batch scripts say so where these are missing.
deploy-tools:
	@test -d $(OPERATOR)/node_modules || ! command -v npm >/dev/null \
		|| npm install --silent --no-audit --no-fund --prefix $(OPERATOR) $(OPERATOR_SCHEMAS) >/dev/null 2>&1 || true
	@$(no_services) { $(call packages,bwrap systemd-analyze munged slurmctld slurmd sbatch,bubblewrap systemd munge slurmctld slurmd slurm-client); }

build: setup ## target/release/convergd and convergd-torch, which finds libtorch by itself
	cargo build --release --locked

demo: build ## train two small networks on real digits; convergd stops them
	$(BIN)/python examples/pytorch/demo.py --convergd target/release/convergd \
		--config config/demo.yaml --run demo-run

demo-phase: build ## the same; convergd switches them to the regularised phase first
	$(BIN)/python examples/pytorch/demo.py --convergd target/release/convergd \
		--config config/demo-phase.yaml --run demo-phase-run

pictures: build chromium ## docs/page.png and docs/report.png, of the run that `make demo` left
	$(BIN)/python tests/pictures.py --convergd target/release/convergd --run demo-run

# The wheel is built meanwhile, on what the Rust tests leave of the processors.
test: setup ## all tests
	@nice -n 19 $(MAKE) wheel & wheel=$$!; trap 'kill $$wheel 2>/dev/null; exit 130' INT TERM; \
		$(MAKE) test-rust; rust=$$?; \
		wait $$wheel && exit $$rust
	$(MAKE) test-installed

test-rust: setup prometheus
	CONVERGD_TEST_PYTHON=1 cargo test --locked --features failpoints

test-analysis: ## the mathematics alone: no libtorch, no SQLite, no HTTP
	cargo test --locked -p convergd-analysis

test-python: wheel
	$(MAKE) test-installed

# Against the wheel as it is installed, not the package as it lies here. Each file of tests in one process.
test-installed: setup chromium deploy-tools
	rm -rf $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--target $(INSTALLED) $(WHEELS)/*.whl
	cd python/tests && CONVERGD_WHEEL_FILE=$$(echo $(CURDIR)/$(WHEELS)/*.whl) \
		PYTHONPATH=$(CURDIR)/$(INSTALLED) $(BIN)/python -m pytest -q \
		--numprocesses=auto --maxprocesses=4 --dist=loadfile .

wheel: setup ## the Python package with both programs, under target/wheels
	rm -rf $(WHEELS)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --wheel-dir $(WHEELS) ./python
	# Its programs have taken the place of those that find libtorch by themselves.
	cargo build --release --locked

# A crash, a hang of 10 s or 64 MiB at once fails; what caused it is under fuzz/artifacts.
fuzz: setup $(FUZZ_TOOL) ## random bytes for each reader of checkpoints, FUZZ_SECONDS=30 each
	rm -rf target/fuzz-layouts
	EVIL_MARK=$(CURDIR)/target/fuzz-mark HF_HUB_OFFLINE=1 \
		$(BIN)/python tests/fixtures/make_layouts.py target/fuzz-layouts
	$(BIN)/python fuzz/make_seeds.py target/fuzz-layouts target/fuzz-seeds
	$(FUZZ) build
	set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target; \
		$(FUZZ) run $$target fuzz/corpus/$$target target/fuzz-seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=10 \
			-rss_limit_mb=1024 -malloc_limit_mb=64 -print_final_stats=1; \
	done
	test ! -e target/fuzz-mark

$(FUZZ_TOOL):
	cargo install --locked --root target/tools cargo-fuzz

bench-solver: build ## the solver and its peers: certification, cost, memory, rooflines (20 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	$(BIN)/python benches/make_tables.py $(CURDIR)/target/bench
	cargo bench --locked -p convergd-analysis --bench transforms
	cargo bench --locked -p convergd-analysis --bench solver -- \
		--tables $(CURDIR)/target/bench --golden $(GOLDEN)
	$(BIN)/python benches/peers.py --tables target/bench --golden $(GOLDEN) \
		--convergd target/release/convergd --out target/bench/peers.json

bench-forward: setup ## masked inputs a second, against a bare loop and PyTorch (10 minutes)
	PYTHONPATH=python $(BIN)/python benches/make_networks.py target/bench/networks
	cargo build --release --locked --bench forward
	PYTHONPATH=python $(BIN)/python benches/forward.py --networks target/bench/networks \
		--bench "$$(ls -t target/release/deps/forward-* | grep -v '\.d$$' | head -1)"

bench-history: setup ## start, status and ticks with ten thousand pairs (5 minutes)
	rm -rf target/bench/bad_input
	$(BIN)/python tests/fixtures/make_bad_input.py target/bench/bad_input
	cargo bench --locked --bench history -- --fixtures target/bench/bad_input

bench-scrape: setup ## /metrics while a pair is evaluated (5 minutes)
	rm -rf target/bench/bad_input
	$(BIN)/python tests/fixtures/make_bad_input.py target/bench/bad_input
	cargo bench --locked --bench scrape -- --fixtures target/bench/bad_input

bench-colocated: build ## what trainings lose beside convergd (15 minutes on a quiet machine)
	$(BIN)/python benches/colocated.py --convergd target/release/convergd --every 60 --seconds 60 --rounds 2
	$(BIN)/python benches/colocated.py --convergd target/release/convergd --every 1 --seconds 20 --rounds 2

bench-loss: setup ## a step of each loss, as a multiple of plain training (2 minutes)
	PYTHONPATH=python $(BIN)/python benches/loss.py

experiments: build $(SENTENCES) ## what each loss does after the phase switch, docs/experiments.md (30 minutes)
	PYTHONPATH=python $(BIN)/python examples/pytorch/experiments/phase.py \
		--convergd target/release/convergd --out target/experiments --sentences $(SENTENCES)

# 10,605 movie sentences with their ratings, which the source of a package brings along.
$(SENTENCES): $(READY)
	mkdir -p $(@D)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
		--dest $(@D) vaderSentiment==3.3.2
	tar -xzOf $(@D)/vaderSentiment-3.3.2.tar.gz \
		vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz | tar -xz -C $(@D)
	find $(@D) -mindepth 2 -name $(@F) -exec cp {} $@ \;

# What needs no libtorch, so that `make --jobs=2 setup lint-core` waits for neither.
lint-core:
	cargo clippy --locked -p convergd-core -p convergd-analysis --all-targets --features convergd-core/failpoints -- -D warnings

lint: setup ## formatting and lints, Rust and Python
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	# Tests and benches are the same with the feature.
	cargo clippy --locked -- -D warnings
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	$(BIN)/ruff check --config python/pyproject.toml python examples tests benches fuzz deploy
	$(BIN)/ruff format --check --config python/pyproject.toml python examples tests benches fuzz deploy
	cd python && $(BIN)/mypy

format:
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff format --config python/pyproject.toml python examples tests benches fuzz deploy

clean:
	cargo clean
	rm -rf $(VENV) demo-run demo-phase-run
