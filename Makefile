# Entry points: `make run` answers a question, `make serve` starts the server, `make test` runs all tests; all install
# what is missing first.

# C code for the processor of this machine; `make MARCH=x86-64-v3` builds for others.
MARCH ?= native
SWIFT_FLAGS ?= $(if $(MARCH),-Xcc -march=$(MARCH))
TEST_FLAGS ?= -Xswiftc -enable-testing
SWIFT ?= swift
RELEASE = .build/release
PYSPARK = 4.1.4
DEBIAN_PACKAGES = libopenblas0 libdnnl-dev libjpeg-dev libpng-dev libwebp-dev pkg-config

IMAGE ?= Models/samples/bike.png
QUESTION ?= What number is at the top right?

PYTHON ?= python3

.PHONY: run serve test test-debug test-release test-recipe train-tiny build bench reproduce reproduce-quick check \
  example-slurm example-spark format lint clang-format deps clean

# Answers a question about a bundled image with the bundled model, with and without dropping.
run: build
	@for policy in pyramiddrop none; do \
	  echo; echo "== --policy $$policy: $(QUESTION) ($(IMAGE))"; \
	  $(RELEASE)/pdrop-run --image $(IMAGE) -p "$(QUESTION)" --policy $$policy -v 2>&1 || exit; \
	done

# The server with the bundled model or MODEL; SERVE_FLAGS are further options.
serve: build-server
	$(RELEASE)/pdrop-serve $(if $(MODEL),-m $(MODEL)) $(SERVE_FLAGS)

# All tests, in debug and in release, and a short run of the fuzzer. The server's are in release only, as its packages
# take minutes to build.
test: test-debug test-release fuzz-smoke

# With optimised C, as the kernels would take most of the time.
test-debug: deps
	$(WITHOUT_SERVER) $(SWIFT) test -Xcc -O2

test-release: deps
	$(SWIFT) build -c release --build-tests $(SWIFT_FLAGS) $(TEST_FLAGS)
	$(SWIFT) test -c release --skip-build

# Fuzzes the readers of untrusted bytes for SECONDS each (Tests/Fuzz/README.md): all, or TARGET. RUNS ends a run after so
# many executions. The corpora stay in .build-fuzz/work. `make fuzz-smoke` runs seeds and former failures, then a little.
SECONDS ?= 60
RUNS ?= -1
FUZZ_RUNTIME = $(firstword $(wildcard $(dir $(realpath $(shell command -v $(SWIFT))))../lib/clang/*/lib/*/libclang_rt.fuzzer_no_main-$(shell uname -m).a))
FUZZ_FLAGS = -Xswiftc -enable-testing -Xlinker $(FUZZ_RUNTIME) -Xlinker -lstdc++ --sanitize=address \
  -Xswiftc -sanitize-coverage=edge,inline-8bit-counters,pc-table,trace-cmp \
  -Xcc -fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp
FUZZ = $(PYTHON) Tests/Fuzz/run.py .build-fuzz/release/pdrop-fuzz
.PHONY: fuzz fuzz-smoke fuzz-build
fuzz: fuzz-build
	$(FUZZ) .build-fuzz/work --seconds $(SECONDS) --runs $(RUNS) $(TARGET)

fuzz-smoke:
ifeq ($(FUZZ_RUNTIME),)
	@echo "SKIPPED: fuzz-smoke, as this Swift toolchain has no libFuzzer runtime"
else
	@$(MAKE) --no-print-directory fuzz-build
	rm -rf .build-fuzz/smoke
	$(FUZZ) .build-fuzz/smoke --seconds 2 --runs 2000 $(TARGET)
endif

fuzz-build: deps
	@test -n "$(FUZZ_RUNTIME)" || { echo "this Swift toolchain has no libFuzzer runtime"; exit 1; }
	PDROP_FUZZ=1 $(WITHOUT_SERVER) $(SWIFT) build --scratch-path .build-fuzz -c release --product pdrop-fuzz $(FUZZ_FLAGS)

# The DocC documentation of the library products as a static site in DOCS; DOCS_BASE is its path on the server, without
# slashes at its ends. Look at it with `python3 -m http.server --directory .build/docs` and the path
# /documentation/pdrop.
DOCS ?= .build/docs
DOCS_BASE ?=
DOCS_TARGETS = BatchInference ImageProcessing LLaVA PDrop Reports Storage TokenDropping Tokenizers
.PHONY: docs
docs: deps
	mkdir -p "$(DOCS)"
	PDROP_DOCS=1 $(WITHOUT_SERVER) $(SWIFT) package --allow-writing-to-directory "$(DOCS)" generate-documentation \
	  $(addprefix --target ,$(DOCS_TARGETS)) \
	  --enable-experimental-combined-documentation --warnings-as-errors --transform-for-static-hosting \
	  $(if $(DOCS_BASE),--hosting-base-path "$(DOCS_BASE)") --output-path "$(DOCS)"

# The training recipe of the bundled model: unit tests, then a smoke run of about two minutes
# (Models/recipe/requirements.txt).
test-recipe:
	$(PYTHON) -m unittest discover -s Models/recipe/tests

# Trains the bundled model, which takes hours; resumes after a stop. WORK is the folder of the checkpoints.
train-tiny:
	PYTHON=$(PYTHON) Models/recipe/train.sh

# Release builds of the programs without the server, and of the server.
WITHOUT_SERVER = PDROP_WITHOUT_SERVER=1
.PHONY: build-server
build: deps
	$(WITHOUT_SERVER) $(SWIFT) build -c release $(SWIFT_FLAGS)

build-server: deps
	$(SWIFT) build -c release --product pdrop-serve $(SWIFT_FLAGS)

# The cost of the bundled model by policy and phase.
bench: build
	$(RELEASE)/pdrop-bench

# The comparisons of the paper: cost at the shapes of LLaVA-1.5-7B and LLaVA-NeXT-7B, or of the directories MODEL_15
# and MODEL_NEXT, and accuracy of the bundled model. With DATA also the benchmarks in that folder, answered by MODEL_15
# or the bundled model. All methods at equal cost: the bundled model, and MODEL_15 and DATA with EQUAL_COST_FLAGS.
REPORT ?= report
EQUAL_COST_FLAGS ?= --limit 20 --shares 0.5,0.25,0.1
# A variable, because a comma ends an argument of $(if).
REPRODUCE_POLICIES = none,fastv,pyramiddrop
reproduce: build
	$(RELEASE)/pdrop-bench reproduce --report-folder $(REPORT) $(if $(MODEL_15),--model-15 $(MODEL_15)) \
	  $(if $(MODEL_NEXT),--model-next $(MODEL_NEXT)) $(REPRODUCE_FLAGS)
	$(RELEASE)/pdrop-bench equal-cost --report-folder $(REPORT)
	$(if $(MODEL_15)$(DATA),$(RELEASE)/pdrop-bench equal-cost --report-folder $(REPORT) --name equal-cost-yours \
	  $(if $(MODEL_15),-m $(MODEL_15)) $(if $(DATA),--data $(DATA)) $(EQUAL_COST_FLAGS))
	$(if $(DATA),$(RELEASE)/pdrop-eval list --data $(DATA))
	$(if $(DATA),$(RELEASE)/pdrop-eval run --data $(DATA) $(if $(MODEL_15),-m $(MODEL_15)) \
	  --policy $(REPRODUCE_POLICIES) --output $(REPORT)/answers --report $(REPORT)/benchmarks.json)

# The same for the bundled model only, in less than two minutes.
reproduce-quick: build
	$(RELEASE)/pdrop-bench reproduce --quick --report-folder $(REPORT) $(REPRODUCE_FLAGS)

# Compares the bundled model with the results of the reference library, stage by stage.
check: build
	$(RELEASE)/pdrop-run check

# Tests of the batch and example scripts without a cluster: a killed and resumed batch, two Slurm shards in a plain
# shell, and the worker loop of Spark without Spark.
.PHONY: test-scripts
test-scripts: build
	@command -v python3 >/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=python3
	python3 Tests/Batch/kill_and_resume.py --records 100 --kills 3
	python3 examples/slurm/check.py --no-cluster
	python3 examples/spark/check.py --no-cluster

# The server as clients see it: routes, streams, errors, faults and security (Tests/Server/README.md).
.PHONY: test-server
test-server: build build-server
	$(PYTHON) Tests/Server/check.py $(RELEASE)/pdrop-serve $(RELEASE)/pdrop-run
	$(PYTHON) examples/serve/check.py $(RELEASE)/pdrop-serve

# The page of the server in Chromium. Installs Chromium, and Selenium in .build-page.
.PHONY: test-page
test-page: build-server .build-page/bin/python
	@$(MAKE) --no-print-directory deps DEBIAN_PACKAGES="chromium chromium-driver"
	.build-page/bin/python Tests/Server/page.py $(RELEASE)/pdrop-serve $(IMAGE)

.build-page/bin/python:
	$(PYTHON) -m venv .build-page && .build-page/bin/pip install -q selenium

# The field cases: inputs that users reported, each with a check of what they should get (Tests/Field/README.md).
# FIELD_CASES is another folder of such cases.
FIELD_CASES ?= Tests/Field/cases
.PHONY: test-field
test-field: build
	$(PYTHON) Tests/Field/run.py $(FIELD_CASES) --bin $(RELEASE)

# The examples for many machines, each on a cluster of this one machine, disturbed and compared with an undisturbed run.
# Installs the Debian packages of Slurm, or PySpark in .build-spark and Java if missing.
example-slurm: build
	@command -v python3 >/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=python3
	@$(MAKE) --no-print-directory deps DEBIAN_PACKAGES="slurmctld slurmd slurm-client munge"
	python3 examples/slurm/check.py

example-spark: build .build-spark/bin/spark-submit
	.build-spark/bin/python examples/spark/check.py

# Installs the programs, the bundled model, its evaluation set and the samples in PREFIX; DESTDIR is prepended to it.
DESTDIR ?=
PREFIX ?= /usr/local
PROGRAMS = pdrop-run pdrop-bench pdrop-eval pdrop-serve
INSTALL_BIN = $(DESTDIR)$(PREFIX)/bin
INSTALL_SHARE = $(DESTDIR)$(PREFIX)/share/swift-pyramid-drop

.PHONY: install install-files dist
install: build build-server
	@$(MAKE) --no-print-directory install-files

# Copies the files without a build; RELEASE is the folder of the programs.
install-files:
	install -d "$(INSTALL_BIN)" "$(INSTALL_SHARE)"
	install -m 755 $(addprefix $(RELEASE)/,$(PROGRAMS)) "$(INSTALL_BIN)"
	cp -R Models/tiny-textvqa Models/tiny-textvqa-eval Models/samples "$(INSTALL_SHARE)"
	chmod -R u=rwX,go=rX "$(INSTALL_SHARE)"

# An archive for Linux machines without Swift: dist/swift-pyramid-drop-VERSION-SYSTEM-PROCESSOR.tar.gz.
# The Swift runtime is linked statically; the C libraries are shared, and REQUIREMENTS.txt in the archive lists them.
DIST_MARCH ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3)
DIST_VERSION ?= $(shell git describe --tags --always 2>/dev/null || echo unversioned)
DIST_NAME = swift-pyramid-drop-$(DIST_VERSION)-$(shell uname -s | tr A-Z a-z)-$(shell uname -m)
DIST_RELEASE = .build-dist/release
dist: export REQUIREMENTS = $(DIST_REQUIREMENTS)
dist: deps
	@command -v strip >/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=binutils
	for program in $(PROGRAMS); do \
	  $(SWIFT) build --scratch-path .build-dist -c release --static-swift-stdlib --product $$program \
	    $(if $(DIST_MARCH),-Xcc -march=$(DIST_MARCH)) || exit; \
	done
	rm -rf "dist/$(DIST_NAME)"
	@$(MAKE) --no-print-directory install-files DESTDIR= PREFIX="dist/$(DIST_NAME)" RELEASE=$(DIST_RELEASE)
	strip $(addprefix dist/$(DIST_NAME)/bin/,$(PROGRAMS))
	cp -R README.md $(wildcard LICENSE CHANGELOG.md) docs "dist/$(DIST_NAME)"
	printf '%s\n' "$$REQUIREMENTS" >"dist/$(DIST_NAME)/REQUIREMENTS.txt"
	readelf -d $(addprefix dist/$(DIST_NAME)/bin/,$(PROGRAMS)) | sed -n 's/.*(NEEDED).*\[\(.*\)\]/  \1/p' | sort -u \
	  >>"dist/$(DIST_NAME)/REQUIREMENTS.txt"
	@! grep -E '^  lib(swift|_?Foundation|dispatch|BlocksRuntime)' "dist/$(DIST_NAME)/REQUIREMENTS.txt" \
	  || { echo "the Swift runtime is not linked statically"; exit 1; }
	tar -C dist -czf "dist/$(DIST_NAME).tar.gz" --owner=0 --group=0 "$(DIST_NAME)"
	@ls -l "dist/$(DIST_NAME).tar.gz"

define DIST_REQUIREMENTS
Requirements of the programs in bin

- Linux on $(shell uname -m) with $(shell getconf GNU_LIBC_VERSION 2>/dev/null) or later
- a processor of level $(or $(DIST_MARCH),$(shell uname -m)); x86-64-v3 is Intel Haswell or AMD Excavator and later
- the shared C libraries libjpeg-turbo, libpng, libwebp and zlib, but no Swift toolchain
  Debian: apt-get install libopenblas0 libjpeg62-turbo libpng16-16 libwebp7 libwebpdemux2
- loaded at run time: OpenBLAS for f32 (libopenblas0), and oneDNN for bf16 and int8 (Debian 12: libdnnl2); without
  them, matmuls are slower

Try:      bin/pdrop-run --image share/swift-pyramid-drop/samples/bike.png -p "What number is at the top right?"
Install:  cp -R bin share /usr/local

Shared libraries, as linked:
endef

.build-spark/bin/spark-submit:
	@command -v java >/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=default-jre-headless
	@python3 -c "import ensurepip" 2>/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=python3-venv
	python3 -m venv .build-spark && .build-spark/bin/pip install -q pyspark==$(PYSPARK)

# `make format` formats Swift and C; `make lint` checks the format and the places of `unsafe`.
C_FILES = $(shell find Sources -name '*.[ch]')
format: clang-format
	$(SWIFT) format --in-place --recursive Package.swift Sources Benchmarks Tests
	clang-format -i $(C_FILES)
lint: clang-format
	$(SWIFT) format lint --strict --recursive Package.swift Sources Benchmarks Tests
	clang-format --dry-run --Werror $(C_FILES)
	$(PYTHON) .ci/lint_words.py \
	  --identifiers $$(git ls-files '*.swift' '*.c' '*.h') \
	  --documents $$(git ls-files '*.md' ':!Benchmarks/Results/reproduce*')
	@! grep -rnw unsafe --include=*.swift Sources Benchmarks | grep -v '^Sources/\(Kernels\|Storage\)/' \
	  | grep -v '^Sources/ImageProcessing/Image\(Decoder\)\?.swift' \
	  || { echo "unsafe belongs in Sources/Storage, Sources/Kernels and the image codecs"; exit 1; }

clang-format:
	@command -v clang-format >/dev/null || $(MAKE) --no-print-directory deps DEBIAN_PACKAGES=clang-format

# Installs missing Debian packages; on other systems, prints the required libraries.
deps:
	@if command -v dpkg-query >/dev/null; then \
	  missing=$$(for p in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	  if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    run=; [ "$$(id -u)" = 0 ] || run=sudo; \
	    $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	  fi; \
	elif ! pkg-config --exists libjpeg libpng libwebp libwebpdemux zlib; then \
	  echo "required: libjpeg-turbo, libpng, libwebp, zlib and pkg-config; OpenBLAS for fast matmuls in f32"; exit 1; \
	fi

clean:
	$(SWIFT) package clean
