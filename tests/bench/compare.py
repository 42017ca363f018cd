"""Times `xlac bench` and onnxruntime in turns on the same models and prints the ratios.

Usage: python compare.py XLAC MODEL... [--threads 1] [--rounds 3] [--seconds 1.0] [--json]

A model is a .onnx file or a folder with model.onnx and test_data_set_0; FILE.onnx@INPUTS.npz gives the inputs.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

DTYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def feeds(sess, folder, given):
    """Inputs of the test case, or made-up ones with symbolic dims of 1."""
    if given:
        arrays = np.load(given)
        return {info.name: arrays[info.name] for info in sess.get_inputs()}
    data = folder / "test_data_set_0" if folder else None
    random = np.random.default_rng(0)
    out = {}
    for index, info in enumerate(sess.get_inputs()):
        file = data / f"input_{index}.pb" if data else None
        if file and file.exists():
            proto = onnx.TensorProto()
            proto.ParseFromString(file.read_bytes())
            out[info.name] = numpy_helper.to_array(proto)
            continue
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in info.shape]
        dtype = DTYPES[info.type]
        values = random.standard_normal(shape) if np.issubdtype(dtype, np.floating) else random.integers(0, 2, shape)
        out[info.name] = values.astype(dtype)
    return out


def time_ort(sess, inputs, seconds):
    for _ in range(3):
        sess.run(None, inputs)
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        sess.run(None, inputs)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def time_xlac(xlac, artifact, folder, threads, seconds):
    command = [xlac, "bench", artifact, "--json", "--quiet", "--threads", str(threads), "--duration", str(seconds)]
    if folder:
        command += ["--inputs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["latency_ms"]["median"]


def save_inputs(inputs, path):
    np.savez(path, **inputs)
    return str(path)


def compare(args, model, scratch):
    name, _, given = str(model).partition("@")
    model = Path(name)
    folder = model if model.is_dir() else None
    file = model / "model.onnx" if folder else model
    artifact = scratch / "model.xlac"
    subprocess.run([args.xlac, "compile", "--quiet", str(file), "-o", str(artifact)], check=True)
    sess = session(file, args.threads)
    inputs = feeds(sess, folder, given)
    data = save_inputs(inputs, scratch / "inputs.npz")
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(time_xlac(args.xlac, str(artifact), data, args.threads, args.seconds))
        theirs.append(time_ort(sess, inputs, args.seconds))
    return min(ours), min(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for model in args.models:
        name = Path(str(model).partition("@")[0]).stem if ".onnx" in model.name else model.name
        with tempfile.TemporaryDirectory() as scratch:
            try:
                ours, theirs = compare(args, model, Path(scratch))
            except Exception as error:  # One model that does not run must not end the comparison.
                print(f"{name:<34} {str(error).splitlines()[0][:90]}", file=sys.stderr)
                continue
        rows.append({"model": name, "xlac_ms": ours, "onnxruntime_ms": theirs, "ratio": theirs / ours})
        if not args.json:
            print(f"{name:<34} xlac {ours:10.3f} ms   onnxruntime {theirs:10.3f} ms   {theirs / ours:6.2f}x", flush=True)
    mean = math.exp(statistics.fmean(math.log(r["ratio"]) for r in rows)) if rows else 0.0
    if args.json:
        print(json.dumps({"threads": args.threads, "models": rows, "geometric_mean": mean}))
    elif rows:
        print(f"{'geometric mean of ' + str(len(rows)):<34} {mean:.2f}x on {args.threads} thread(s), onnxruntime {ort.__version__}")


if __name__ == "__main__":
    main()
