"""Shares of the machine's measured peak that dense kernels reach, from `xlac bench`.

Usage: python shares.py XLAC MODEL... [--mflop 50] [--floor 0.85]

Takes every launch of a matrix product or convolution with at least so many million operations, but those by Winograd's short
convolutions and Strassen's algorithm, the best of some runs. Prints how many reach the floor, and the geometric mean, of
direct sums and of fast inner products apart: those count the operations they save, and may pass 100%. Of launches below, the
share of the machine's measured bandwidth is printed too, which bounds those that compute little with what they read and write.
A model is given as for compare.py.
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path


def launches(xlac, model):
    """The launches of a model, and the machine's rates."""
    file, _, inputs = str(model).partition("@")
    command = [xlac, "bench", file, "--json", "--quiet", "--threads", "1", "--duration", "1", *(["--inputs", inputs] if inputs else [])]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return report["kernels"], report["roofline"]


def summary(kind, shares, floor):
    reached = sum(s[0] >= floor for s in shares)
    mean = math.exp(statistics.fmean(math.log(s[0]) for s in shares)) if shares else math.nan
    print(f"{kind}: {reached} of {len(shares)} launches reach {floor:.0%} of the peak; geometric mean {mean:.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--mflop", type=float, default=50)
    parser.add_argument("--floor", type=float, default=0.85)
    args = parser.parse_args()
    shares = {"direct sums": [], "fast inner products": []}
    for model in args.models:
        name = Path(model.partition("@")[0]).stem
        kernels, machine = launches(args.xlac, model)
        for k in kernels:
            short = any(algorithm in k["name"] for algorithm in ("winograd", "strassen"))
            dense = any(kind in k["name"] for kind in ("conv", "matmul", "product")) and not short
            if dense and k["gflops"] * k["ms"] >= args.mflop * k["calls"]:
                kind = "fast inner products" if "_fip_" in k["name"] else "direct sums"
                shares[kind].append((k["peak_share"], k["gbps"] / machine["gbps"], name, k["name"], (k["nodes"] or [""])[0]))
    for kind, found in shares.items():
        summary(kind, found, args.floor)
    for peak, bandwidth, *where in sorted(s for s in sum(shares.values(), []) if s[0] < args.floor):
        print(f"{peak:6.1%} of the peak, {bandwidth:4.0%} of the bandwidth  {'  '.join(where)}")


if __name__ == "__main__":
    main()
