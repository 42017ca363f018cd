"""Everything that needs an NVIDIA GPU, in one go: results, memory errors, and speed beside the peers that are installed.

    python3 tests/gpu/run.py XLAC [MODEL_OR_FOLDER ...] [--out results.json] [--seconds 1.0] [--only suite,verify,...]

XLAC is the `xlac` binary; one built without LLVM is enough, the driver is all the GPU needs. Parts:

suite      `xlac test` on every folder with test data, on the GPU
verify     every model on made-up data, the GPU against this machine's processor; and the bits of `--numerics exact`
sanitizer  compute-sanitizer (memcheck, racecheck) over one run of the smallest models, where it is installed
products   matrix products and their errors against f64, beside torch (cuBLAS)
memory     elementwise, softmax and normalization kernels, as a share of the bandwidth of a device copy
models     latency at batch 1 beside torch.compile (max-autotune, CUDA graphs) and JAX, for layers built alike

Every comparison is made in this one run, on random data, and printed as a ratio: above 1 means that XLAC is faster. A part
whose needs are missing says so and is left out. `--device ptx-sim` runs suite and verify on the simulator.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import layers
import peers


class Xlac:
    """The command line under test."""

    def __init__(self, binary, device):
        self.binary, self.device = binary, device

    def call(self, *arguments, check=True, wrap=()):
        command = [*wrap, self.binary, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done

    def bench(self, model, seconds, *arguments):
        """The object `xlac bench --json` prints."""
        done = self.call("bench", model, "--device", self.device, "--json", "--duration", seconds, "--kernels", 999, *arguments)
        return json.loads(done.stdout)


def device_ms(report):
    """Milliseconds all kernels of a run take on the device."""
    return sum(kernel["ms"] for kernel in report["kernels"])


def suite(xlac, options, out):
    folders = [m for m in options.models if m.is_dir()]
    if not folders:
        return print("suite      left out: no folder was given")
    done = xlac.call("test", *folders, "--device", xlac.device, "--json", "--jobs", 1, check=False)
    report = json.loads(done.stdout)
    for case in report["cases"]:
        if case["status"] not in ("passed", "refused"):
            print(f"  {case['status']}: {case['name']}: {case['detail']}")
    print(f"suite      {report['passed']} passed, {report['failed']} failed, {report['refused']} refused")
    out["suite"] = {key: report[key] for key in ("passed", "failed", "refused")}


def cases(options):
    """Every model, by its folder where that holds inputs that fit it."""
    for path in options.models:
        for file in sorted(path.rglob("*.onnx")) if path.is_dir() else [path]:
            yield file.parent if (file.parent / "test_data_set_0").is_dir() else file


def size(case):
    return (case / "model.onnx" if case.is_dir() else case).stat().st_size


def verify(xlac, options, out):
    results = {}
    for case in cases(options):
        for numerics in ("fast", "exact"):
            arguments = ("verify", case, "--device", xlac.device, "--against", "cpu", "--numerics", numerics, "--json")
            done = xlac.call(*arguments, check=False)
            label = {0: "ok", 3: "refused", 4: "differs"}.get(done.returncode, "error")
            results.setdefault(label, []).append(f"{case.name} {numerics}")
            if label not in ("ok", "refused"):
                print(f"  {label}: {case} ({numerics}): {done.stderr.strip()[-300:]}")
    counts = {label: len(names) for label, names in results.items()}
    print(f"verify     {counts}")
    out["verify"] = counts


def sanitizer(xlac, options, out):
    tool = shutil.which("compute-sanitizer")
    if not tool:
        return print("sanitizer  left out: compute-sanitizer is not installed")
    smallest = sorted(cases(options), key=size)[:4]
    found = {}
    for check in ("memcheck", "racecheck"):
        for case in smallest:
            wrap = (tool, "--tool", check, "--error-exitcode", "99", "--print-limit", "5")
            done = xlac.call("run", case, "--device", xlac.device, check=False, wrap=wrap)
            found[f"{check} {case.name}"] = done.returncode
            if done.returncode != 0:
                print(f"  {check} {case}: {(done.stdout + done.stderr)[-600:]}")
    print(f"sanitizer  {sum(code == 0 for code in found.values())} of {len(found)} runs clean")
    out["sanitizer"] = found


def products(xlac, options, out):
    torch = peers.torch_or_none()
    if torch is None:
        return print("products   left out: torch is not installed")
    rows = []
    for dtype, sizes in layers.PRODUCTS.items():
        for m, n, k in sizes:
            with tempfile.TemporaryDirectory() as folder:
                model = layers.product(pathlib.Path(folder), dtype, m, n, k)
                ours = device_ms(xlac.bench(model, options.seconds))
                error = None
                if max(m, n, k) <= 4096:
                    error = layers.product_error(xlac, pathlib.Path(folder), model, dtype)
            theirs = peers.product_ms(torch, dtype, m, n, k, options.seconds)
            rate = 2e-9 * m * n * k / ours
            rows.append({"dtype": dtype, "m": m, "n": n, "k": k, "tflops": rate, "ratio": theirs / ours, "error": error})
            print(f"  {dtype:>5} {m:>5} x {n:>5} x {k:>5}: {rate:8.1f} TFLOP/s, {theirs / ours:.2f} of cuBLAS, error {error}")
    out["products"] = rows


def memory(xlac, options, out):
    torch = peers.torch_or_none()
    if torch is None:
        return print("memory     left out: torch is not installed")
    copy = peers.copy_bandwidth(torch)
    print(f"memory     a device copy moves {copy:.0f} GB/s")
    rows = []
    for name in layers.STREAMS:
        with tempfile.TemporaryDirectory() as folder:
            model, traffic = layers.stream(pathlib.Path(folder), name)
            ours = device_ms(xlac.bench(model, options.seconds))
        rate = traffic / ours / 1e6
        rows.append({"kernel": name, "gbps": rate, "share": rate / copy})
        print(f"  {name:>12}: {rate:7.0f} GB/s, {rate / copy:.2f} of the copy")
    out["memory"] = {"copy_gbps": copy, "kernels": rows}


def models(xlac, options, out):
    torch = peers.torch_or_none()
    if torch is None:
        return print("models     left out: torch is not installed")
    rows = []
    for name in layers.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            model, module, inputs = layers.model(pathlib.Path(folder), name, torch)
            ours = xlac.bench(model, options.seconds)["latency_ms"]["median"]
        theirs = peers.compiled_ms(torch, module, inputs, options.seconds)
        row = {"model": name, "ms": ours, "torch_compile": theirs / ours}
        print(f"  {name:>12}: {ours:.3f} ms, torch.compile takes {theirs / ours:.2f} times as long")
        rows.append(row)
    out["models"] = rows


PARTS = {"suite": suite, "verify": verify, "sanitizer": sanitizer, "products": products, "memory": memory, "models": models}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    xlac = Xlac(options.xlac, options.device)
    out = {"machine": peers.machine(), "version": xlac.call("--version").stdout.strip()}
    print(out["machine"], out["version"])
    failed = False
    for name in options.only.split(","):
        try:
            PARTS[name](xlac, options, out)
        except Exception as error:  # A part that fails must not keep the others from being measured.
            failed = True
            out[name] = {"failed": str(error)}
            print(f"{name:<10} failed: {error}")
        if options.out:
            options.out.write_text(json.dumps(out, indent=1))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
