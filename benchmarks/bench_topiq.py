"""Time the prediction form of TOPIQ against the plain network, turn about in one process.

CPU time of the process is compared, not wall time, so that other work on the machine disturbs
little. Memory is the peak that one call adds, in a fresh child process, to what it held with the
form loaded (and with the reference's maps, where those are kept).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import build_model
from napari_cvsuite.models.topiq import CFANet, build
from napari_cvsuite.models.topiq_fast import fuse

Call = Callable[[], Tensor]
AUTHORS = {
    ("NR", 1024, 768): 3.81,
    ("NR", 512, 384): 0.84,
    ("FR", 1024, 768): 6.1,
    ("FR", 512, 384): 1.17,
}
"""Seconds of the authors' implementation: ResNet-50, one image, one thread, an EPYC with AVX-512
and torch 2.15."""
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Noise of the pictures on which precisions are compared."""


def pictures(count: int, args: argparse.Namespace) -> Tensor:
    """Return pictures with details of all sizes, the same every time."""
    generator = torch.Generator().manual_seed(1)
    size = (args.height, args.width)
    total = torch.zeros(count, 3, *size)
    for cells in (4, 16, 64, 256):
        coarse = torch.randn(count, 3, cells, cells, generator=generator)
        total += F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return (0.5 + 0.1 * total).clamp_(0, 1)


def plain_network(kind: str, args: argparse.Namespace) -> CFANet:
    """Return the trained model, or one with the same random weights every time."""
    if args.model:
        network = build_model(Catalogue().get(args.model), "plain")
        assert isinstance(network, CFANet), f"{args.model} is no model of image quality"
        return network
    torch.manual_seed(0)
    return build({"semantic_model_name": args.backbone, "use_ref": kind == "FR"})


def kinds(args: argparse.Namespace) -> list[str]:
    """Return which networks are measured: without and with reference, or the one asked for."""
    if not args.model:
        return [args.kind] if args.kind else ["NR", "FR"]
    return ["FR" if Catalogue().get(args.model).options.get("use_ref", True) else "NR"]


def calls(
    kind: str, forms: list[str], x: Tensor, y: Tensor, args: argparse.Namespace
) -> list[Call]:
    """Return what is measured for each form."""
    plain = plain_network(kind, args)
    others = (y,) if kind == "FR" else ()
    found: list[Call] = []
    for form in forms:
        if form == "plain":
            found.append(lambda: plain(x, *others))
            continue
        fast, precision = fuse(plain), args.precision if "reduced" in form else "float32"
        with autocast(precision):
            given = (fast.reference(y),) if "kept" in form else others

        def call(fast=fast, given=given, precision=precision) -> Tensor:
            with autocast(precision):
                return fast(x, *given)

        found.append(call)
    return found


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context in which a precision is used."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast("cpu", getattr(torch, precision))


def forms_of(kind: str, args: argparse.Namespace) -> list[str]:
    """Return the names of the forms."""
    found = ["plain", "fast"] + ["fast, reference kept"] * (kind == "FR")
    return found + [f"{one}, reduced" for one in found[1:]] * (args.precision != "float32")


def processor() -> str:
    """Return the model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def resident(name: str) -> float:
    """Return a field of /proc/self/status in MiB; elsewhere the peak so far."""
    status = Path("/proc/self/status")
    if status.exists():
        found = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(found[name].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def added_memory(call: Call) -> float:
    """Return the peak in MiB that two calls add."""
    gc.collect()
    if sys.platform == "linux":
        # What loading has freed goes back to the system, and the peak is counted from now on.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in range(2):
        call()
    return resident("VmHWM") - before


def child(kind: str, form: str, args: argparse.Namespace) -> float:
    """Measure the memory of a form in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", kind, form]
    for option in ("width", "height", "batch", "threads", "backbone", "model", "precision"):
        command += [f"--{option}", str(getattr(args, option))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def inputs(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return images and references."""
    y = pictures(args.batch, args)
    return (y + 0.05 * torch.randn(y.shape)).clamp_(0, 1), y


def measure(kind: str, args: argparse.Namespace) -> None:
    """Print the rows of a table."""
    names = forms_of(kind, args)
    added = [child(kind, name, args) for name in names]
    runs = calls(kind, names, *inputs(args), args)
    outputs = [run() for run in runs]
    spent: list[list[float]] = [[] for _ in names]
    for _ in range(args.runs):
        for run, times in zip(runs, spent, strict=True):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    comparable = args.batch == args.threads == 1 and not args.model and args.backbone == "resnet50"
    theirs = AUTHORS.get((kind, args.width, args.height)) if comparable else None
    for i, name in enumerate(names):
        error = (outputs[i] - outputs[0]).abs().max().item()
        row = f"| {kind} {name} | {min(spent[i]):.3f} | {statistics.median(spent[i]):.3f} "
        row += f"| {min(spent[i]) / min(spent[0]):.2f} | {error:.1e} "
        row += f"| {added[i]:.0f} MiB | {added[i] / added[0]:.2f} "
        print(row + f"| {theirs or '-'} |", flush=True)


def compare_precisions(kind: str, args: argparse.Namespace) -> None:
    """Print how much a precision changes the scores of pictures of falling quality."""
    fast = fuse(plain_network(kind, args))
    exact, reduced = [], []
    for number, level in enumerate(LEVELS):
        y = pictures(number + 1, args)[-1:]
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(number))
        x = (y + level * noise).clamp(0, 1)
        given = (y,) if kind == "FR" else ()
        exact.append(fast(x, *given))
        with autocast(args.precision):
            reduced.append(fast(x, *given))
    change = torch.cat(reduced).float() - torch.cat(exact)
    print(
        f"{kind}, {args.precision}: the scores of {len(exact)} pictures change by up to "
        f"{change.abs().max():.1e}, {change.abs().mean():.1e} on average; their standard "
        f"deviation is {torch.cat(exact).std():.1e}"
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = (("width", 1024), ("height", 768), ("batch", 1), ("threads", 1), ("runs", 9))
    for option, default in numbers:
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--backbone", default="resnet50", help="of a network with random weights")
    parser.add_argument("--kind", choices=["NR", "FR"], help="of it; default both")
    parser.add_argument(
        "--model", default="", help="trained model by name, in place of random weights"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="also measure a reduced precision, and how it changes scores",
    )
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        if args.memory_of:
            kind, form = args.memory_of
            print(added_memory(calls(kind, [form], *inputs(args), args)[0]))
            return
        print(
            f"{processor()}, torch {torch.__version__}, {args.width} x {args.height} px, ", end=""
        )
        print(f"batch {args.batch}, {args.threads} thread(s), {args.runs} runs, ", end="")
        print(f"{args.model or args.backbone + ' with random weights'}\n")
        print("| form | CPU s, min | median | ratio of minima | largest change ", end="")
        print("| peak added | ratio | the authors' code, s |")
        print("|---|---|---|---|---|---|---|---|")
        for kind in kinds(args):
            measure(kind, args)
        if args.precision != "float32":
            print()
            for kind in kinds(args):
                compare_precisions(kind, args)


if __name__ == "__main__":
    main()
