"""Suggestions for mistyped names."""

import pytest

# The modules whose classes are suggested.
from blend_pl import callbacks, data, distillation, models, systems  # noqa: F401
from blend_pl.utils.suggestions import did_you_mean, explain_parser_error, setting_names, with_help

SETTINGS = ["data", "model", "trainer.max_epochs", "checkpoint.monitor", "distillation"]
STUDENT = "Parser key \"model\":\n  Problem with given class_path 'blend_pl.systems.Student':\n    "
BACKBONE = (
    f'{STUDENT}Parser key "backbone":\n      Type collections.abc.Callable[[Dims], Module] expects a function or a '
    "callable class: {} Got value: Namespace(class_path='blend_pl.models.NDT', init_args=Namespace(dropuot=0.1))"
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("fti", "did you mean fit?"), ("FIT", "did you mean fit?"), ("tset", "did you mean test?"), ("zzz", "")],
)
def test_closest_word_is_suggested(word: str, expected: str) -> None:
    assert did_you_mean(word, ["fit", "test", "predict"]) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("unrecognized arguments: --dta.bin_ms 5", "did you mean data.bin_ms?"),
        ("Option 'dta.init_args.bin_ms' is not accepted", "did you mean data.bin_ms?"),
        ("unrecognized arguments: --chekpoint.monitor x", "did you mean checkpoint.monitor?"),
        ("Group 'trainer' does not accept option 'max_epoch'", "did you mean trainer.max_epochs?"),
        (f"{STUDENT}Group 'masking' does not accept option 'ration'", "did you mean masking.ratio?"),
        (f"{STUDENT}unrecognized arguments: --masking.ration=0.5", "did you mean masking.ratio?"),
        (BACKBONE.format("Option 'dropuot' is not accepted."), "did you mean dropout?"),
        ("Expected a dot import path string: NTD", "did you mean blend_pl.models.NDT?"),
        ("Expected a dot import path string: HardLos", "did you mean blend_pl.distillation.HardLoss?"),
        ("Expected a dot import path string: AdmaW", "did you mean torch.optim.AdamW?"),
        ("module 'blend_pl.models' has no attribute 'NTD'", "did you mean blend_pl.models.NDT?"),
        ("Expected a typing.Literal['val', 'test']. Got value: tset", "did you mean test?"),
    ],
)
def test_parser_error_has_a_suggestion(message: str, expected: str) -> None:
    explanation = explain_parser_error(message, SETTINGS)
    assert explanation.endswith(f"; {expected}")
    assert "\n" not in explanation


@pytest.mark.parametrize(
    "message", ["Expected a dot import path string: zzzzzz", "Option 'zzzzzz' is not accepted", "1 is not a valid int"]
)
def test_parser_error_without_a_similar_name_is_unchanged(message: str) -> None:
    assert explain_parser_error(message, SETTINGS) == message


def test_parser_error_starts_with_the_key_and_omits_the_values() -> None:
    explanation = explain_parser_error(BACKBONE.format("Option 'dropuot' is not accepted."))
    assert explanation == "model.backbone: Option 'dropuot' is not accepted; did you mean dropout?"


def test_innermost_alternative_of_a_union_is_explained() -> None:
    message = "Does not validate against any of the Union subtypes\n  - Expected None\n  - Not an int\n  Given value: x"
    assert explain_parser_error(message) == "Not an int"


def test_help_is_named_unless_there_is_a_suggestion() -> None:
    assert with_help("no such option", "fit") == "no such option; see `python -m blend_pl fit --help`"
    assert with_help("x; did you mean y?", "fit") == "x; did you mean y?"


def test_settings_include_those_of_nested_dataclasses() -> None:
    assert {"bin_ms", "spec.held_out.fraction", "simulation.n_train"} <= {*setting_names("blend_pl.data.NLBDataModule")}
    assert setting_names("blend_pl.no.such.Class") == []
