import pytest

from lightning_modules.architectures import GRU, NARX
from lightning_modules.building import build_architecture, import_class


def test_import_class():
    assert import_class("lightning_modules.architectures.GRU") is GRU


@pytest.mark.parametrize(
    "class_path",
    ["", "GRU", ".GRU", "..architectures.GRU", "lightning_modules.architectures.", "no.such.Class"],
)
def test_what_cannot_be_imported_is_explained(class_path):
    with pytest.raises(ValueError, match="cannot be imported .*Write the whole path, such as"):
        import_class(class_path)


def test_what_is_no_class_is_refused():
    with pytest.raises(ValueError, match="'math.pi' names no class"):
        import_class("math.pi")


def test_sizes_are_filled_in():
    config = {
        "class_path": "lightning_modules.architectures.NARX",
        "init_args": {"input_delays": 2},
    }
    narx = build_architecture(config, 3, [0, 2])
    assert isinstance(narx, NARX)
    assert (narx.input_size, narx.target_channels, narx.input_delays) == (3, [0, 2], 2)
    gru = build_architecture({"class_path": "lightning_modules.architectures.GRU"}, 3, [0])
    assert gru.input_size == 3


@pytest.mark.parametrize("name", ["NARX", "Autoregressive"])
def test_what_feeds_on_outputs_needs_some(name):
    config = {"class_path": f"lightning_modules.architectures.{name}", "init_args": None}
    with pytest.raises(ValueError, match=f"{name} feeds on the observed outputs"):
        build_architecture(config, 3)


def test_only_architectures_are_built():
    with pytest.raises(ValueError, match="'torch.nn.LSTM', which is no subclass of"):
        build_architecture({"class_path": "torch.nn.LSTM"}, 1, [0])
    with pytest.raises(ValueError, match="class_path '' cannot be imported"):
        build_architecture({}, 1, [0])
