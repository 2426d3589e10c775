"""Do the claims of Chen et al. 2020 (arXiv 2006.09373) hold on a pair of classifiers?

The rules are of this project. A claim holds only where the numbers and their intervals show it;
"does not hold" includes differences that so many images cannot tell from chance.
"""

from __future__ import annotations

from napari_cvsuite.neurons.report_parts import (
    BiasPart,
    DissectionPart,
    DiversityPart,
    NoisePart,
    SmoothnessPart,
)
from napari_cvsuite.reports.claims import UNKNOWN, Claim, Skipped, verdict
from napari_cvsuite.training.accuracy import wilson

__all__ = ["features", "judge", "shape", "smoother", "types"]

LOW_LEVEL = {"color", "colors", "colour", "colours", "texture", "textures"}
"""Names of groups of concepts that count as low-level features."""


def judge(
    bias: BiasPart | Skipped,
    smoothness: SmoothnessPart,
    noise: NoisePart | Skipped,
    dissection: DissectionPart | Skipped,
    diversity: DiversityPart | Skipped,
) -> tuple[Claim, ...]:
    """Return the claims in the paper's order, each judged by its rule."""
    return shape(bias), smoother(smoothness, noise), features(dissection), types(diversity)


def shape(part: BiasPart | Skipped) -> Claim:
    """Judge by the shape bias."""
    text = "The robust network relies more on shape than the standard one."
    rule = "The 95 % interval of R's shape bias lies above that of S."
    if isinstance(part, Skipped):
        return Claim(text, UNKNOWN, rule, part.reason)
    S, R = (one.bias.total.bias for one in (part.standard, part.robust))
    if S is None or R is None:
        return Claim(text, UNKNOWN, rule, "A network decided for neither shape nor texture.")
    because = (
        f"S {S.value:.3f} [{S.low:.3f}, {S.high:.3f}], R {R.value:.3f} [{R.low:.3f}, {R.high:.3f}]."
    )
    return Claim(text, verdict(R.low > S.high), rule, because)


def smoother(smoothness: SmoothnessPart, noise: NoisePart | Skipped) -> Claim:
    """Judge by the first kernels, and by the noise that gets through every layer."""
    text = "Channels of the robust network detect smoother patterns, which blocks noise."
    rule = (
        "TV/L1 of the first kernels is lower in R (they are all there are, so without an "
        "interval), and in every layer the 95 % interval of the relative change under noise, R "
        "over S, lies below 1."
    )
    if isinstance(noise, Skipped):
        return Claim(text, UNKNOWN, rule, noise.reason)
    first = smoothness.kernels[0]
    S, R = first.standard.tv_over_l1, first.robust.tv_over_l1
    blocked = [row.layer for row in noise.layers if row.ratio.high < 1]
    because = (
        f"TV/L1 of the first kernels: S {S:.3f}, R {R:.3f}. R changes less in {len(blocked)} of "
        f"{len(noise.layers)} layers{': ' if blocked else ''}{', '.join(blocked)}."
    )
    return Claim(text, verdict(R < S and len(blocked) == len(noise.layers)), rule, because)


def features(part: DissectionPart | Skipped) -> Claim:
    """Judge by the groups of concepts that channels detect."""
    text = "Channels of the robust network detect more low-level features instead of objects."
    rule = (
        "Of the reliable detectors, the share that detects colours or textures has a 95 % interval "
        "in R that lies above that in S. It takes masks in groups, some of them called colour or "
        "texture."
    )
    if isinstance(part, Skipped):
        return Claim(text, UNKNOWN, rule, part.reason)
    low = [row.group.lower() in LOW_LEVEL for row in part.concepts]
    if all(low) or not any(low):
        because = "The masks are not of low-level features and of objects, in groups of their own."
        return Claim(text, UNKNOWN, rule, because)
    rates = []
    for place in (0, 1):
        counts = [row.reliable[place] for row in part.concepts]
        if not sum(counts):
            return Claim(text, UNKNOWN, rule, "A network has no reliable detector.")
        small = sum(count for count, one in zip(counts, low, strict=True) if one)
        rates.append(wilson(small, sum(counts)))
    S, R = rates
    because = (
        f"S {S.value:.1%} [{S.low:.1%}, {S.high:.1%}] of {S.n} detectors, R {R.value:.1%} "
        f"[{R.low:.1%}, {R.high:.1%}] of {R.n}."
    )
    return Claim(text, verdict(R.low > S.high), rule, because)


def types(part: DiversityPart | Skipped) -> Claim:
    """Judge by the classes among top images."""
    text = "Channels of the robust network detect fewer types of inputs."
    rule = (
        "The 95 % interval of the mean number of classes among a channel's top images, over the "
        "channels of all layers, lies lower in R than in S. The measure is a definition of this "
        "project, not the paper's, which is not public."
    )
    if isinstance(part, Skipped):
        return Claim(text, UNKNOWN, rule, part.reason)
    S, R = part.total.classes
    because = (
        f"S {S.value:.2f} [{S.low:.2f}, {S.high:.2f}] classes, R {R.value:.2f} [{R.low:.2f}, "
        f"{R.high:.2f}]."
    )
    return Claim(text, verdict(R.high < S.low), rule, because)
