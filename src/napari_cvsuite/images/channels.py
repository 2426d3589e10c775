"""Which channels of an image a network sees."""

from __future__ import annotations

import re

from napari_cvsuite.images.image import Image, ImageError

__all__ = ["channel_numbers", "usable_channels"]

_CHANNELS = re.compile(r"(\d{1,5}( *, *\d{1,5}){0,2})?", re.ASCII)


def channel_numbers(text: str) -> tuple[int, ...] | None:
    """Read one to three channel numbers such as ``2,1,0``; empty leaves the choice open.

    Raises
    ------
    ValueError
        The text is something else.
    """
    if not _CHANNELS.fullmatch(text):
        raise ValueError(
            "channels must be empty or one to three numbers from 0 on, such as 0 or 2,1,0; "
            f"got {text!r}"
        )
    return tuple(int(part) for part in text.split(",")) if text else None


def usable_channels(image: Image, channels: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Check the channels asked for against an image; None takes all of up to three.

    Raises
    ------
    ImageError
        The image lacks one, or has too many to take all.
    """
    count = image.size("c") if "c" in image.axes else 1
    if channels is None:
        separate = "c" in image.axes and not image.axes.endswith("c")
        # Of separate channels a fourth is one more stain, and not the alpha of a picture.
        if count > (3 if separate else 4):
            raise ImageError(
                f"the image has {count} channels; choose up to three of them (channels='0,1,2')"
            )
        return None
    if max(channels) >= count:
        have = "one channel, 0" if count == 1 else f"channels 0 to {count - 1}"
        raise ImageError(
            f"channels {','.join(map(str, channels))} were asked for, but the image has {have}; "
            "change the option channels or leave it empty"
        )
    return channels
