"""Times of other people's code on the same GPU, with CUDA events and random data."""

import subprocess


def torch_or_none():
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def machine():
    """GPU and driver, as nvidia-smi names them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no NVIDIA GPU"


def device_ms(torch, run, seconds):
    """Least time of a few dozen runs, each between two events: noise only ever adds."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    best, spent = float("inf"), 0.0
    while spent < seconds * 1e3:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end))
        spent += max(start.elapsed_time(end), 0.05)
    return best


def product_ms(torch, dtype, m, n, k, seconds):
    """A matrix product by cuBLAS. f32 is plain single precision: TF32 would be another answer."""
    torch.backends.cuda.matmul.allow_tf32 = False
    if dtype == "int8":
        a = torch.randint(-128, 127, (m, k), dtype=torch.int8, device="cuda")
        b = torch.randint(-128, 127, (n, k), dtype=torch.int8, device="cuda").t()
        return device_ms(torch, lambda: torch._int_mm(a, b), seconds)
    kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    a, b = (torch.randn(shape, dtype=kind, device="cuda") for shape in ((m, k), (k, n)))
    return device_ms(torch, lambda: torch.mm(a, b), seconds)


def copy_bandwidth(torch):
    """GB/s of a device-to-device copy of 1 GiB, read and write counted."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    ms = device_ms(torch, lambda: target.copy_(source), 0.5)
    return 2 * source.numel() * 4 / ms / 1e6


def compiled_ms(torch, module, inputs, seconds):
    """Latency of torch.compile with max-autotune and CUDA graphs; inputs come from and results go to the host."""
    module = torch.compile(module.cuda().eval(), mode="max-autotune")
    pinned = [x.pin_memory() for x in inputs]

    def run():
        with torch.no_grad():
            return module(*[x.cuda(non_blocking=True) for x in pinned]).cpu()

    return device_ms(torch, run, seconds)
