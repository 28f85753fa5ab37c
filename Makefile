# The front door: `make run` answers a question, `make test` tests, each after its own set-up.

# Code for this machine's processor; `make MARCH=x86-64-v3` builds for others.
MARCH ?= native
SWIFT_FLAGS ?= $(if $(MARCH),-Xcc -march=$(MARCH))
SWIFT ?= swift
RELEASE = .build/release
DEBIAN_PACKAGES = libopenblas-dev liblapacke-dev libdnnl-dev libturbojpeg0-dev libpng-dev libwebp-dev pkg-config

IMAGE ?= Models/samples/bike.png
QUESTION ?= What number is at the top right?

PYTHON ?= python3

.PHONY: run test test-debug test-release test-recipe train-tiny build bench check format lint deps clean

# Answers a question about a bundled picture with the bundled model, with and without dropping.
run: build
	@for policy in pyramiddrop none; do \
	  echo; echo "== --policy $$policy: $(QUESTION) ($(IMAGE))"; \
	  $(RELEASE)/pdrop-run --image $(IMAGE) -p "$(QUESTION)" --policy $$policy -v 2>&1 || exit; \
	done

# All tests, as written and as shipped.
test: test-debug test-release

test-debug: deps
	$(SWIFT) test

test-release: deps
	$(SWIFT) test -c release $(SWIFT_FLAGS)

# The recipe of the bundled model: its parts, then a smoke run of about two minutes (Models/recipe/requirements.txt).
test-recipe:
	$(PYTHON) -m unittest discover -s Models/recipe/tests

# Trains the bundled model anew, in hours; goes on where it was stopped. WORK says where the checkpoints go.
train-tiny:
	PYTHON=$(PYTHON) Models/recipe/train.sh

# The programs, optimised.
build: deps
	$(SWIFT) build -c release $(SWIFT_FLAGS)

# What the bundled model costs by policy and phase.
bench: build
	$(RELEASE)/pdrop-bench

# The bundled model, stage by stage, against what the reference library computed.
check: build
	$(RELEASE)/pdrop-run check

# Lays the code out, or says where it is not.
format:
	$(SWIFT) format --in-place --recursive Package.swift Sources Benchmarks Tests
lint:
	$(SWIFT) format lint --strict --recursive Package.swift Sources Benchmarks Tests
	@! grep -rnw unsafe --include=*.swift Sources Benchmarks | grep -v '^Sources/Kernels/' | grep -v 'ImageDecoder.swift' \
	  || { echo "unsafe belongs in Sources/Kernels"; exit 1; }

# Installs the Debian packages that are missing; on other systems, says which libraries are needed.
deps:
	@if command -v dpkg-query >/dev/null; then \
	  missing=$$(for p in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	  if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    run=; [ "$$(id -u)" = 0 ] || run=sudo; \
	    $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	  fi; \
	elif ! pkg-config --exists openblas libturbojpeg libpng libwebp; then \
	  echo "needed: OpenBLAS, LAPACKE, libjpeg-turbo, libpng, libwebp and pkg-config"; exit 1; \
	fi

clean:
	$(SWIFT) package clean
