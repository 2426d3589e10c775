"""Time saliency maps of one image on a ResNet-50, after loading, beside a bare forward pass.

python benchmarks/bench_saliency.py [--threads 2] [--side 224] [--methods gradient,gradcam]
"""

from __future__ import annotations

import argparse
import time

import torch

from napari_cvsuite.models.cnn import Classifier, build
from napari_cvsuite.neurons.cams import CAMS, class_activation_map
from napari_cvsuite.neurons.saliency import explain
from napari_cvsuite.neurons.target import Target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--methods", default="gradient,guided,gradcam,smoothgrad")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = Classifier(build("resnet50", 1000)).eval().requires_grad_(False)
    x = torch.rand(1, 3, given.side, given.side)
    target = Target(class_index=3)

    def forward() -> None:
        with torch.inference_mode():
            network(x)

    def saliency(method: str) -> None:
        if method in CAMS:
            class_activation_map(network, x, target, "model.layer4", method)
        else:
            explain(network, x, target, method)

    print(f"forward: {best(forward, given.runs):.3f} s")
    for method in given.methods.split(","):
        seconds = best(lambda method=method: saliency(method), given.runs)
        print(f"{method}: {seconds:.3f} s")


def best(call: object, runs: int) -> float:
    """Return the shortest of several runs in seconds, after one to warm up."""
    found = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        call()  # type: ignore[operator]
        found.append(time.perf_counter() - start)
    return min(found[1:])


if __name__ == "__main__":
    main()
