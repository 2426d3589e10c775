"""A form made from the description of a job's options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from magicgui import widgets
from magicgui.widgets import create_widget

from napari_cvsuite.jobs.options import Options, OptionSpec, option_specs

__all__ = ["OptionsForm"]

O = TypeVar("O", bound=Options)  # noqa: E741


def _widget(name: str, spec: OptionSpec, default: Any) -> widgets.bases.ValueWidget[Any]:
    """Return the input of one option, with its range, choices, unit and help."""
    label = f"{spec.label} ({spec.unit})" if spec.unit else spec.label
    extra: dict[str, Any] = {"tooltip": spec.help}
    if spec.choices:
        extra["choices"] = list(spec.choices)
    elif type(default) in (int, float):
        extra |= {"min": spec.minimum, "max": spec.maximum}
        if type(default) is float:
            # The step decides how many decimals the box keeps; without them 1e-7 becomes 0.
            numbers = (v for v in (spec.minimum, spec.maximum, default) if v is not None)
            places = [Decimal(str(v)).normalize().as_tuple().exponent for v in numbers]
            extra["step"] = 10.0 ** min(-2, *(int(place) for place in places))
    made = create_widget(
        value=default,
        annotation=type(default),
        name=name,
        label=label,
        widget_type="ComboBox" if spec.choices else None,
        options=extra,
    )
    assert isinstance(made, widgets.bases.ValueWidget)
    if isinstance(made, widgets.FloatSpinBox):
        made.adaptive_step = True
    return made


class OptionsForm:
    """The inputs of an options class, as one container for each of two sections.

    Parameters
    ----------
    options : type of Options
    leave_out : sequence of str
        Options that the dock asks for in another way.

    Attributes
    ----------
    main, advanced : magicgui Container
        Inputs to show at once, and those for a collapsed section.
    """

    def __init__(self, options: type[O], leave_out: tuple[str, ...] = ()) -> None:
        self._options = options
        specs = {k: v for k, v in option_specs(options).items() if k not in leave_out}
        made = {name: _widget(name, spec, default) for name, (spec, default) in specs.items()}
        self._inputs = made
        self.main = widgets.Container(
            widgets=[w for name, w in made.items() if not specs[name][0].advanced]
        )
        self.advanced = widgets.Container(
            widgets=[w for name, w in made.items() if specs[name][0].advanced]
        )
        for container in (self.main, self.advanced):
            container.native.layout().setContentsMargins(0, 0, 0, 0)

    def values(self) -> dict[str, Any]:
        """Return the value of every input by option name."""
        return {name: one.value for name, one in self._inputs.items()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Fill the inputs; what is unknown or not allowed (any more) is passed over."""
        for name, value in values.items():
            one = self._inputs.get(name)
            if one is None or type(value) is not type(one.value):
                continue
            spec = option_specs(self._options)[name][0]
            try:
                spec.check(name, value)
            except ValueError:
                continue
            one.value = value

    def read(self, **others: Any) -> Options:
        """Return the options; raises :class:`OptionError` for values that do not go together."""
        return self._options(**self.values(), **others)

    def show(self, names: Iterable[str], shown: bool) -> None:
        """Show or hide some inputs; those that are hidden keep their values."""
        for name in names:
            self._inputs[name].visible = shown

    def on_change(self, fn: Callable[[], object]) -> None:
        """Call `fn` whenever an input changes."""
        for one in self._inputs.values():
            one.changed.connect(lambda *_: fn())

    def close_down(self) -> None:
        """Forget who listens."""
        for one in self._inputs.values():
            one.changed.disconnect()
