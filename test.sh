#!/usr/bin/env bash
# Installs what the full test suite needs and runs it: LLVM 22 for the fast backend, a Python with onnx for the
# conformance cases. Takes about half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")"

sudo=""
if [ "$(id -u)" -ne 0 ]; then sudo="sudo"; fi

if ! command -v llvm-config-22 >/dev/null || [ ! -e /usr/include/zlib.h ]; then
    if command -v apt-get >/dev/null; then
        $sudo apt-get update
        $sudo apt-get install -y --no-install-recommends llvm-22-dev libpolly-22-dev zlib1g-dev libzstd-dev
    else
        echo "Install LLVM 22 with its headers (llvm-config-22 must be found), and the headers of zlib and zstd;" >&2
        echo "or run the part that needs nothing: cargo test --workspace --exclude xlac-llvm" >&2
        exit 1
    fi
fi

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import onnx, onnxruntime' 2>/dev/null; then
    if ! python3 -m venv .venv 2>/dev/null; then
        if command -v apt-get >/dev/null; then
            $sudo apt-get update
            $sudo apt-get install -y --no-install-recommends python3-venv
        fi
        python3 -m venv .venv
    fi
    .venv/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime numpy
fi

# An assembler for PTX, if it can be had: one more check that GPUs will take the kernels. Nothing else needs it.
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] && ! compgen -G ".venv/lib/python*/site-packages/nvidia/*/bin/ptxas" >/dev/null; then
    .venv/bin/pip install --quiet --disable-pip-version-check nvidia-cuda-nvcc==13.0.88 ||
        echo "ptxas could not be installed: the test that needs it will be skipped" >&2
fi

# An emulator and Rust's library for AArch64: its code is run too. Where they cannot be had, those tests are skipped.
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    if ! command -v qemu-aarch64 >/dev/null && command -v apt-get >/dev/null; then
        $sudo apt-get update
        $sudo apt-get install -y --no-install-recommends qemu-user ||
            echo "qemu-user could not be installed: the tests of AArch64 will be skipped" >&2
    fi
    if command -v rustup >/dev/null; then
        rustup target add aarch64-unknown-linux-musl ||
            echo "Rust's library for AArch64 could not be installed: the tests that need it will be skipped" >&2
    fi
fi

cargo test --workspace --features xlac-tests/llvm "$@"
