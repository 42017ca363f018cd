"""Shares of the machine's measured peak that dense kernels reach, from `xlac bench`.

Usage: python shares.py XLAC MODEL... [--mflop 50] [--floor 0.85]

Takes every launch of a direct matrix product or convolution with at least so many million operations, the best of some runs,
and prints how many reach the floor, the geometric mean, and those that do not. A model is given as for compare.py.
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path


def launches(xlac, model):
    file, _, inputs = str(model).partition("@")
    command = [xlac, "bench", file, "--json", "--quiet", "--threads", "1", "--duration", "1", *(["--inputs", inputs] if inputs else [])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["kernels"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xlac")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--mflop", type=float, default=50)
    parser.add_argument("--floor", type=float, default=0.85)
    args = parser.parse_args()
    shares = []
    for model in args.models:
        name = Path(model.partition("@")[0]).stem
        for k in launches(args.xlac, model):
            short = any(algorithm in k["name"] for algorithm in ("winograd", "strassen"))
            dense = any(kind in k["name"] for kind in ("conv", "matmul", "product")) and not short
            if dense and k["gflops"] * k["ms"] >= args.mflop * k["calls"]:
                shares.append((k["peak_share"], name, k["name"], (k["nodes"] or [""])[0]))
    reached = sum(s[0] >= args.floor for s in shares)
    mean = math.exp(statistics.fmean(math.log(s[0]) for s in shares))
    print(f"{reached} of {len(shares)} launches reach {args.floor:.0%} of the peak; geometric mean {mean:.1%}")
    for share, *where in sorted(s for s in shares if s[0] < args.floor):
        print(f"{share:6.1%}  {'  '.join(where)}")


if __name__ == "__main__":
    main()
