# Every target sets up what it needs on a fresh Debian 12 machine (packages from Debian and PyPI) and is
# quick the second time. CMake knows the real dependencies: see CMakePresets.json.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
# Names of our C++ files, each ended by a NUL.
CXX_FILES = git ls-files -z -- 'engine/*.h' 'engine/*.cc' 'kernels/*.h' 'kernels/*.cc' 'services/*.h' \
            'services/*.cc' 'storage/*.h' 'storage/*.cc' 'tests/*.h' 'tests/*.cc'

SOAK_MINUTES ?= 60

.PHONY: all demo test coverage asan tsan bench soak format check-format python-client clean help
.DEFAULT_GOAL := all

help:
	@echo 'make              build the programs: build/release/bin/lectern, lectern-worker, lectern-gateway'
	@echo 'make demo         build, serve, upload real documents, ask, kill -9, ask again'
	@echo 'make test         build and run every test'
	@echo 'make coverage     line coverage of what keeps and serves documents, by the tests: tests/bench/results/trust.json'
	@echo 'make asan         every test under AddressSanitizer and UndefinedBehaviorSanitizer; hours'
	@echo 'make tsan         engine, scheduler, storage and kernels under ThreadSanitizer; hours'
	@echo 'make bench        run the benchmarks; figures go to tests/bench/results'
	@echo 'make soak         an hour of mixed load on real processes: SOAK_MINUTES, tests/soak/soak.py'
	@echo 'make format       clang-format every C++ file in place'
	@echo 'make python-client  generate the Python client into clients/python'
	@echo 'make clean        remove build/, .venv/ and .cuda/'

all: build/release/build.ninja
	cmake --build --preset release -j $(JOBS)

demo: all
	scripts/setup demo
	scripts/demo

test: python-client build/dev/build.ninja
	cmake --build --preset dev -j $(JOBS)
	ctest --preset dev -j $(JOBS)
	$(MAKE) --no-print-directory check-format

coverage: python-client build/coverage/build.ninja
	scripts/setup coverage
	cmake --build --preset coverage -j $(JOBS)
	find build/coverage -name '*.gcda' -delete
	ctest --preset coverage -j $(JOBS) -LE gpu
	scripts/line_coverage build/coverage --results=tests/bench/results/trust.json

asan: python-client build/asan/build.ninja
	scripts/setup test
	cmake --build --preset asan -j $(JOBS)
	ctest --preset asan -j $(JOBS)

tsan:
	scripts/setup tsan
	$(MAKE) --no-print-directory build/tsan/build.ninja
	cmake --build --preset tsan -j $(JOBS)
	ctest --preset tsan -j $(JOBS)

bench: build/bench/build.ninja
	cmake --build --preset bench -j $(JOBS) --target bench

soak: python-client build/dev/build.ninja
	cmake --build --preset dev -j $(JOBS) --target lectern lectern_gateway lectern_worker e2e_write_model
	build/dev/bin/e2e_write_model build/soak/model
	.venv/bin/python tests/soak/soak.py --bin=build/dev/bin --model=build/soak/model --work=build/soak/run \
	  --minutes=$(SOAK_MINUTES) --results=tests/bench/results/trust.json

format:
	scripts/setup test
	$(CXX_FILES) | xargs -0 -P $(JOBS) -n 16 clang-format -i

check-format:
	@scripts/setup test
	$(CXX_FILES) | xargs -0 -P $(JOBS) -n 16 clang-format --dry-run -Werror

python-client:
	scripts/setup test
	clients/python/generate

# CMake runs again by itself when its own files change.
build/%/build.ninja: scripts/packages.txt CMakePresets.json
	@scripts/setup build
	cmake --preset $*
	@touch $@

clean:
	rm -rf build .venv .cuda clients/python/lectern
