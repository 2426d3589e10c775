"""Do the claims of Chang et al. 2023 (arXiv 2308.06548) hold on a transformer, and in studies?

The claims are those of the paper's abstract; its settings and numbers are not public to us, so the
rules are of this project. A claim holds only where the numbers and their intervals show it; "does
not hold" includes differences that so many images or seeds cannot tell from chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from napari_cvsuite.paths.report_parts import (
    CheckPart,
    FrequencyPart,
    InfluencePart,
    PruningPart,
    ScalePart,
    Studies,
    StudyPart,
    points,
)
from napari_cvsuite.paths.study_options import PLAIN
from napari_cvsuite.paths.study_result import Seeds, accuracy, difference
from napari_cvsuite.reports.claims import UNKNOWN, Claim, Skipped, verdict

__all__ = [
    "deeper",
    "exact_sum",
    "high_pass",
    "judge",
    "later",
    "learned_scale",
    "net_gains",
    "pruning_helps",
    "scale_helps",
    "short_paths_learn",
    "votes",
]

TOLERANCE = 5e-6
"""Largest difference of sums, for each unit of the largest logit: rounding of float32."""
SCALES = ("scale-channel", "scale-scalar")
DISTILLED = ("distill-logit", "distill-hidden")
IN_STUDIES = (
    "in every study with two seeds or more, Student's 95 % interval of the mean difference over "
    "seeds, to the plain network of the same depth and seed, lies above 0 for at least one kind"
)


def judge(
    check: CheckPart,
    influence: InfluencePart,
    pruning: PruningPart,
    scale: ScalePart,
    studies: Studies | Skipped,
    frequency: FrequencyPart | Skipped,
) -> tuple[Claim, ...]:
    """Return the claims in the paper's order, each judged by its rule."""
    return (
        exact_sum(check),
        votes(influence),
        later(influence),
        pruning_helps(pruning, studies),
        scale_helps(scale),
        learned_scale(studies),
        deeper(studies),
        high_pass(frequency),
        short_paths_learn(studies),
        net_gains(studies),
    )


def exact_sum(part: CheckPart) -> Claim:
    """Judge by the sums of shares."""
    limit = TOLERANCE * max(1.0, part.largest)
    holds = max(part.paths, part.heads, part.sources) <= limit and part.parts == 0
    return Claim(
        "The cascade of attention and feed-forward network equals parallel paths, whose sum is the "
        "prediction.",
        verdict(holds),
        f"Shares add up, to {TOLERANCE:g} for each unit of the largest logit (at least 1), and "
        "run part by part the network gives its own logits bit for bit.",
        f"Largest difference {part.paths:.1e} for paths, {part.heads:.1e} for heads, "
        f"{part.sources:.1e} for source tokens (allowed {limit:.1e}); part by part "
        f"{part.parts:.1e}. {part.images} images.",
    )


def votes(part: InfluencePart) -> Claim:
    """Judge by what the paths say alone."""
    text = "A path feeds the classifier directly."
    rule = (
        "Of more than half of the paths, the direct share alone names more images rightly than "
        "the most frequent class as a constant answer: the 95 % interval lies above its share."
    )
    if not part.zero.alone:
        return Claim(text, UNKNOWN, rule, "The head has a tanh, so that a path has no share.")
    named = dict(zip(part.zero.names, part.zero.alone, strict=True))
    found = [name for name, rate in named.items() if rate.low > part.frequent]
    because = (
        f"{len(found)} of {len(named)} paths: {', '.join(found) or 'none'}. The most frequent "
        f"class has {part.frequent:.1%} of {part.zero.accuracy.n} images."
    )
    return Claim(text, verdict(2 * len(found) > len(named)), rule, because)


def later(part: InfluencePart) -> Claim:
    """Judge by what the network loses without short paths, as votes and throughout."""
    removed = part.effects("removed_final")
    replaced = part.effects("total_module", "mean")
    names = part.early()
    # The loss tells more than accuracy, which many single paths leave as it is.
    found = [name for name in names if replaced[name].loss.low > removed[name].loss.high]
    shown = []
    for words, some in (("as votes", removed), ("throughout", replaced)):
        effects = [some[name] for name in names]
        loss = sum(one.loss.value for one in effects) / len(names)
        change = 100 * sum(one.accuracy.value for one in effects) / len(names)
        shown.append(f"{words} {loss:+.4f} in loss, {change:+.2f} points in accuracy")
    return Claim(
        "A path feeds features to later, longer paths; short paths matter more as such inputs "
        "than as votes.",
        verdict(2 * len(found) > len(names)),
        "For more than half of the paths in the first half of the layers, the mean cross-entropy "
        "rises more when the path is replaced by its mean throughout (total_module) than when it "
        "is left out of the final sum (removed_final): the 95 % intervals do not touch.",
        f"{len(found)} of {len(names)} paths: {', '.join(found) or 'none'}. Mean change over "
        f"these {len(names)}: {'; '.join(shown)}.",
    )


def pruning_helps(part: PruningPart, studies: Studies | Skipped) -> Claim:
    """Judge by the held-out accuracy after greedy pruning."""
    found = part.greedy
    before, after = found.steps[0].held_out, found.steps[found.kept].held_out
    because = (
        f"Left out: {', '.join(found.removed) or 'nothing'}. Held-out accuracy "
        f"{points(found.held_out_change)}, loss {before.loss:.4f} to {after.loss:.4f}, "
        f"{before.images} images."
    )
    for one in _measured(studies):
        row = one.row(PLAIN, one.study.deepest)
        if row is not None:
            because += f" {_named(one)}, {row.layers} layers: {_over(row.pruning)}."
    return Claim(
        "Some paths pull the prediction down, and pruning them raises accuracy.",
        verdict(found.held_out_change.low > 0),
        "Greedy pruning, chosen on one part of the images, raises accuracy on the held-out part: "
        "the 95 % interval of the change, by a paired bootstrap over images, lies above 0. Studies "
        "are shown beside it.",
        because,
    )


def scale_helps(part: ScalePart) -> Claim:
    """Judge by the held-out accuracy with fitted weights."""
    holds = any(one.held_out_change.low > 0 for _, one in part.named)
    shown = "; ".join(
        f"{name}: {points(one.held_out_change)}, loss {one.before.loss:.4f} to {one.after.loss:.4f}"
        for name, one in part.named
    )
    return Claim(
        "EnsembleScale, fitted to the trained network, raises accuracy.",
        verdict(holds),
        "With one weight a path, or one a path and channel, the 95 % interval of the change of "
        "held-out accuracy lies above 0. The fit sees images that training may not have seen.",
        f"{shown}; {part.scalar.before.images} images.",
    )


def learned_scale(studies: Studies | Skipped) -> Claim:
    """Judge by networks that learn the weights of their paths with all others."""
    return _of_studies(
        "EnsembleScale, trained with the network, raises accuracy.",
        f"Accuracy: {IN_STUDIES} of EnsembleScale.",
        studies,
        SCALES,
        lambda part, variant: _gain(part, variant, "accuracy_gain"),
    )


def deeper(studies: Studies | Skipped) -> Claim:
    """Judge by deep networks with weights of the paths against the best plain ones."""
    return _of_studies(
        "With EnsembleScale, transformers can go deeper.",
        "In every study with two depths and two seeds or more, the deepest networks with at least "
        "one kind of EnsembleScale are more accurate than the plain networks of the depth that is "
        "best on the held-out part: Student's 95 % interval over seeds lies above 0.",
        studies,
        SCALES,
        _against_best,
    )


def high_pass(part: FrequencyPart | Skipped) -> Claim:
    """Judge by the frequencies of the sum before and after paths are combined anew."""
    text = "Combining paths by pruning or weights acts as a high-pass filter."
    rule = (
        "For every combination that changes the sum, the upper half of its frequencies gains "
        "against DC: the 95 % interval over images lies above 0."
    )
    if isinstance(part, Skipped):
        return Claim(text, UNKNOWN, rule, part.reason)
    changing = [one for one in part.filters if one.changed]
    if not changing:
        return Claim(text, UNKNOWN, rule, "No combination changes the sum.")
    shown = "; ".join(
        f"{one.name}: {one.kind}, {one.change.value:+.3f} [{one.change.low:+.3f}, "
        f"{one.change.high:+.3f}] in log amplitude"
        for one in changing
    )
    holds = all(one.change.low > 0 for one in changing)
    return Claim(text, verdict(holds), rule, f"{shown}; {part.curves.images} images.")


def short_paths_learn(studies: Studies | Skipped) -> Claim:
    """Judge by what the classifier says of sums of short paths."""
    return _of_studies(
        "Self-distillation carries knowledge from long paths to short ones.",
        "Mean accuracy of the classifier on the sums up to a third of the layers to all but one: "
        f"{IN_STUDIES} of distillation.",
        studies,
        DISTILLED,
        lambda part, variant: _gain(part, variant, "short_gain"),
    )


def net_gains(studies: Studies | Skipped) -> Claim:
    """Judge by the accuracy of whole networks."""
    return _of_studies(
        "Self-distillation improves the network.",
        f"Accuracy: {IN_STUDIES} of distillation.",
        studies,
        DISTILLED,
        lambda part, variant: _gain(part, variant, "accuracy_gain"),
    )


def _measured(studies: Studies | Skipped) -> tuple[StudyPart, ...]:
    return () if isinstance(studies, Skipped) else studies.parts


def _of_studies(
    text: str,
    rule: str,
    studies: Studies | Skipped,
    variants: Iterable[str],
    gain: Callable[[StudyPart, str], Seeds | None],
) -> Claim:
    """Judge a claim by a difference that at least one variant must show in every study."""
    if isinstance(studies, Skipped):
        return Claim(text, UNKNOWN, rule, studies.reason)
    shown, holds = [], []
    for part in studies.parts:
        found = {name: gain(part, name) for name in variants}
        known = {k: one for k, one in found.items() if one is not None and len(one.seeds) > 1}
        shown += [f"{_named(part)}, {name}: {_over(one)}" for name, one in known.items()]
        holds += [any(one.mean.low > 0 for one in known.values())] if known else []
    if not holds:
        return Claim(text, UNKNOWN, rule, "No study has such networks with two seeds or more.")
    return Claim(text, verdict(all(holds)), rule, "; ".join(shown) + ".")


def _gain(part: StudyPart, variant: str, name: str) -> Seeds | None:
    row = part.row(variant, part.study.deepest)
    found: Seeds | None = None if row is None else getattr(row, name)
    return found


def _against_best(part: StudyPart, variant: str) -> Seeds | None:
    """Compare the deepest networks of a variant with plain ones of the best depth.

    Chosen on the held-out part: the largest of several test accuracies would be too large.
    """
    study = part.study
    runs = study.of(variant, study.deepest)
    if not runs or len(study.depths) < 2:
        return None
    held = {
        depth: sum(one.score for one in study.of(PLAIN, depth)) / len(study.of(PLAIN, depth))
        for depth in study.depths
    }
    best = max(study.depths, key=lambda depth: held[depth])
    return difference(runs, study.of(PLAIN, best), accuracy)


def _named(part: StudyPart) -> str:
    return f"Study on {part.study.name}"


def _over(found: Seeds) -> str:
    if len(found.seeds) < 2:
        return f"{100 * found.mean.value:+.2f} points, one seed"
    return f"{points(found.mean)} over {len(found.seeds)} seeds"
