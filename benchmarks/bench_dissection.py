"""Time network dissection against a bare forward pass over the same images, in one process.

The layer is conv5 of ResNet-50 (``layer4``, 2048 units) with random weights; only the pattern of
activations depends on weights. Images come from a folder, or are textures with squares. Without a
permutation test it is the paper's mode at q = 0.005 over all images. With one it is the mode of own
labels: q chosen among six on one half, IoU and 200 shifts on the other. CPU time of the process is
compared as well as wall time, as other work on the machine disturbs it little. Memory is the peak
of the process that dissection adds to what it held after a bare forward pass.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.cnn import Classifier, build
from napari_cvsuite.neurons.dissection import dissect, dissect_labels

Item = tuple[Tensor, list[NDArray[np.int64]]]
LAYER = "model.layer4"


class Images:
    """Makes or reads an image when it is asked for, so that memory holds one batch."""

    def __init__(self, count: int, side: int, folder: Path | None) -> None:
        self.count, self.side = count, side
        self.files = sorted(folder.iterdir()) if folder else []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        return (self.item(number) for number in range(self.count))

    def item(self, number: int) -> Item:
        """Return an image, and a map of two concepts: a square, and what is bright elsewhere."""
        rng = np.random.default_rng(number)
        pixels = self._read(number) if self.files else self._texture(rng)
        top, left = rng.integers(0, self.side // 2, 2)
        size = self.side // 4
        labels = (pixels.mean(axis=0) > 0.6).astype(np.int64)
        labels[top : top + size, left : left + size] = 2
        pixels[:, top : top + size, left : left + size] *= 0.3
        return torch.from_numpy(pixels), [labels]

    def _texture(self, rng: np.random.Generator) -> NDArray[np.float32]:
        cells = rng.random((3, 8, 8), dtype=np.float32)
        fine = rng.random((3, self.side, self.side), dtype=np.float32)
        across = np.arange(self.side) * 8 // self.side
        return 0.7 * cells[:, across][:, :, across] + 0.3 * fine

    def _read(self, number: int) -> NDArray[np.float32]:
        with Picture.open(self.files[number % len(self.files)]) as opened:
            small = opened.convert("RGB").resize((self.side, self.side))
        return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(255)


def forward(network: nn.Module, images: Images, batch: int) -> None:
    """Run the network alone."""
    held: list[Tensor] = []
    with torch.no_grad():
        for number, (image, _) in enumerate(images, 1):
            held.append(image)
            if len(held) == batch or number == len(images):
                network(torch.stack(held))
                held = []


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def resident(name: str) -> float:
    """Return a field of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(name))


def added_memory(call: Callable[[], object]) -> float:
    """Return the peak in MiB that a call adds."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS:")
    call()
    return resident("VmHWM:") - before


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("images", 60), ("side", 224), ("batch", 8), ("threads", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help="of images; textures are made without it")
    parser.add_argument("--shifts", type=int, default=200, help="0 leaves the own-labels mode out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = Classifier(build("resnet50", 1000)).eval()
    images, few = (
        Images(count, args.side, args.folder) for count in (args.images, max(2, args.images // 10))
    )
    print(f"torch {torch.__version__}, {args.side} px, batch {args.batch}, ", end="")
    print(f"{args.threads} thread(s), {len(images)} images\n")
    forward(network, few, args.batch)
    calls: dict[str, Callable[[Images], object]] = {
        "paper mode": lambda some: dissect(network, LAYER, some, Context(), batch=args.batch)
    }
    if args.shifts:
        calls["own labels, no shifts"] = lambda some: dissect_labels(
            network, LAYER, some, Context(), shifts=0, batch=args.batch
        )
        calls[f"own labels, {args.shifts} shifts"] = lambda some: dissect_labels(
            network, LAYER, some, Context(), shifts=args.shifts, batch=args.batch
        )
    wall, cpu = timed(lambda: forward(network, images, args.batch))
    head = f"peak added by {len(few)} images | by {len(images)}" if sys.platform == "linux" else ""
    print(f"| | images a second | wall | ratio | CPU | ratio | {head} |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| bare forward | {len(images) / wall:.1f} | {wall:.1f} s | 1 | {cpu:.1f} s | 1 | - | - |"
    )
    for name, call in calls.items():
        peaks = [0.0, 0.0]
        if sys.platform == "linux":
            peaks[0] = added_memory(lambda call=call: call(few))
        spent: list[tuple[float, float]] = []

        def run(call=call, spent=spent) -> None:
            spent.append(timed(lambda: call(images)))

        if sys.platform == "linux":
            peaks[1] = added_memory(run)
        else:
            run()
        (took, used), again = spent[0], timed(lambda: forward(network, images, args.batch))
        # The machine may be busier at one time than at another, so both passes around it count.
        base = ((wall + again[0]) / 2, (cpu + again[1]) / 2)
        wall, cpu = again
        print(f"| {name} | {len(images) / took:.1f} | {took:.1f} s | {took / base[0]:.2f} ", end="")
        print(f"| {used:.1f} s | {used / base[1]:.2f} ", end="")
        print(f"| {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
