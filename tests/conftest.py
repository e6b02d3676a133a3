import pytest

from pipelines import train
from pipelines.experiment import plain

# A training that takes a tenth of a second: every option that tests do not care about.
TINY = [
    "--data=data_modules.SyntheticSeries",
    "--data.sizes=[96,80,20]",
    "--data.window=12",
    "--data.horizon=4",
    "--data.scaling=standard",
    "--model=lightning_modules.Forecaster",
    "--architecture=lightning_modules.architectures.GRU",
    "--architecture.hidden_size=4",
    "--architecture.num_layers=1",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]


@pytest.fixture
def tiny_arguments():
    """The command line of a tiny training."""
    return list(TINY)


@pytest.fixture
def tiny_config(tiny_arguments):
    """Returns a function: the resolved configuration of a tiny training, with more options."""

    def config(*arguments):
        return plain(train.parser().parse_args([*tiny_arguments, *arguments]))

    return config


@pytest.fixture(scope="session", autouse=True)
def text_cache(tmp_path_factory):
    """Tokens of the tests' texts are kept for the session, and not among those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
