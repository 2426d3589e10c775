"""One image in one transformer, run once and kept, so that questions are answered quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Likely, Seen, Subject, opened, see_plane
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths, collect
from napari_cvsuite.paths.options import PathOptions
from napari_cvsuite.paths.replace import Replacement
from napari_cvsuite.paths.subject import names_of, normalised, number_of, provenance, transformer
from napari_cvsuite.paths.weigh import weighed_final, weighed_throughout

__all__ = ["Answer", "Session"]


@dataclass(frozen=True)
class Answer:
    """What a prediction becomes while some paths are off or weighed.

    Parameters
    ----------
    weights : dict of str to float
        Of these paths, in the order of the sum; 0 is off.
    intervention, replacement : str
        How they were taken away, or in part.
    logits : ndarray of float32, shape (K,)
    likely : tuple of Likely
        The likeliest classes.
    changed : bool
        Whether another class is the likeliest now.
    """

    weights: dict[str, float]
    intervention: str
    replacement: str
    logits: NDArray[np.float32]
    likely: tuple[Likely, ...]
    changed: bool

    @property
    def name(self) -> str:
        """What was changed, such as ``"msa_0+ffn_3*0.5"``."""
        named = (name if not one else f"{name}*{one:g}" for name, one in self.weights.items())
        return "+".join(named)


@dataclass(frozen=True)
class Session:
    """A private copy of a transformer, and everything it wrote for one plane of an image.

    It holds no lease, so that it can be kept between jobs; its memory is freed with it.

    Parameters
    ----------
    subject : Subject
    model : VisionTransformer
        The transformer in the subject's network.
    planes : Planes
        Of the image.
    seen : Seen
        Its plane.
    x : Tensor, shape (1, 3, S, S)
        Normalised, on the subject's device.
    paths : Paths
    """

    subject: Subject
    model: VisionTransformer
    planes: Planes
    seen: Seen
    x: Tensor
    paths: Paths

    @classmethod
    def start(cls, image: Image, options: PathOptions, context: Context) -> Session:
        """Load a transformer and run it on one plane of an image.

        Raises
        ------
        ImageError
            The image cannot be used; the message says what to do.
        UnknownModelError, CardError, WeightsError, DeviceError
            The model is not to be had, or is no vision transformer.
        NotDecomposableError, ValueError, Cancelled
            The weights are in half precision, or give logits that are not finite.
        """
        with opened(options, context) as subject:
            model = transformer(subject)
            planes = Planes(image, subject.options, context.check)
            return cls._of(subject, model, planes, options.plane, context)

    def another(self, image: Image, plane: int, context: Context) -> Session:
        """Return a session with the same network and one plane of another image.

        Raises
        ------
        ImageError, ValueError, Cancelled
            As :meth:`start`.
        """
        return self.on(Planes(image, self.subject.options, context.check), plane, context)

    def on(self, planes: Planes, plane: int, context: Context) -> Session:
        """Return a session with the same network and one of several planes; see :meth:`another`."""
        return self._of(self.subject, self.model, planes, plane, context)

    @classmethod
    def _of(
        cls,
        subject: Subject,
        model: VisionTransformer,
        planes: Planes,
        plane: int,
        context: Context,
    ) -> Session:
        seen = see_plane(planes, plane, subject)
        x = normalised(subject, seen.tensor())
        return cls(subject, model, planes, seen, x, collect(model, x, context))

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.planes.image.name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the paths, in the order of the sum."""
        return names_of(self.model)

    @property
    def logits(self) -> Tensor:
        """Logits of the image, K values on the CPU."""
        return self.paths.logits[0].cpu()

    def provenance(self, options: Any, **more: Any) -> dict[str, Any]:
        """Return what made a result."""
        return provenance(self.subject, options, self.seen, image=self.name, **more)

    def weighed(
        self,
        weights: Mapping[str, float],
        intervention: str = "removed_final",
        replacement: Replacement | None = None,
        context: Context | None = None,
    ) -> Answer:
        """Return the prediction while some paths are weighed together; a weight of 0 is off.

        Parameters
        ----------
        weights : mapping of str to float
            By name of path; none gives the prediction itself.
        intervention : {"removed_final", "total_module"}
            Weighed in the final sum alone, which costs next to nothing; or throughout, which costs
            less than one run of the network.
        replacement : Replacement, optional
            What is written throughout in the place of what a weight takes away; default nothing
            (zero).
        context : Context, optional
            Asked for cancellation between modules.

        Raises
        ------
        OptionError
            There is no such path.
        ValueError
            There is no such intervention, or a weight is not finite.
        Cancelled
        """
        by_number = {number_of(name, self.names): one for name, one in weights.items()}
        by_number = dict(sorted(by_number.items()))
        if intervention == "removed_final":
            found = weighed_final(self.model, self.paths, by_number)
        elif intervention == "total_module":
            found = weighed_throughout(self.model, self.paths, by_number, replacement, context)
        else:
            raise ValueError(
                f"paths are taken away together by removed_final or total_module, not by "
                f"{intervention!r}"
            )
        logits = found[0].cpu()
        named = replacement.name if replacement is not None else "zero"
        return Answer(
            {self.names[number]: one for number, one in by_number.items()},
            intervention,
            named if intervention == "total_module" else "zero",
            logits.float().numpy(),
            self.subject.likely(logits),
            int(logits.argmax()) != int(self.logits.argmax()),
        )
