"""What the Paths dock computes on the worker thread; knows no Qt, and loads torch when called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import InputReference
from napari_cvsuite.paths.options import (
    ContributionOptions,
    MapOptions,
    PathOptions,
    WhatIfOptions,
)
from napari_cvsuite.widgets.paths_rows import DIFFERENCE, ESTIMATE, Column, effect_column

if TYPE_CHECKING:
    from napari_cvsuite.paths.contributions import Contributions
    from napari_cvsuite.paths.maps import PathMap
    from napari_cvsuite.paths.replace import Replacement
    from napari_cvsuite.paths.session import Answer, Session
    from napari_cvsuite.paths.subject import Target

__all__ = ["Asked", "Instead", "Looked", "effect", "look", "map_of", "patch", "weighed"]


@dataclass(frozen=True)
class Asked:
    """What the dock looks at.

    Parameters
    ----------
    image : Image
    options : ContributionOptions
    """

    image: Image
    options: ContributionOptions

    def view(self) -> dict[str, Any]:
        """Return the options of what the network sees, and of which network it is."""
        return {one.name: getattr(self.options, one.name) for one in fields(PathOptions)}

    def what_if(
        self, intervention: str, replacement: str, target: str, off: str = "", weights: str = ""
    ) -> WhatIfOptions:
        """Return the options of an intervention on each part in turn, or on those named."""
        return WhatIfOptions(
            **self.view(),
            target=target,
            intervention=intervention,
            replacement=replacement,
            off=off,
            weights=weights,
            estimate=False,
        )


@dataclass(frozen=True)
class Instead:
    """What paths write when they are replaced.

    Parameters
    ----------
    kind : {"zero", "mean", "other"}
    name : str
        In words.
    others : tuple of Image
        Images that it is made from; none takes the other slices of the image itself.
    key : tuple
        The same for the same images.
    references : tuple of InputReference
        Where these images are.
    """

    kind: str = "zero"
    name: str = "zero"
    others: tuple[Image, ...] = ()
    key: tuple[Any, ...] = ()
    references: tuple[InputReference, ...] = ()


@dataclass
class Looked:
    """A network that has been run on an image, ready for questions.

    Parameters
    ----------
    asked : Asked
    session : Session
    found : Contributions or None
        None where the logits are no sum over the paths.
    problem : str
        Why not.
    """

    asked: Asked
    session: Session
    found: Contributions | None
    problem: str
    replacements: dict[tuple[Any, ...], Replacement] = field(default_factory=dict)

    def target(self, text: str) -> Target:
        """Return a class, or the difference of two; raises OptionError."""
        from napari_cvsuite.paths.subject import target_of

        return target_of(text, self.session.subject, self.session.logits)

    def instead(self, one: Instead, heads: bool, context: Context) -> Replacement | None:
        """Return what is written in place of a path; made once and kept."""
        from napari_cvsuite.paths.whatif import replacement_for

        if one.kind == "zero":
            return None
        for with_heads in {heads, True}:
            if (one.kind, one.key, with_heads) in self.replacements:
                return self.replacements[one.kind, one.key, with_heads]
        kind = "total_head" if heads else "total_module"
        options = self.asked.what_if(kind, one.kind, "")
        made = replacement_for(self.session, self.asked.image, options, context, one.others)
        assert made is not None
        self.replacements[one.kind, one.key, heads] = made
        return made


def look(asked: Asked, context: Context) -> Looked:
    """Run a network on an image and split its prediction.

    Raises
    ------
    ValueError, LookupError, Cancelled
        As :meth:`napari_cvsuite.paths.session.Session.start`.
    """
    from napari_cvsuite.paths.contributions import of_session
    from napari_cvsuite.paths.decompose import NotDecomposableError
    from napari_cvsuite.paths.session import Session

    context.progress(0, 0, "running the network")
    session = Session.start(asked.image, asked.options, context)
    try:
        return Looked(asked, session, of_session(session, asked.options), "")
    except NotDecomposableError as error:
        return Looked(asked, session, None, str(error))


def weighed(
    looked: Looked,
    weights: Mapping[int, float],
    intervention: str,
    instead: Instead,
    context: Context,
) -> Answer:
    """Return the prediction while some paths are off or weighed.

    Parameters
    ----------
    looked : Looked
    weights : mapping of int to float
        By the number of the path; 0 is off.
    intervention : {"removed_final", "total_module"}
    instead : Instead
        For total_module.
    context : Context
    """
    made = None
    if intervention == "total_module" and weights:
        made = looked.instead(instead, False, context)
    named = {looked.session.names[number]: one for number, one in weights.items()}
    return looked.session.weighed(named, intervention, made, context)


def effect(
    looked: Looked, intervention: str, instead: Instead, target: str, context: Context
) -> Column:
    """Return what an intervention does to each part in turn.

    Parameters
    ----------
    looked : Looked
    intervention : str
        A total effect, :data:`ESTIMATE`, or :data:`DIFFERENCE` to the image of `instead`.
    instead : Instead
    target : str
        Class that an estimate is for.
    context : Context
    """
    from napari_cvsuite.paths.whatif import of_session

    if intervention == ESTIMATE:
        return _estimate(looked, target, context)
    if intervention == DIFFERENCE:
        return _difference(looked, instead, context)
    made = looked.instead(instead, intervention == "total_head", context)
    options = looked.asked.what_if(intervention, instead.kind, target)
    kept = "" if intervention == "removed_final" else instead.name
    return effect_column(of_session(looked.session, options, context, made), kept)


def _estimate(looked: Looked, text: str, context: Context) -> Column:
    from napari_cvsuite.paths.intervene import attribution_patching

    session, target = looked.session, looked.target(text)
    slopes = attribution_patching(session.model, session.x, target.classes, context)
    values = target.chosen(slopes[:, 0]).float().cpu().numpy()
    return Column(ESTIMATE, "", session.names, values, target.name)


def _difference(looked: Looked, instead: Instead, context: Context) -> Column:
    """Return direct shares less those of another image."""
    from napari_cvsuite.paths.contributions import of_session

    if looked.found is None:
        raise ValueError(looked.problem)
    other = looked.session.another(instead.others[0], 0, context)
    less = of_session(other, looked.asked.options)
    names = (*looked.found.names, "constant")
    return Column(DIFFERENCE, instead.name, names, looked.found.shares - less.shares)


def map_of(looked: Looked, options: MapOptions, context: Context) -> PathMap:
    """Return a map over the patches."""
    from napari_cvsuite.paths.maps import of_session

    return of_session(looked.session, options, context)


def patch(looked: Looked, row: int, column: int, text: str) -> Column:
    """Return what every path draws directly from one patch of the image, or writes there.

    Parameters
    ----------
    looked : Looked
    row, column : int
        Of the patch.
    text : str
        The class.
    """
    from napari_cvsuite.paths.decompose import source_direct, token_map

    session, target = looked.session, looked.target(text)
    config, paths = session.model.config, session.paths
    place = row * config.grid + column
    named = f"direct, patch ({row}, {column})"
    if config.pool == "token":
        sources = source_direct(session.model, paths, target.classes)[:, config.prefix + place, 0]
        values = target.chosen(sources).float().cpu().numpy()
        return Column(named, "", session.names[1::2], values, target.name)
    maps = [token_map(session.model, paths, k)[:, 0, place] for k in target.classes]
    whole = maps[0] if len(maps) == 1 else maps[0] - maps[1]
    return Column(named, "", session.names, whole.float().cpu().numpy(), target.name)
