# Thin wrappers over CMake presets: every recipe can be typed by hand. `make` alone prints this list.
.DEFAULT_GOAL := help
export CTEST_PARALLEL_LEVEL ?= $(shell nproc)
.PHONY: help run demo install test fuzz interop bench soak format tidy clean packages-% release

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

run: packages-build  ## three servers on loopback with a real file in them, until Ctrl-C
	cmake --preset release
	cmake --build --preset release --target sluice
	scripts/run.sh

demo: packages-build  ## an upload survives the kill of the server that receives it
	cmake --preset release
	cmake --build --preset release --target sluice
	scripts/demo.sh

install: packages-build release  ## program, headers, libraries, CMake package and pkg-config file to PREFIX
	cmake --install build/release --prefix $(or $(PREFIX),/usr/local)

test: packages-build packages-fuzz release  ## every test ring that needs no foreign peer
	ctest --preset release

fuzz: packages-build packages-fuzz  ## every decoder and the stream pair, a minute each
	scripts/fuzz.sh 60

interop: packages-build packages-interop release  ## real foreign peers: Java, Go, Python
	tests/interop/run.sh build/release/src/app/sluice

bench: packages-build packages-bench release  ## rates and latencies beside their limits, measured in the same run
	cd bench/go && go build -o ../../build/release/bench/ ./cmd/...
	bench/run.py build/release

soak: packages-build packages-fuzz release  ## the long tests, part by part: make soak PART=seeds (or kills, ...)
	scripts/soak.py $(PART)

format: packages-check  ## format every C++ file of ours in place
	git ls-files -z '*.h' '*.cc' | xargs -0 clang-format-14 -i

tidy: packages-build packages-check release  ## clang-tidy over the whole tree
	scripts/tidy.sh --all

clean:  ## forget everything that was built
	rm -rf build

release:
	cmake --preset release
	cmake --build --preset release

packages-%:
	@scripts/packages.sh $*
