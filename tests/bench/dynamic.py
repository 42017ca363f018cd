"""One artifact, many shapes: checks random shapes against onnxruntime, and times some against the model compiled for them.

Usage: python dynamic.py XLAC MODEL.onnx --dim NAME=LOW..HIGH[/STEP] ... [--shapes 200] [--timed 8] [--threads 1]

Prints how many shapes agree, and for the timed shapes the ratio of the 99th percentiles: general artifact over the one
compiled for that shape.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def parse_dim(text):
    name, range_ = text.split("=")
    span, _, step = range_.partition("/")
    low, high = span.split("..")
    return name, range(int(low), int(high) + 1, int(step or 1))


def bench(xlac, artifact, inputs, threads):
    command = [xlac, "bench", artifact, "--json", "--quiet", "--threads", str(threads), "--duration", "0.7", "--inputs", inputs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["latency_ms"]


def make_inputs(session, sizes):
    generator = np.random.default_rng(0)
    out = {}
    for index, info in enumerate(session.get_inputs()):
        shape = [d if isinstance(d, int) else sizes.get(d, sizes.get(f"{info.name}_d{axis}")) for axis, d in enumerate(info.shape)]
        dtype = DTYPES[info.type]
        values = generator.standard_normal(shape) if dtype == np.float32 else generator.integers(0, 2, shape)
        out[info.name] = values.astype(dtype)
    return out


def agrees(xlac, artifact, session, inputs, scratch):
    np.savez(scratch / "in.npz", **inputs)
    command = [xlac, "run", artifact, "--quiet", "--inputs", str(scratch / "in.npz"), "-o", str(scratch / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        return False
    got = np.load(scratch / "out.npz")
    for info, expected in zip(session.get_outputs(), session.run(None, inputs)):
        scale = max(1e-6, float(np.abs(expected).max()))
        if got[info.name].shape != expected.shape or not np.allclose(got[info.name], expected, rtol=1e-3, atol=max(1e-4 * scale, 1e-6)):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("model")
    parser.add_argument("--dim", action="append", required=True)
    parser.add_argument("--shapes", type=int, default=200)
    parser.add_argument("--timed", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    dims = dict(parse_dim(d) for d in args.dim)
    generator = random.Random(1)
    session = ort.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        general, fixed = str(scratch / "general.xlac"), str(scratch / "fixed.xlac")
        subprocess.run([args.xlac, "compile", "--quiet", args.model, "-o", general], check=True)
        draw = lambda: {name: generator.choice(values) for name, values in dims.items()}
        good = sum(agrees(args.xlac, general, session, make_inputs(session, draw()), scratch) for _ in range(args.shapes))
        print(f"{good} of {args.shapes} random shapes agree with onnxruntime", flush=True)
        ratios = []
        for _ in range(args.timed):
            sizes = draw()
            np.savez(scratch / "in.npz", **make_inputs(session, sizes))
            pins = [x for name, size in sizes.items() for x in ("--dim", f"{name}={size}")]
            subprocess.run([args.xlac, "compile", "--quiet", args.model, "-o", fixed, *pins], check=True)
            runs = [[bench(args.xlac, a, str(scratch / "in.npz"), args.threads) for a in (general, fixed)] for _ in range(3)]
            ours, theirs = (min(r[i]["p99"] for r in runs) for i in (0, 1))
            medians = [min(r[i]["median"] for r in runs) for i in (0, 1)]
            ratios.append(ours / theirs)
            print(f"{sizes}: p99 {ours:.3f} ms general, {theirs:.3f} ms fixed, {ratios[-1]:.2f}x; medians {medians[0] / medians[1]:.2f}x", flush=True)
        if ratios:
            print(f"largest ratio of p99: {max(ratios):.2f}")
    sys.exit(0 if good == args.shapes else 1)


if __name__ == "__main__":
    main()
