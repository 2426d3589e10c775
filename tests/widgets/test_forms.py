"""The form and the command line are made from one description and enforce the same."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from napari_cvsuite.cli import with_options
from napari_cvsuite.jobs.options import OptionError, Options, option_specs
from napari_cvsuite.quality.options import MapOptions, RatingsOptions, ScoreOptions
from napari_cvsuite.quality.options import TrainOptions as QualityTrainOptions
from napari_cvsuite.segmentation.options import PredictOptions, TrainOptions
from napari_cvsuite.widgets.forms import OptionsForm

ALL = [PredictOptions, TrainOptions, MapOptions, ScoreOptions, QualityTrainOptions, RatingsOptions]
pytestmark = pytest.mark.usefixtures("qtbot")


def _command(options: type[Options]) -> tuple[typer.Typer, list[Options]]:
    app, made = typer.Typer(), []

    @app.command()
    @with_options(options)
    def command(options: Options) -> None:
        made.append(options)

    return app, made


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@pytest.mark.parametrize("options", ALL)
def test_defaults_are_the_same_everywhere(options: type[Options]) -> None:
    app, made = _command(options)
    assert CliRunner().invoke(app, []).exit_code == 0
    assert made == [options()]
    assert OptionsForm(options).read() == options()


@pytest.mark.parametrize("options", ALL)
def test_ranges_and_choices_are_the_same_everywhere(options: type[Options]) -> None:
    app, _ = _command(options)
    form = OptionsForm(options)
    ranged = 0
    for name, (spec, default) in option_specs(options).items():
        one: Any = form._inputs[name]
        bad: list[Any] = []
        if spec.choices:
            assert tuple(one.choices) == spec.choices
            bad = ["nonsense"]
        elif type(default) in (int, float):
            assert (one.min, one.max) == (spec.minimum, spec.maximum)
            bad = [type(default)(spec.minimum - 1), type(default)(spec.maximum + 1)]
        for value in bad:
            ranged += 1
            with pytest.raises(OptionError):
                options(**{name: value})
            with pytest.raises(ValueError):
                one.value = value
            assert CliRunner().invoke(app, [_flag(name), str(value)]).exit_code == 2
    assert ranged > 5


def test_values_that_do_not_fit_are_passed_over() -> None:
    form = OptionsForm(PredictOptions, leave_out=("model",))
    form.set_values({"tta": True, "stain": "of another version", "min_size": "many", "old": 1})
    assert form.read() == PredictOptions(tta=True)
    assert "model" not in form.values()


def test_change_is_told() -> None:
    form, told = OptionsForm(PredictOptions), []
    form.on_change(lambda: told.append(1))
    form.set_values({"tta": True})
    assert told == [1]


def test_hidden_inputs_keep_their_values() -> None:
    form = OptionsForm(PredictOptions)
    form.main.show()
    form.set_values({"tta": True})
    form.show(["tta"], False)
    assert not form._inputs["tta"].visible and form.values()["tta"] is True
    form.show(["tta"], True)
    assert form._inputs["tta"].visible
    form.main.close()
