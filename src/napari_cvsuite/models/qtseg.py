"""QTSeg: query-token segmentation with dual-mix attention (arXiv 2412.17241).

The plain form of the network: reference key names, differentiable, hookable. The form used
for prediction is made from it by :mod:`napari_cvsuite.models.qtseg_fast`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.attention import DMABStage
from napari_cvsuite.models.layers import SPPF, C2f, Conv, ConvTranspose, LayerNorm2d

__all__ = ["QTSeg", "QTSegConfig", "build", "crop_to", "is_valid_side", "pad_to_valid"]

STAGES = (2, 1, 0)
"""Decoder stages from the coarsest grid (1/32) to the finest (1/8)."""


@dataclass(frozen=True)
class QTSegConfig:
    """Everything needed to rebuild a network; all but ``num_heads`` shows in the weights.

    Parameters
    ----------
    num_classes : int
        Number of output planes; 1 means one sigmoid plane, 2 or more a softmax.
    n_channel : int
        Width of the first convolution; a multiple of 4.
    mask_depths : tuple of int
        Dual-mix attention blocks at strides 8, 16 and 32.
    mlp_dim : int
        Hidden width of the token MLP.
    num_heads : int
        Attention heads.
    image_channel : int
        Number of input channels.
    bridge : {"MLFD", "Identity"}
        Multi-level feature distribution between encoder and decoder, or none.
    """

    num_classes: int = 2
    n_channel: int = 16
    mask_depths: tuple[int, int, int] = (1, 2, 3)
    mlp_dim: int = 2048
    num_heads: int = 8
    image_channel: int = 3
    bridge: str = "MLFD"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be 1 or more, got {self.num_classes}")
        if self.n_channel < 1 or (2 * self.n_channel) % self.num_heads:
            raise ValueError(
                f"n_channel must be positive with 2*n_channel divisible by {self.num_heads} heads, "
                f"got {self.n_channel}; use for example 8, 16 or 32"
            )
        if self.bridge not in ("MLFD", "MLFF", "Identity"):
            raise ValueError(f"bridge must be 'MLFD' or 'Identity', got {self.bridge!r}")

    @property
    def stage_channels(self) -> tuple[int, int, int]:
        """Channels at strides 8, 16 and 32."""
        n = self.n_channel
        return (4 * n, 8 * n, 16 * n)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for a model card or a checkpoint."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> QTSegConfig:
        """Rebuild from :meth:`to_dict`; raises ``TypeError`` for unknown names."""
        values = dict(data)
        if "mask_depths" in values:
            values["mask_depths"] = tuple(values["mask_depths"])
        return cls(**values)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> QTSegConfig:
        """Infer the configuration from the shapes of a state dict (reference key names).

        Raises
        ------
        KeyError
            A key that every QTSeg checkpoint has is missing.
        """

        def depth(stage: int) -> int:
            prefix = f"mask_decoder.DMAB_s{stage}.layers."
            return len({k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)})

        stem = state["image_encoder.conv_0.conv.weight"]
        lin1 = state["mask_decoder.DMAB_s2.layers.0.token_mlp.lin1.weight"]
        return cls(
            num_classes=int(state["mask_decoder.mask_tokens.weight"].shape[0]),
            n_channel=int(stem.shape[0]),
            mask_depths=(depth(0), depth(1), depth(2)),
            mlp_dim=int(lin1.shape[0]),
            image_channel=int(stem.shape[1]),
            bridge="MLFD" if any(k.startswith("bridge.") for k in state) else "Identity",
        )


class FPNEncoder(nn.Module):
    """Convolutional trunk with a path-aggregation neck; outputs at strides 8, 16 and 32."""

    def __init__(self, n: int, image_channel: int = 3) -> None:
        super().__init__()
        self.conv_0 = Conv(image_channel, n, 3, 2)
        self.conv_1 = Conv(n, 2 * n, 3, 2)
        self.c2f_2 = C2f(2 * n, 2 * n, 1)
        self.conv_3 = Conv(2 * n, 4 * n, 3, 2)
        self.c2f_4 = C2f(4 * n, 4 * n, 2)
        self.conv_5 = Conv(4 * n, 8 * n, 3, 2)
        self.c2f_6 = C2f(8 * n, 8 * n, 2)
        self.conv_7 = Conv(8 * n, 16 * n, 3, 2)
        self.c2f_8 = C2f(16 * n, 16 * n, 1)
        self.sppf_9 = SPPF(16 * n)
        self.c2f_12 = C2f(24 * n, 8 * n, 1, shortcut=False)
        self.c2f_15 = C2f(12 * n, 4 * n, 1, shortcut=False)
        self.conv_16 = Conv(4 * n, 4 * n, 3, 2)
        self.c2f_18 = C2f(12 * n, 8 * n, 1, shortcut=False)
        self.conv_19 = Conv(8 * n, 8 * n, 3, 2)
        self.c2f_21 = C2f(24 * n, 16 * n, 1, shortcut=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features of 4n, 8n and 16n channels at strides 8, 16 and 32."""
        f4 = self.c2f_4(self.conv_3(self.c2f_2(self.conv_1(self.conv_0(x)))))
        f6 = self.c2f_6(self.conv_5(f4))
        s9 = self.sppf_9(self.c2f_8(self.conv_7(f6)))
        f12 = self.c2f_12(torch.cat([_double(s9), f6], dim=1))
        out0 = self.c2f_15(torch.cat([_double(f12), f4], dim=1))
        out1 = self.c2f_18(torch.cat([self.conv_16(out0), f12], dim=1))
        out2 = self.c2f_21(torch.cat([self.conv_19(out1), s9], dim=1))
        return out0, out1, out2


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class MLFD(nn.Module):
    """Multi-level feature distribution: every level receives a share of the others."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.neck_0_0 = Conv(4 * n, 2 * n)
        self.neck_0_1 = ConvTranspose(8 * n, n, 2)
        self.neck_0_2 = ConvTranspose(16 * n, n, 4)
        self.neck_1_0 = Conv(4 * n, 2 * n, 3, 2)
        self.neck_1_1 = Conv(8 * n, 4 * n)
        self.neck_1_2 = ConvTranspose(16 * n, 2 * n, 2)
        self.neck_2_0 = Conv(4 * n, 4 * n, 3, 4)
        self.neck_2_1 = Conv(8 * n, 4 * n, 3, 2)
        self.neck_2_2 = Conv(16 * n, 8 * n)

    def forward(self, p: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map the three levels to three levels of the same shapes."""
        p0, p1, p2 = p
        return (
            torch.cat([self.neck_0_0(p0), self.neck_0_1(p1), self.neck_0_2(p2)], dim=1),
            torch.cat([self.neck_1_0(p0), self.neck_1_1(p1), self.neck_1_2(p2)], dim=1),
            torch.cat([self.neck_2_0(p0), self.neck_2_1(p1), self.neck_2_2(p2)], dim=1),
        )


def _normal(*shape: int) -> Tensor:
    """Return normal numbers, but any on the meta device.

    There, drawing them imports sympy and torch's compiler: seconds lost, and a crash beside Mesa,
    whose LLVM cannot share its process.
    """
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_()


class PositionEncoding(nn.Module):
    """Random Fourier features of the pixel position; the random matrix is part of the weights."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", _normal(2, channels // 2))

    def forward(self, height: int, width: int) -> Tensor:
        """Return the ``1 x C x height x width`` encoding of a grid spanning [-1, 1]."""
        matrix = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) + 0.5) / height
        x = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) + 0.5) / width
        xy = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
        angle = 2 * math.pi * ((2 * xy - 1) @ matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).permute(2, 0, 1)[None]


class ClassMLP(nn.Module):
    """Three linear layers that turn a class token into a query for the next stage."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(channels, channels),
                nn.Linear(channels, channels),
                nn.Linear(channels, out_channels),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C`` to ``B x out_channels``."""
        y: Tensor = self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))
        return y


class MaskDecoder(nn.Module):
    """Class tokens and image features refined together from stride 32 to stride 8."""

    def __init__(self, config: QTSegConfig) -> None:
        super().__init__()
        channels, n = config.stage_channels, config.n_channel
        self.num_classes = config.num_classes
        # The same numbers as Embedding's own start.
        start = _normal(config.num_classes, channels[2])
        self.mask_tokens = nn.Embedding(config.num_classes, channels[2], _weight=start)
        for s in STAGES:
            c, c_next = channels[s], channels[max(s - 1, 0)]
            stage = DMABStage(c, config.mask_depths[s], config.num_heads, config.mlp_dim)
            mlps = nn.ModuleList(ClassMLP(c, c_next) for _ in range(config.num_classes))
            up: list[nn.Module] = [nn.ConvTranspose2d(c, c_next if s else 2 * n, 2, 2)]
            up += [LayerNorm2d(c_next if s else 2 * n), nn.GELU()]
            if s == 0:
                up += [nn.ConvTranspose2d(2 * n, 4 * n, 2, 2), LayerNorm2d(4 * n), nn.GELU()]
            self.add_module(f"DMAB_s{s}", stage)
            self.add_module(f"MLP_s{s}", mlps)
            self.add_module(f"PE_s{s}", PositionEncoding(c))
            self.add_module(f"SUB_s{s}", nn.Sequential(*up))

    def stage(self, s: int) -> tuple[DMABStage, nn.ModuleList, PositionEncoding, nn.Sequential]:
        """Return the blocks, class MLPs, position encoding and up-sampler of stage `s`."""
        return tuple(getattr(self, f"{name}_s{s}") for name in ("DMAB", "MLP", "PE", "SUB"))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return masks ``B x K x H/2 x W/2`` and the embedding ``B x 4n x H/2 x W/2``."""
        tokens = self.mask_tokens.weight.expand(features[2].shape[0], -1, -1)
        carry: Tensor | None = None
        for s in STAGES:
            blocks, mlps, encode, up = self.stage(s)
            x = features[s] if carry is None else features[s] + carry
            tokens, x = blocks(tokens, x, encode(x.shape[2], x.shape[3]))
            carry = up(x)
            tokens = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(mlps)], dim=1)
        assert carry is not None
        return torch.einsum("bkc,bchw->bkhw", tokens, carry), carry


class QTSeg(nn.Module):
    """Query-token segmentation network.

    Parameters
    ----------
    config : QTSegConfig
        Architecture; the default is the published network with 9.21 M parameters.
    """

    def __init__(self, config: QTSegConfig | None = None) -> None:
        super().__init__()
        config = config or QTSegConfig()
        self.config = config
        self.image_encoder = FPNEncoder(config.n_channel, config.image_channel)
        self.mask_decoder = MaskDecoder(config)
        self.bridge: nn.Module = (
            nn.Identity() if config.bridge == "Identity" else MLFD(config.n_channel)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Segment a batch.

        Parameters
        ----------
        x : Tensor, shape (B, C, H, W), float
            Images scaled to [-1, 1]. Sides that the strides do not divide are padded by
            repeating the edge and the logits cropped back.

        Returns
        -------
        logits : Tensor, shape (B, K, H, W)
        embedding : Tensor, shape (B, 4 * n_channel, ceil(H'/2), ceil(W'/2))
            Features before the dot product with the class tokens (H', W': padded sides).
        """
        padded = pad_to_valid(x)
        masks, embedding = self.mask_decoder(self.bridge(self.image_encoder(padded)))
        logits = F.interpolate(masks, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return crop_to(logits, x), embedding


def is_valid_side(side: int) -> bool:
    """Whether the network's strides fit a side of this many pixels without padding."""
    return side > 0 and math.ceil(side / 8) % 4 == 0


def pad_to_valid(x: Tensor) -> Tensor:
    """Pad bottom and right by repeating the edge, up to multiples of 32, where needed."""
    height, width = x.shape[2:]
    bottom, right = (0 if is_valid_side(s) else -s % 32 for s in (height, width))
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def crop_to(logits: Tensor, x: Tensor) -> Tensor:
    """Undo :func:`pad_to_valid` on full-resolution maps."""
    return logits[..., : x.shape[2], : x.shape[3]]


def build(num_classes: int, n_channel: int = 16) -> QTSeg:
    """Return an eval-mode network with the reference's key names and random weights.

    Parameters
    ----------
    num_classes : int
        Output planes K; 1 for a single sigmoid plane.
    n_channel : int
        Width of the first convolution (8, 16 and 32 are usual).
    """
    return QTSeg(QTSegConfig(num_classes=num_classes, n_channel=n_channel)).eval()
