"""EnsembleScale: weights of the paths, fitted on cached rows or folded into a network's weights.

The idea is that of arXiv 2308.06548, whose detail is not public to us: start value, fit and
placements are this project's definitions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.adam import Adam
from napari_cvsuite.models.vit import PLACEMENTS, VisionTransformer, ViTConfig
from napari_cvsuite.paths.exact import exact, with_gradients
from napari_cvsuite.paths.reading import checked, classify_rows
from napari_cvsuite.paths.rows import Rows, Score, check_alpha, chunks, combined, score, score_of

__all__ = ["Fitted", "Moment", "fit_scale", "folded", "with_scale"]

STEPS, RATE, PATIENCE = 150, 0.02, 20


@dataclass(frozen=True)
class Moment:
    """Scores at one step of a fit.

    Parameters
    ----------
    selection : Score
        On the images of the fit.
    held_out : Score or None
        On others.
    """

    selection: Score
    held_out: Score | None

    @property
    def judged(self) -> float:
        """The loss by which steps are compared: of the held-out images, if there are any."""
        return (self.held_out or self.selection).loss


@dataclass(frozen=True)
class Fitted:
    """Weights of the paths, and how they came about.

    Parameters
    ----------
    alpha : Tensor, shape (P,) or (P, D)
        Of the best step; 1 throughout if none was better.
    history : tuple of Moment
        Before each step, and after the last.
    best_step : int
        Place of the best in the history.
    """

    alpha: Tensor
    history: tuple[Moment, ...]
    best_step: int

    @property
    def start(self) -> Moment:
        """Scores with all weights 1."""
        return self.history[0]

    @property
    def best(self) -> Moment:
        """Scores with :attr:`alpha`."""
        return self.history[self.best_step]


@exact()
def fit_scale(
    model: nn.Module,
    selection: Rows,
    held_out: Rows | None = None,
    per_channel: bool = False,
    steps: int = STEPS,
    rate: float = RATE,
    patience: int = PATIENCE,
    context: Context | None = None,
) -> Fitted:
    """Fit weights of the paths in the final sum: Adam, cross-entropy, all images at each step.

    Parameters
    ----------
    model : nn.Module
        Its weights stay as they are.
    selection : Rows
        Labelled images of the fit.
    held_out : Rows, optional
        Others, which choose the best step and end the fit early. That makes them part of the
        choice: keep a third set for the score to be reported.
    per_channel : bool
        One weight a path and channel instead of one a path.
    steps : int
    rate : float
        Adam's.
    patience : int
        Steps without a lower held-out loss after which the fit ends.
    context : Context, optional
        Asked for cancellation; told of progress.

    Returns
    -------
    Fitted
        The step with the lowest held-out loss (selection loss, without a held-out set) among those
        whose selection loss is not above the one at the start.

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer.
    ValueError
        Images have no labels.
    Cancelled
    """
    network, context = checked(model), context or Context()
    values = selection.values
    shape = (len(values), values.shape[-1]) if per_channel else (len(values),)
    alpha = torch.ones(shape, dtype=values.dtype, device=values.device)
    adam, best, best_step = Adam(rate), alpha, 0
    history: list[Moment] = []
    for step in range(steps + 1):
        context.progress(step, steps, "fitting the weights of the paths")
        now, slope = _loss_and_slope(network, selection, alpha)
        history.append(Moment(now, None if held_out is None else score(network, held_out, alpha)))
        moment, lowest = history[-1], history[best_step]
        if now.loss <= history[0].selection.loss and moment.judged < lowest.judged:
            best, best_step = alpha, step
        if held_out is not None and step - best_step >= patience:
            break
        alpha = alpha - adam.step(slope)
    return Fitted(best, tuple(history), best_step)


@exact()
def with_scale(model: nn.Module, alpha: Tensor, placement: str = "final") -> VisionTransformer:
    """Return a copy of a network whose paths are weighed by an EnsembleScale.

    Parameters
    ----------
    model : nn.Module
        Weights that it has at the same place are multiplied.
    alpha : Tensor, shape (P,) or (P, D)
    placement : {"final", "stream"}
        Whether the sum that the classifier reads is weighed, or all that is written to the stream.

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer.
    ValueError
        Shape or placement do not fit, or the network has weights at the other place.
    """
    network = checked(model)
    config, state = network.config, _copied(network)
    if placement not in PLACEMENTS:
        raise ValueError(f"placement must be one of {', '.join(PLACEMENTS)}; got {placement!r}")
    check_alpha(network, alpha)
    alpha = alpha.detach().to(network.encoder.pos_embedding).clone()
    before = state.get("ensemble_scale.alpha")
    if before is not None:
        if config.placement != placement:
            raise ValueError(
                f"the network weighs its paths in the {config.placement} already; fold these "
                "weights into the others first"
            )
        if before.ndim != alpha.ndim:
            before, alpha = (one[:, None] if one.ndim == 1 else one for one in (before, alpha))
        alpha = alpha * before
    state["ensemble_scale.alpha"] = alpha
    kind = "scalar" if alpha.ndim == 1 else "channel"
    return _rebuilt(replace(config, ensemble_scale=kind, placement=placement), state)


@exact()
def folded(model: nn.Module) -> VisionTransformer:
    """Return a copy without EnsembleScale, whose weights hold that of the stream.

    The weights of each path go into the output matrix and bias of its module, those of the
    embedding into projection, positions and tokens. Logits stay the same up to rounding.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer.
    ValueError
        It weighs the final sum alone, which no weights of its layers can express.
    """
    network = checked(model)
    config, state = network.config, _copied(network)
    alpha = state.pop("ensemble_scale.alpha", None)
    if alpha is not None:
        if not network.in_stream:
            raise ValueError(
                "weights of the final sum cannot be folded, since later layers read the paths as "
                "they are; keep the network with its EnsembleScale"
            )
        if alpha.ndim == 1:
            alpha = alpha[:, None].expand(-1, config.hidden_dim)
        for key, path in _outputs(network):
            tensor = state[key]
            # Output channels come last in tokens and positions, first in matrices and kernels.
            last = key.endswith(("token", "tokens", "embedding"))
            shape = (-1,) if last else (-1, *[1] * (tensor.ndim - 1))
            state[key] = tensor * alpha[path].reshape(shape)
    return _rebuilt(replace(config, ensemble_scale="none", placement="final"), state)


def _outputs(model: VisionTransformer) -> list[tuple[str, int]]:
    """Return the keys of all that ends in the stream, and the path that each belongs to."""
    tokens = ("class_token", "distillation_token", "register_tokens")
    projection = "conv_proj.conv_last" if model.config.stem else "conv_proj"
    found = [(name, 0) for name in tokens if getattr(model, name) is not None]
    found.append(("encoder.pos_embedding", 0))
    names = [(projection, 0)]
    for layer in range(model.config.num_layers):
        block = f"encoder.layers.encoder_layer_{layer}"
        names += [(f"{block}.self_attention.out_proj", 2 * layer + 1)]
        names += [(f"{block}.mlp.3", 2 * layer + 2)]
    return found + [(f"{name}.{part}", path) for name, path in names for part in ("weight", "bias")]


def _copied(model: VisionTransformer) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def _rebuilt(config: ViTConfig, state: dict[str, Tensor]) -> VisionTransformer:
    with torch.device("meta"):
        made = VisionTransformer(config)
    made.load_state_dict(state, assign=True)
    return made.eval().requires_grad_(True)


def _loss_and_slope(model: VisionTransformer, rows: Rows, alpha: Tensor) -> tuple[Score, Tensor]:
    """Return the scores of weighed sums, and the gradient of their loss by the weights."""
    labels, slope, found = rows.wanted(model.config.num_classes), torch.zeros_like(alpha), []
    for part in chunks(rows):
        values = rows.values[:, part].detach()
        with with_gradients():
            summed = combined(values, alpha).requires_grad_()
            logits = classify_rows(model, summed)
            # Labels from torch's inference mode cannot take part otherwise.
            wanted = labels[part].clone()
            loss = F.cross_entropy(logits, wanted, reduction="sum") / len(rows)
            (by_sum,) = torch.autograd.grad(loss, summed)
        # The sum is linear in the weights, so that their gradient needs no graph of its own.
        if alpha.ndim == 1:
            slope += torch.stack([torch.vdot(one.flatten(), by_sum.flatten()) for one in values])
        else:
            slope += torch.stack([(one * by_sum).flatten(0, -2).sum(dim=0) for one in values])
        found.append(logits.detach())
    return score_of(torch.cat(found), labels), slope
