"""Time the prediction form of QTSeg against the plain network, turn about in one process.

CPU time of the process is compared, not wall time, so that other work on the machine disturbs
little. Memory is the peak that a fresh child process adds to what it held with the model loaded.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from napari_cvsuite.models.qtseg import build
from napari_cvsuite.models.qtseg_fast import fuse

Form = Callable[[Tensor], tuple[Tensor, Tensor | None]]


def make(name: str) -> Form:
    """Return the form of that name, with the same random weights every time."""
    torch.manual_seed(0)
    plain = build(2)
    if name == "plain":
        return plain
    fast = fuse(plain)
    return torch.compile(fast) if name == "fast, compiled" else fast


def processor() -> str:
    """Return the model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_mib() -> float:
    """Return the peak resident size of this process in MiB (Linux counts KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def child(name: str, args: argparse.Namespace) -> float:
    """Measure the peak memory added by two calls, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name]
    for option in ("size", "batch", "threads"):
        command += [f"--{option}", str(getattr(args, option))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(args: argparse.Namespace) -> None:
    """Print the table."""
    names = ["plain", "fast"] + ["fast, compiled"] * args.compile
    # Children first: on Linux a child's peak starts at its parent's.
    added = {name: child(name, args) for name in names}
    forms = {name: make(name) for name in names}
    x = torch.randn(args.batch, 3, args.size, args.size)
    outputs = {name: form(x)[0] for name, form in forms.items()}
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.runs):
        for name, form in forms.items():
            start = time.process_time()
            form(x)
            spent[name].append(1e3 * (time.process_time() - start))
    want, base = outputs["plain"], min(spent["plain"])
    print(f"{processor()}, torch {torch.__version__}, float32, {args.size} px, ", end="")
    print(f"batch {args.batch}, {args.threads} thread(s), {args.runs} runs\n")
    print("| form | CPU ms, min | median | ratio of minima | max difference / std | peak added |")
    print("|---|---|---|---|---|---|")
    for name, times in spent.items():
        error = ((outputs[name] - want).abs().max() / want.std()).item()
        row = f"| {name} | {min(times):.1f} | {statistics.median(times):.1f} "
        print(f"{row}| {min(times) / base:.2f} | {error:.1e} | {added[name]:.0f} MiB |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("size", 512), ("batch", 1), ("threads", 1), ("runs", 9)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        if not args.memory_of:
            measure(args)
            return
        form, x = make(args.memory_of), torch.randn(args.batch, 3, args.size, args.size)
        before = peak_mib()
        for _ in range(2):
            form(x)
        print(peak_mib() - before)


if __name__ == "__main__":
    main()
