import shutil

import pytest
import torch
from torch import nn

from data_modules.errors import UserError
from lightning_modules.compiling import compile_networks

#: torch's own, when it is first compiled with.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def compiled(model):
    return {name for name, part in model.named_modules() if part._compiled_call_impl is not None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TDNN", {"architecture", "head"}),
        ("WaveNet", {"architecture", "head"}),
        ("LSTM", {"head"}),
        ("LayerNormLSTM", {"head"}),
        ("PeepholeLSTM", {"head"}),
    ],
)
def test_all_but_loops_is_compiled(make_forecaster, monkeypatch, name, expected):
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    model = make_forecaster(name)
    names = list(model.state_dict())
    compile_networks(model)
    assert expected <= compiled(model)
    assert not any("recurrence" in part for part in compiled(model))
    assert ("architecture" in compiled(model)) == ("architecture" in expected)
    assert list(model.state_dict()) == names


def test_without_a_compiler_the_user_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler \(g\+\+\)"):
        compile_networks(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_what_is_compiled_computes_the_same(make_forecaster):
    plain, fast = make_forecaster("TDNN"), make_forecaster("TDNN")
    fast.load_state_dict(plain.state_dict())
    plain.eval(), fast.eval()  # without dropout
    compile_networks(fast)
    for batch, steps in ((3, 12), (5, 12)):
        x = torch.randn(batch, steps, len(plain.spec.channels))
        results = [model.architecture(x)[0] for model in (plain, fast)]
        torch.testing.assert_close(*results)
        for result in results:
            result.square().sum().backward()
    for one, other in zip(
        plain.architecture.parameters(), fast.architecture.parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad)
