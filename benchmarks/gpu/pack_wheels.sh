#!/usr/bin/env bash
# What benchmarks/gpu/run_all.py needs on a GPU machine that reaches no package index, as wheels in pieces that fit one transfer.
#
#   bash benchmarks/gpu/pack_wheels.sh [DIR]          here; DIR (default .whl, not committed) gets pieces of at most 56 MiB
#   bash benchmarks/gpu/pack_wheels.sh --join DIR     there; joins what DIR's pieces have brought into /tmp/whl, installs what is whole
#
#   bash .ci/pycuda_wheel.sh PYTHON3.12 DIR2           before the first: pycuda has no wheels; then PYCUDA_WHEEL='DIR2/*.whl'
#
# Carry piece-00, piece-01, ... one a call (each call: copy it to /tmp/pieces first), then join, then on the same machine
# `PYTHONPATH=/tmp/site python3 benchmarks/gpu/run_all.py`. It has Python 3.12 and, for the comparison, torch and CuPy with their
# CUDA libraries, which the GPU build of onnxruntime uses as well; all else is in the pieces (some 430 MB, eight of them).
set -euo pipefail

python_version=${PYTHON_VERSION:-3.12}
piece_mib=56

if [ "${1:-}" = --join ]; then
    from=${2:?usage: pack_wheels.sh --join DIR}
    mkdir -p /tmp/whl
    cat "$from"/piece-* | tar -x -C /tmp/whl
    (cd /tmp/whl && sha256sum --quiet -c SHA256SUMS)
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site /tmp/whl/*.whl
    echo "export PYTHONPATH=/tmp/site"
    exit 0
fi

target=${1:-.whl}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
platforms=()
for tag in manylinux_2_35_x86_64 manylinux_2_34_x86_64 manylinux_2_31_x86_64 manylinux_2_28_x86_64 manylinux_2_27_x86_64 \
    manylinux_2_24_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms+=(--platform "$tag")
done
# the versions of this environment where it has them: what was tested here is what runs there
pin() { python3 -c "
import importlib.metadata as m, sys
try: print(f'$1=={m.version(\"$1\")}')
except m.PackageNotFoundError: print('$1')"; }
packages=("$(pin numpy)" "$(pin scipy)" "$(pin opencv-python)" "$(pin av)" "$(pin msgspec)" "$(pin pyyaml)" "$(pin tqdm)"
    onnxruntime-gpu flatbuffers "$(pin onnx)" "$(pin protobuf)" "$(pin ml_dtypes)" "$(pin typing_extensions)"
    pytools platformdirs mako markupsafe siphash24)
python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$python_version" --implementation cp \
    "${platforms[@]}" -d "$work" "${packages[@]}"
# pycuda has no wheels: one built for that Python may lie beside this script's caller
if compgen -G "${PYCUDA_WHEEL:-pycuda-*.whl}" >/dev/null; then
    cp ${PYCUDA_WHEEL:-pycuda-*.whl} "$work"/
else
    echo "no pycuda wheel for Python $python_version (set PYCUDA_WHEEL): build one where nvcc is, or carry the source and build it there" >&2
fi
(cd "$work" && sha256sum ./*.whl >SHA256SUMS)
mkdir -p "$target"
rm -f "$target"/piece-*
tar -c -C "$work" . | split -b "${piece_mib}m" -d - "$target"/piece-
ls -l "$work" "$target"
