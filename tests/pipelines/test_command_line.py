"""Mistakes of the command line: one line each, with what was meant perhaps."""

from importlib import import_module

import pytest

from data_modules.errors import UserError
from pipelines.experiment import plain, resolved
from pipelines.train import parser


def said(module, arguments, capsys):
    """Returns what a pipeline says of arguments that it refuses."""
    with pytest.raises(SystemExit) as ended:
        import_module(f"pipelines.{module}").parser().parse_args(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and line.endswith(" See --help.")
    return line.removeprefix("error: ").removesuffix(" See --help.")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--confg", "x"], "there is no option --confg; did you mean --config?"),
        ("compare", ["--ray.num_cpu=3"], "no option --ray.num_cpu; did you mean --ray.num_cpus?"),
        ("sweep", ["--trails", "3"], "there is no option --trails; did you mean --trials?"),
        ("predict", ["--ouput=y"], "there is no option --ouput; did you mean --output?"),
        ("write", ["a", "--widht", "3"], "there is no option --widht; did you mean --width?"),
        ("register", ["--replce"], "there is no option --replce; did you mean --replace?"),
        ("serve", ["--modl", "x"], "there is no option --modl; did you mean --model?"),
        ("clean", ["--no_such_thing"], "there is no option --no_such_thing."),
        ("pretrain", ["--steeps", "3"], "there is no option --steeps"),
        ("write", ["two", "words"], "'words' belongs to no option."),
        ("write", [], "the following arguments are required: text."),
        ("serve", ["--model=x", "--workers=0"], "workers: write a whole number above 0."),
        ("write", ["a", "--align=middle"], "align is middle: write left or center or right."),
    ],
)
def test_every_pipeline_says_what_was_meant(module, arguments, message, capsys):
    assert message in said(module, arguments, capsys)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        # As it was typed, in the same section, in another one, in a section that is mistyped.
        ("--trainer.max_epoch=3", "--trainer.max_epoch; did you mean --trainer.max_epochs?"),
        ("--max_epochs=3", "no option --max_epochs; did you mean --trainer.max_epochs?"),
        ("--architecure.hidden_size=3", "did you mean --architecture.hidden_size?"),
        ("--optimizer={learning_rat: 3}", "did you mean optimizer.learning_rate?"),
        # Options of the class that was chosen; those that are filled in are not suggested.
        ("--architecture.hiden_size=4", "did you mean architecture.hidden_size?"),
        ("--data.horizn=4", "there is no option data.horizn; did you mean data.horizon?"),
        ("--model.statefull=true", "there is no option model.statefull."),
        ("--trainer.logger=true", "there is no option --trainer.logger."),
        # Values.
        ("--trainer.max_epochs=many", "trainer.max_epochs is many: write a whole number or null."),
        ("--data.horizon=2.5", "data.horizon is 2.5: write a whole number."),
        ("--model.loss=mze", "model.loss is mze: write mse or mae or huber or pinball."),
        ("--optimizer.learning_rate=fast", "optimizer.learning_rate is fast: write a number."),
        ("--compile=maybe", "compile is maybe: write true or false."),
        ("--architecture=GRUU", "architecture: GRUU is no Architecture; did you mean GRU?"),
        ("--architecture=data_modules.SyntheticSeries", "SyntheticSeries is no Architecture."),
        ("--architecture=nowhere.LSTM", "architecture: No module named 'nowhere'."),
        ("--stages=[{learning_rate: 1}]", "stages: the following arguments are required: patience"),
        ("--trainer=3", "trainer: Unable to load config '3'."),
        ("--config=nowhere.yaml", "config: File does not exist: "),
        ("--seed", "argument --seed: expected one argument."),
    ],
)
def test_what_is_wrong_is_said_without_inner_workings(tiny_arguments, argument, message, capsys):
    line = said("train", [*tiny_arguments, argument], capsys)
    assert message in line
    assert not any(word in line for word in ("<class", "NoneType", "Union", "Namespace", "Nested"))


def test_files_are_judged_alike(tiny_arguments, tmp_path, capsys):
    file = tmp_path / "wrong.yaml"
    for content, message in (
        ("optimzer: {learning_rate: 3}", "did you mean optimizer.learning_rate?"),
        ("trainer: {max_epoch: 3}", "did you mean trainer.max_epochs?"),
        ("trainer: {max_epochs: 3", "line 1, column 10 did not find expected ',' or '}'"),
    ):
        file.write_text(content)
        assert message in said("train", [*tiny_arguments, f"--config={file}"], capsys)


def test_a_candidate_is_told_the_same(tiny_arguments):
    config = plain(parser().parse_args(tiny_arguments))
    config["architecture"] = config["architecture"] | {"init_args": {"hiden": 3}}
    with pytest.raises(UserError) as refused:
        resolved(config)
    wanted = "there is no option architecture.hiden; did you mean architecture.hidden_size?"
    assert str(refused.value) == wanted
