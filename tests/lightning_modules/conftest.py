import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.series import SeriesBatch, SeriesSpec
from data_modules.text_specification import PAD, UNKNOWN, TextBatch, TextSpec
from lightning_modules.forecaster import Forecaster
from lightning_modules.sequence_classifier import SequenceClassifier

# Every architecture, with every option on that it has, and small.
EVERY_OPTION = {
    "Autoregressive": {"order": 3},
    "TDNN": {"hidden_sizes": [5, 4], "delays": [2, 3], "dropout": 0.2},
    "TCN": {"channels": 8, "dilations": [1, 2], "dropout": 0.2, "weight_norm": True},
    "NARX": {"input_delays": 3, "output_delays": 4, "hidden_sizes": [5, 4], "dropout": 0.2},
    "ElmanRNN": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
    },
    "LSTM": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
        "forget_bias": 0.5,
    },
    "GRU": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
    },
    "LayerNormRNN": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
    },
    "LayerNormLSTM": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
    },
    "PeepholeLSTM": {
        "hidden_size": 4,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "batch_norm": True,
    },
    "ConvGRU": {"channels": 3, "hidden_size": 4, "dropout": 0.2, "batch_norm": True},
    "SimpleWaveNet": {"channels": 4, "dilations": [1, 2, 4], "dropout": 0.2},
    "WaveNet": {
        "residual_channels": 4,
        "skip_channels": 5,
        "dilations": [1, 2],
        "stacks": 2,
        "dropout": 0.2,
    },
}
# These feed on observed targets, which texts do not have.
FED_BACK = ("Autoregressive", "NARX")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def make_spec():
    """Channels a, b, ...: the first are targets, the last known, as many as asked for."""

    def make(targets=1, known=0, others=0, window=9, horizon=3, **options):
        count = targets + others + known
        values = {
            "channels": list("abcdef"[:count]),
            "target_channels": list(range(targets)),
            "known_channels": list(range(targets + others, count)),
            "window": window,
            "horizon": horizon,
            "location": [0.0] * count,
            "scale": [1.0] * count,
        }
        return SeriesSpec(**values | options)

    return make


@pytest.fixture
def make_forecaster(make_spec):
    """A forecaster with seeded weights, of an architecture by name or with its options."""

    def make(architecture="LSTM", init_args=None, spec=None, seed=0, **options):
        torch.manual_seed(seed)
        if init_args is None:
            init_args = EVERY_OPTION[architecture]
        return Forecaster(
            spec=(spec or make_spec()).to_dict(),
            architecture={
                "class_path": f"lightning_modules.architectures.{architecture}",
                "init_args": init_args,
            },
            **options,
        )

    return make


@pytest.fixture(params=EVERY_OPTION)
def architecture(request):
    """The name of each architecture."""
    return request.param


@pytest.fixture
def make_batch():
    """Random windows that fit a spec."""

    def make(spec, size=4, seed=1):
        generator = torch.Generator().manual_seed(seed)
        shape = (size, spec.window + spec.horizon, len(spec.channels))
        return SeriesBatch(torch.randn(shape, generator=generator), torch.arange(size))

    return make


@pytest.fixture
def loader():
    """Wraps batches for a trainer, which would take a list apart."""
    return lambda batches: DataLoader(batches, batch_size=None)


@pytest.fixture
def make_trainer(tmp_path):
    def make(**options):
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**defaults | options)

    return make


# Texts ----------------------------------------------------------------------------------------


@pytest.fixture(params=[name for name in EVERY_OPTION if name not in FED_BACK])
def text_architecture(request):
    """The name of each architecture that can read text."""
    return request.param


@pytest.fixture
def configure():
    """The configuration of an architecture, by default with all options on."""

    def configure(name, init_args=None):
        return {
            "class_path": f"lightning_modules.architectures.{name}",
            "init_args": EVERY_OPTION[name] if init_args is None else init_args,
        }

    return configure


@pytest.fixture
def make_text_spec():
    """Words w2, w3, ..., so that a word's id is its number."""

    def make(classes=2, words=10, max_length=9, **options):
        values = {
            "classes": ["negative", "positive", "neutral", "mixed"][:classes],
            "vocabulary": [PAD, UNKNOWN, *(f"w{i}" for i in range(2, 2 + words))],
            "max_length": max_length,
            "text_options": {},
            "embedding_size": 5,
            "class_counts": [30, 10, 20, 40][:classes],
        }
        return TextSpec(**values | options)

    return make


@pytest.fixture
def make_classifier(make_text_spec, configure):
    """A classifier with seeded weights, none of which is zero but those of padding."""

    def make(architecture="LSTM", init_args=None, spec=None, seed=0, **options):
        torch.manual_seed(seed)
        model = SequenceClassifier(
            spec=(spec or make_text_spec()).to_dict(),
            architecture=configure(architecture, init_args),
            **options,
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
            model.embedding.table.weight[0] = 0
        return model

    return make


@pytest.fixture
def make_text_batch():
    """Random texts of the lengths given."""

    def make(spec, lengths, seed=1):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor(lengths)
        shape = (len(lengths), int(lengths.max()))
        tokens = torch.randint(1, len(spec.vocabulary), shape, generator=generator)
        tokens[torch.arange(shape[1]) >= lengths.unsqueeze(1)] = 0
        labels = torch.randint(len(spec.classes), shape[:1], generator=generator)
        return TextBatch(tokens, lengths, labels, torch.arange(shape[0]))

    return make
