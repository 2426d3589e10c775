"""Time the instruments of the Paths room on a ViT-B/16, in forward passes.

python benchmarks/bench_paths.py [--threads 1] [--runs 5] [--only one,two]

Weights are random. Direct shares and totals include the run that collects the paths; toggles and
the rest begin with collected paths, as the dock has them. All rows run turn about in one process,
so that other work on the machine meets them alike; of each the shortest run counts, by CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.paths import combine, decompose, intervene, views

VIT_B_16 = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_dim": 768,
    "num_layers": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "num_classes": 1000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="names of rows, with commas; default all")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = build(VIT_B_16).requires_grad_(False)
    rows = instruments(network, torch.randn(1, 3, 224, 224))
    chosen = given.only.split(",") if given.only else list(rows)
    unknown = [name for name in chosen if name not in rows]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; choose of {', '.join(rows)}")
    found = turn_about(
        {name: rows[name] for name in dict.fromkeys(["forward", *chosen])}, given.runs
    )
    print(f"torch {torch.__version__}, float32, {given.threads} thread(s), {given.runs} runs\n")
    print("| what | CPU ms | forwards |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / found['forward']:.3f} |")


def instruments(network: VisionTransformer, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed."""
    paths = decompose.collect(network, x)
    first, last = 1, network.config.num_paths - 1
    labels = torch.zeros(64, dtype=torch.int64)
    many = combine.Rows(
        torch.stack([w[:, :1, None] for w in paths.writes]).repeat(1, 64, 1, 1, 1), labels
    )

    @torch.no_grad()
    def forward() -> None:
        network(x)

    def direct() -> None:
        decompose.direct(network, decompose.collect(network, x))

    def totals(grow: bool) -> None:
        found = decompose.collect(network, x)
        intervene.total(network, found, "total_module", grow=grow)

    def heads() -> None:
        decompose.head_direct(network, paths)

    def sources() -> None:
        decompose.source_direct(network, paths, classes=[3])

    return {
        "forward": forward,
        "direct of 25 paths x 1000 classes": direct,
        "24 totals cached": lambda: totals(grow=False),
        "24 totals growing batch": lambda: totals(grow=True),
        "24 totals naive": lambda: naive(network, x),
        "one total toggle of the first path": lambda: intervene.switched_off(
            network, paths, [first]
        ),
        "one total toggle of the last path": lambda: intervene.switched_off(network, paths, [last]),
        "25 removed_final": lambda: intervene.removed_final(network, paths),
        "direct of 144 heads": heads,
        "source tokens of all layers for one class": sources,
        "relevance (Chefer)": lambda: views.chefer(network, x),
        "rollout": lambda: views.rollout(network, paths),
        "one step of pruning on 64 images": lambda: combine.Pruning(network, many).trials(),
    }


@torch.no_grad()
def naive(network: VisionTransformer, x: torch.Tensor) -> list[torch.Tensor]:
    """Run the whole network once for each module, which then writes zero."""
    found = []
    for off in range(1, network.config.num_paths):
        stream = network.start(network.embed(x))
        for layer, block in enumerate(network.blocks):
            for path, module in ((2 * layer + 1, block.msa), (2 * layer + 2, block.ffn)):
                write = module(stream.z)
                stream = network.add(stream, path, write * 0 if path == off else write)
        found.append(network.classify(stream.final))
    return found


def turn_about(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the shortest CPU time of each call in seconds, after one run to warm up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: min(times[1:]) for name, times in found.items()}


if __name__ == "__main__":
    main()
