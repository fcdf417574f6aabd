# SPDX-License-Identifier: BSD-3-Clause
# A front for meson. On a fresh machine `make demo` and `make check` are all there is to type.

BUILD ?= build
SUDO  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD)

deps:
	@tools/deps build

# What it shows: two guests and the world beyond an uplink, pinging and moving data. BREAK=uplink|switch|guest must fail.
demo: all
	@tools/deps demo
	@$(SUDO) env BREAK='$(BREAK)' BUILD='$(BUILD)' tools/demo

check:
	@tools/deps build check
	@$(SUDO) tools/check $(CHECK)

bench: all
	@tools/deps bench
	@$(SUDO) python3 bench/run.py $(BUILD)

mutants:
	@tools/deps build check
	@$(SUDO) python3 tools/mutants $(MUTANTS)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz build-mutant

.PHONY: all deps demo check bench mutants format install clean
