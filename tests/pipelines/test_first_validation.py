import re

import pytest

from data_modules.errors import UserError
from pipelines import compare, fitting
from pipelines.experiment import build_data
from pipelines.first_validation import check_validation
from pipelines.fitting import fit


def test_validation_less_often_than_an_epoch_lasts_is_refused(pen):
    data = pen.lines()
    config = {"trainer": {"val_check_interval": 99}}
    with pytest.raises(UserError, match="val_check_interval is 99, but an epoch has"):
        check_validation(config, data)
    config["trainer"]["check_val_every_n_epoch"] = None
    check_validation(config, data)
    check_validation({"trainer": {"val_check_interval": 1.0}}, data)
    for option in ("limit_train_batches", "overfit_batches"):
        config = {"trainer": {"val_check_interval": 2, option: 1, "max_epochs": 9}}
        with pytest.raises(UserError, match="val_check_interval is 2, but an epoch has 1 steps"):
            check_validation(config, data)


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, "max_steps"),
        ({"val_check_interval": 2, "check_val_every_n_epoch": None}, "max_steps"),
        ({"val_check_interval": 7, "check_val_every_n_epoch": None}, "max_steps"),
        ({"val_check_interval": 7, "check_val_every_n_epoch": None}, "max_epochs"),
        ({"val_check_interval": 0.5, "check_val_every_n_epoch": 2}, "max_steps"),
        ({"check_val_every_n_epoch": 3}, "max_epochs"),
        ({"limit_train_batches": 3, "accumulate_grad_batches": 2}, "max_steps"),
        ({"overfit_batches": 1, "check_val_every_n_epoch": 2}, "max_steps"),
        ({"accumulate_grad_batches": 3, "check_val_every_n_epoch": 2}, "max_steps"),
    ],
)
def test_what_is_refused_would_not_validate_and_no_more(
    tiny_config, monkeypatch, tmp_path, options, bound
):
    """The least number that is let through is the least with which Lightning validates."""
    config = tiny_config("--data.batch_size=19")
    config["trainer"] |= {"max_epochs": -1, "max_steps": -1} | options
    data = build_data(config["data"])
    assert 4 <= len(data.loader("train")) <= 8
    config["trainer"][bound] = 0
    with pytest.raises(UserError, match=f"trainer.{bound} is 0: training would end") as refused:
        check_validation(config, data)
    least = int(re.search(r"Write at least (\d+)", str(refused.value))[1])
    monkeypatch.setattr(fitting, "check_validation", lambda *_: None)
    config["trainer"][bound] = least - 1
    with pytest.raises(UserError, match=r"ended before its .* trainer\.val_check_interval"):
        fit(config, data, tmp_path / "short")
    config["trainer"][bound] = least
    check_validation(config, data)
    assert len(fit(config, data, tmp_path / "long").curves["validation"]) == 1


def test_a_comparison_is_refused_before_it_starts(store, tiny_arguments, capsys):
    with pytest.raises(SystemExit):
        compare.main(
            [
                *(each for each in tiny_arguments if "architecture" not in each),
                "--candidates={a: {architecture: {class_path: GRU}}}",
                "--trainer.check_val_every_n_epoch=null",
                "--trainer.val_check_interval=500",
            ]
        )
    assert "training would end before its first validation" in capsys.readouterr().err
    assert [each.name for each in store.search_experiments()] == ["Default"]
