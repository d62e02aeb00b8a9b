#!/usr/bin/env bash
# usage: bash .ci/pycuda_wheel.sh [PYTHON [DIR]]   Builds and installs pycuda into PYTHON's environment with nothing but g++ and PyPI: no
# CUDA toolkit, no driver. (PyPI has pycuda as source only, which wants a toolkit; the headers it needs are in a wheel of NVIDIA's.)
# With DIR the wheel is put there instead, for another machine with this Python.
set -euo pipefail
python=${1:-python3}
keep=${2:+$(mkdir -p "$2" && cd "$2" && pwd)}
version=2026.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" -m pip install -q --disable-pip-version-check "setuptools<81" wheel "numpy>=1.26" pytools platformdirs mako siphash24
"$python" -m pip install -q --disable-pip-version-check --no-deps --target headers "nvidia-cuda-runtime==13.*"
"$python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation "pycuda==$version" >/dev/null 2>&1 || true
tar xf "pycuda-$version.tar.gz"
cd "pycuda-$version"
cuda=$(dirname "$(find "$work/headers" -name cuda.h | head -1)")/..
[ -e "$cuda/include/cudaProfiler.h" ] || cat > "$cuda/include/cudaProfiler.h" <<'HEADER'
#pragma once
#include <cuda.h>
typedef enum CUoutput_mode_enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
extern "C" CUresult CUDAAPI cuProfilerInitialize(const char*, const char*, CUoutput_mode);
extern "C" CUresult CUDAAPI cuProfilerStart(void);
extern "C" CUresult CUDAAPI cuProfilerStop(void);
HEADER
mkdir stub
echo 'void _stub(void) {}' | gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o stub/libcuda.so -xc -
cat > siteconf.py <<CONF
CUDA_ROOT = '$cuda'
CUDA_INC_DIR = ['$cuda/include']
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ['stub']
CUDADRV_LIBNAME = ['cuda']
CUDART_LIB_DIR = []
CUDART_LIBNAME = ['']
CXXFLAGS = ['-w', '-O1']
LDFLAGS = []
CONF
# --no-as-needed, or the wheel is built and then lacks libcuda when it is loaded; from the environment, for it must come before -lcuda
build=(install)
[ -z "$keep" ] || build=(wheel -w "$keep")
LDFLAGS="-Wl,--no-as-needed -Wl,-s" "$python" -m pip "${build[@]}" -q --disable-pip-version-check --no-deps --no-build-isolation .
