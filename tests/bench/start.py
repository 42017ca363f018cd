"""Times from the start of a process to the first result: XLAC's from an artifact, beside onnxruntime's from the model.

Usage: python start.py XLAC MODEL... [--embed EMBED] [--runs 20] [--threads N]

A model is a .onnx file whose symbolic dims, if any, are made 1. Timed are whole processes, `xlac run ARTIFACT -o OUT.npz` on
made-up inputs, and EMBED, a program that uses nothing but the runtime (`cargo build --release -p xlac-examples --example
embed`). Of onnxruntime the start of Python and all imports are left out: only the session and its first run are timed, in a
process of its own. Files are in the page cache. Engines take turns; printed are the least time and the median, in
milliseconds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = """
import sys, time
import numpy as np, onnxruntime as ort
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
          "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
          "tensor(bool)": np.bool_}
begin = time.perf_counter()
options = ort.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = int(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = lambda i: [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]
session.run(None, {i.name: np.ones(shape(i), DTYPES[i.type]) for i in session.get_inputs()})
print((time.perf_counter() - begin) * 1e3)
"""


def whole(command):
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1e3


def peer(model, threads):
    command = [sys.executable, "-c", PEER, str(model), str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(args, model, scratch):
    artifact = str(scratch / "model.xlac")
    subprocess.run([args.xlac, "compile", "--quiet", str(model), "-o", artifact], check=True)
    # Writing the artifact back to the disk would go on meanwhile.
    os.sync()
    threads = ["--threads", str(args.threads)] if args.threads else []
    run = [args.xlac, "run", artifact, "-o", str(scratch / "out.npz"), "--quiet", *threads]
    engines = {"xlac run": lambda: whole(run)}
    if args.embed:
        engines["embed"] = lambda: whole([args.embed, artifact])
    engines["onnxruntime"] = lambda: peer(model, args.threads or 0)
    times = {name: [] for name in engines}
    # The first turn fills the page cache.
    for engine in engines.values():
        engine()
    for _ in range(args.runs):
        for name, engine in engines.items():
            times[name].append(engine())
    for name, all_ in times.items():
        print(f"{model.stem:16} {name:12} min {min(all_):8.1f}  median {statistics.median(all_):8.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--embed")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    for model in args.models:
        with tempfile.TemporaryDirectory() as scratch:
            measure(args, model, Path(scratch))


if __name__ == "__main__":
    main()
