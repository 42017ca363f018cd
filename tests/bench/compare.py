"""Times XLAC, onnxruntime and OpenVINO in turns on the same models and inputs and prints a table of ratios.

Usage: python compare.py XLAC MODEL... [--threads 1] [--rounds 3] [--seconds 0.5] [--backend llvm] [--peers onnxruntime,openvino]
                         [--set "numerics=exact"] [--json]

A model is a .onnx file or a folder with model.onnx and test_data_set_0; FILE.onnx@INPUTS.npz gives the inputs. Every engine
computes in the precision of the model (OpenVINO is told not to go below f32), on the same number of threads. In each round
each engine runs for the given time, one after the other; printed are the median of a run in the engine's best round and the
fastest run of all. The ratio is the time of the faster peer over XLAC's: above 1, XLAC is faster.
"""

import argparse
import json
import math
import os
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


class Onnxruntime:
    """onnxruntime's CPU provider with its default options."""

    name = "onnxruntime"

    def __init__(self, file, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def infos(self):
        return self.session.get_inputs()

    def prepare(self, inputs):
        self.inputs = inputs

    def run(self):
        self.session.run(None, self.inputs)


class OpenVino:
    """OpenVINO's CPU plugin, tuned for latency; shapes are fixed to those of the inputs, as its users do."""

    name = "openvino"

    def __init__(self, file, threads):
        self.file, self.threads = file, threads

    def prepare(self, inputs):
        import openvino as ov

        core = ov.Core()
        model = core.read_model(str(self.file))
        if any(i.get_partial_shape().is_dynamic for i in model.inputs):
            model.reshape({i.get_any_name(): inputs[i.get_any_name()].shape for i in model.inputs})
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.request = core.compile_model(model, "CPU", options).create_infer_request()
        for i in model.inputs:
            self.request.set_tensor(i.get_any_name(), ov.Tensor(np.ascontiguousarray(inputs[i.get_any_name()])))

    def run(self):
        self.request.infer()


def timed(engine, seconds):
    """Median and least time of a run, milliseconds."""
    for _ in range(3):
        engine.run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        engine.run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3, min(times) * 1e3


def timed_xlac(args, artifact, data):
    command = [args.xlac, "bench", artifact, "--json", "--quiet", "--threads", str(args.threads), "--duration", str(args.seconds)]
    done = subprocess.run([*command, "--inputs", data], capture_output=True, text=True, check=True)
    latency = json.loads(done.stdout)["latency_ms"]
    return latency["median"], latency["min"]


def inputs_of(infos, folder, given):
    """Inputs of the test case, or made-up ones with symbolic dims of 1."""
    if given:
        arrays = np.load(given)
        return {info.name: arrays[info.name] for info in infos}
    data = folder / "test_data_set_0" if folder else None
    random = np.random.default_rng(0)
    out = {}
    for index, info in enumerate(infos):
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


def compare(args, model, scratch):
    name, _, given = str(model).partition("@")
    model = Path(name)
    folder = model if model.is_dir() else None
    file = model / "model.onnx" if folder else model
    artifact = scratch / "model.xlac"
    options = [] if not args.backend else ["--backend", args.backend]
    options += [f"--{o.partition('=')[0]}={o.partition('=')[2]}" for o in args.set]
    subprocess.run([args.xlac, "compile", "--quiet", str(file), "-o", str(artifact), *options], check=True)
    # Writing the artifact back to the disk would go on during the first rounds.
    os.sync()
    inputs = inputs_of(Onnxruntime(file, 1).infos(), folder, given)
    data = scratch / "inputs.npz"
    np.savez(data, **inputs)
    peers, notes = [], []
    for peer in (Onnxruntime, OpenVino):
        if peer.name in args.peers.split(","):
            try:
                engine = peer(file, args.threads)
                engine.prepare(inputs)
                engine.run()
                peers.append(engine)
            except Exception as error:  # A peer that cannot run a model is not in that model's comparison.
                notes.append(f"{peer.name}: {str(error).strip().splitlines()[0][:100]}")
    times = {"xlac": [], **{p.name: [] for p in peers}}
    for _ in range(args.rounds):
        times["xlac"].append(timed_xlac(args, str(artifact), str(data)))
        for peer in peers:
            times[peer.name].append(timed(peer, args.seconds))
    row = {engine: {"median": min(t[0] for t in all), "min": min(t[1] for t in all)} for engine, all in times.items()}
    for kind in ("median", "min"):
        best = min((row[p.name][kind] for p in peers), default=math.nan)
        row["ratio" if kind == "median" else "ratio_of_min"] = best / row["xlac"][kind]
    return row, notes


def show(name, row):
    cells = [f"{engine} {row[engine]['median']:9.3f}" if engine in row else f"{engine}         -" for engine in ("xlac", "onnxruntime", "openvino")]
    print(f"{name:<24} {'   '.join(cells)}   ratio {row['ratio']:5.2f}   of minima {row['ratio_of_min']:5.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--backend")
    parser.add_argument("--peers", default="onnxruntime,openvino")
    parser.add_argument("--set", action="append", default=[], help="an option of `xlac compile`, as numerics=exact")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for model in args.models:
        plain = Path(str(model).partition("@")[0])
        name = plain.stem if plain.suffix == ".onnx" else plain.name
        if "@" in str(model):
            name = Path(str(model).partition("@")[2]).stem
        with tempfile.TemporaryDirectory() as scratch:
            try:
                row, notes = compare(args, model, Path(scratch))
            except Exception as error:  # One model that does not run must not end the comparison.
                print(f"{name:<24} {str(error).splitlines()[0][:120]}", file=sys.stderr)
                continue
        for note in notes:
            print(f"{name:<24} {note}", file=sys.stderr)
        rows.append({"model": name, **row})
        if not args.json:
            show(name, row)
    known = [r["ratio"] for r in rows if not math.isnan(r["ratio"])]
    mean = math.exp(statistics.fmean(map(math.log, known))) if known else math.nan
    if args.json:
        print(json.dumps({"threads": args.threads, "models": rows, "geometric_mean": mean}))
    elif known:
        least = min(rows, key=lambda r: r["ratio"])
        print(f"geometric mean of {len(known)}: {mean:.2f}, least {least['ratio']:.2f} ({least['model']}), on {args.threads} thread(s)")


if __name__ == "__main__":
    main()
