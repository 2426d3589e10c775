"""The jobs on paths by name. Loads no torch."""

from __future__ import annotations

from napari_cvsuite.jobs.registry import JobSpec

__all__ = ["JOBS"]


def _job(name: str, run: str, options: str, title: str, help: str, batch: bool = False) -> JobSpec:
    return JobSpec(
        name=f"paths.{name}",
        run=f"napari_cvsuite.paths.{run}",
        options=f"napari_cvsuite.paths.{options}",
        title=title,
        help=help,
        job_class="batch" if batch else "interactive",
    )


JOBS = {
    "contributions": _job(
        "contributions",
        "contributions:run",
        "options:ContributionOptions",
        "Contributions",
        "Split the prediction of an image into the direct shares of its paths.",
    ),
    "whatif": _job(
        "whatif",
        "whatif:run",
        "options:WhatIfOptions",
        "What if",
        "Take paths away and see what the prediction becomes.",
    ),
    "stack": _job(
        "stack",
        "stack:run",
        "options:WhatIfOptions",
        "What if, every slice",
        "Take paths away, or weigh them, and see what every slice of a stack becomes.",
        batch=True,
    ),
    "map": _job(
        "map",
        "maps:run",
        "options:MapOptions",
        "Map",
        "Map what paths and the class token take from the patches.",
    ),
    "depth": _job(
        "depth",
        "depth:run",
        "options:TargetOptions",
        "Depth",
        "Read the prediction after each layer.",
    ),
    "depth_accuracy": _job(
        "depth_accuracy",
        "depth:accuracy",
        "labelled_options:DepthOptions",
        "Accuracy by depth",
        "Measure the prediction after each layer over labelled images.",
        batch=True,
    ),
    "influence": _job(
        "influence",
        "influence:run",
        "labelled_options:InfluenceOptions",
        "Influence",
        "Measure what accuracy loses without each path.",
        batch=True,
    ),
    "prune": _job(
        "prune",
        "pruning:run",
        "labelled_options:PruneOptions",
        "Prune",
        "Leave paths out of the final sum, with a check on held-out images.",
        batch=True,
    ),
    "scale": _job(
        "scale",
        "scaling:run",
        "labelled_options:ScaleOptions",
        "Scale",
        "Fit weights of the paths, with a check on held-out images.",
        batch=True,
    ),
    "fold": _job(
        "fold",
        "scaling:fold",
        "labelled_options:FoldOptions",
        "Fold",
        "Write weights in the stream into the layers themselves.",
    ),
    "frequency": _job(
        "frequency",
        "frequency:run",
        "options:FrequencyOptions",
        "Frequency",
        "Measure how coarse or fine what each path writes is.",
        batch=True,
    ),
    "lengths": _job(
        "lengths",
        "counting:run",
        "labelled_options:LengthOptions",
        "Lengths",
        "Count the paths of a network by length.",
    ),
    "report": _job(
        "report",
        "report:run",
        "report_options:ReportOptions",
        "Report",
        "Report what the paths of a network do, and whether the paper's claims hold.",
        batch=True,
    ),
    "study": JobSpec(
        name="paths.study",
        run="napari_cvsuite.paths.study:run",
        options="napari_cvsuite.paths.study_options:StudyOptions",
        title="Study",
        help="Train transformers of several depths in several ways, and measure them.",
        job_class="training",
    ),
}
