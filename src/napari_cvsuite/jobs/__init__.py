"""Jobs: context, cancellation, requests, device queues. Knows no task, no network and no Qt."""

from napari_cvsuite.jobs.context import (
    Cancelled,
    CancelToken,
    Context,
    Progress,
    current_context,
    use_context,
)
from napari_cvsuite.jobs.options import Option, OptionError, Options, OptionSpec, option_specs

__all__ = [
    "CancelToken",
    "Cancelled",
    "Context",
    "Option",
    "OptionError",
    "OptionSpec",
    "Options",
    "Progress",
    "current_context",
    "option_specs",
    "use_context",
]
