"""The classification task: options, training, metrics, probabilities of texts."""

import json

import lightning as L
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch.nn import functional as F

from lightning_modules.optimization import OPTIMIZERS

CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def vectors_of(model):
    return model.embedding.table.weight


@pytest.fixture
def fit(make_trainer, loader, make_text_batch):
    """Trains on a few batches of unequal lengths; returns the trainer."""

    def run(model, epochs=1, callbacks=(), monitor=None, **trainer):
        model.monitor = monitor or model.monitor
        shapes = [[9, 4, 1, 6], [3, 3, 0, 2], [5, 5, 5, 5]]
        batches = [make_text_batch(model.spec, s, seed) for seed, s in enumerate(shapes)]
        trained = make_trainer(max_epochs=epochs, callbacks=[*callbacks], **trainer)
        trained.fit(model, loader(batches), loader(batches[:2]))
        return trained

    return run


# Probabilities of texts -----------------------------------------------------------------------


def counting_model(make_classifier, make_text_spec, **options):
    """One unit that adds half of what it was to the number of each word: all by hand."""
    model = make_classifier(
        "ElmanRNN",
        {"hidden_size": 1, "num_layers": 1, "nonlinearity": "relu"},
        make_text_spec(embedding_size=1),
        **options,
    )
    model.embedding.use_vectors(torch.arange(12.0).unsqueeze(1))
    with torch.no_grad():
        for architecture in (model.encoder.architecture, model.encoder.backward_architecture):
            if architecture is None:
                continue
            for name, parameter in architecture.named_parameters():
                parameter.fill_({"weight_ih_l0": 1.0, "weight_hh_l0": 0.5}.get(name[-12:], 0.0))
    return model.eval()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pooling": "last"}, [[7.0], [1.0]]),
        ({"pooling": "mean"}, [[(2 + 4 + 7) / 3], [1.0]]),
        ({"pooling": "max"}, [[7.0], [1.0]]),
        ({"pooling": "last", "bidirectional": True}, [[7.0, 4.75], [1.0, 1.0]]),
        ({"pooling": "max", "bidirectional": True}, [[7.0, 5.5], [1.0, 1.0]]),
        (
            {"pooling": "mean", "bidirectional": True},
            [[13 / 3, (5 + 5.5 + 4.75) / 3], [1.0, 1.0]],
        ),
    ],
)
def test_constant_weights(options, expected, make_classifier, make_text_spec):
    # Words 2, 3, 5 give 2, 4, 7 forwards and 5, 5.5, 4.75 backwards.
    model = counting_model(make_classifier, make_text_spec, **options)
    tokens, lengths = torch.tensor([[2, 3, 5, 0], [1, 0, 0, 0]]), torch.tensor([3, 1])
    with torch.no_grad():
        model.head[1].bias.copy_(torch.tensor([0.0, 1.0]))
        model.head[1].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand_as(model.head[1].weight))
    total = torch.tensor(expected).sum(1, keepdim=True)
    logits = torch.cat([total, 1 - total], dim=1)
    torch.testing.assert_close(model.logits(tokens, lengths), logits)
    model.temperature.fill_(2.0)
    torch.testing.assert_close(model.probabilities(tokens, lengths), (logits / 2).softmax(1))
    texts = [["w2", "w3", "w5"], ["never seen"]]
    torch.testing.assert_close(model.classify(texts), (logits / 2).softmax(1))


TEXTS = [
    ["w2", "w3", "w4", "w9"],
    [],
    ["w5"],
    ["w4", "nobody", "w2"],
    ["w3"] * 40,
    ["w9", "w4", "w3", "w2"],
    ["w6", "w7", "w8", "w9", "w10", "w11", "w2"],
]


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_company_and_order_of_texts_change_no_probability(
    pooling, text_architecture, make_classifier
):
    model = make_classifier(text_architecture, pooling=pooling).eval()
    together = model.classify(TEXTS)
    assert together.shape == (7, 2) and together.isfinite().all()
    torch.testing.assert_close(together.sum(1), torch.ones(7))
    alone = torch.cat([model.classify([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, **CLOSE)
    torch.testing.assert_close(model.classify(TEXTS[::-1]).flip(0), together, **CLOSE)
    assert not torch.allclose(together[0], together[5])  # the order of words matters


def test_texts_are_cut_and_tokens_looked_up(make_classifier):
    model = make_classifier(bidirectional=True).eval()
    same = [
        (["w3"] * 9, ["w3"] * 9 + ["w4", "w5"]),  # max_length is 9
        (["nobody"], ["no one"]),
        (["nobody"], ["<unk>"]),
        (["nobody"], ["<pad>"]),  # a word like any other, where a user writes it
    ]
    for one, other in same:
        assert torch.equal(model.classify([one]), model.classify([other]))
    assert not torch.allclose(model.classify([["w3"]]), model.classify([["w4"]]))
    tokens = torch.tensor([[2, 3, 4, 9]])
    expected = model.probabilities(tokens, torch.tensor([4]))
    torch.testing.assert_close(model.classify(TEXTS[:1]), expected.detach())


def test_any_number_of_texts(make_classifier, make_text_spec):
    model = make_classifier(spec=make_text_spec(classes=3)).eval()
    assert model.classify([]).shape == (0, 3)
    assert torch.allclose(model.classify([[], []]), model.classify([[]]).expand(2, -1))
    many = [TEXTS[row % 7] for row in range(700)]
    torch.testing.assert_close(model.classify(many), model.classify(TEXTS).repeat(100, 1), **CLOSE)


def test_classifying_drops_nothing_and_leaves_the_mode_as_it_was(make_classifier):
    model = make_classifier(word_dropout=0.5, embedding_dropout=0.5, head_dropout=0.5).train()
    probabilities = model.classify(TEXTS)
    assert torch.equal(model.classify(TEXTS), probabilities)
    assert all(module.training for module in model.modules())
    assert torch.equal(model.eval().classify(TEXTS), probabilities)
    assert not any(module.training for module in model.modules())
    assert not probabilities.requires_grad


def test_attention_weights(make_classifier, make_text_batch):
    model = make_classifier(pooling="attention", bidirectional=True).eval()
    batch = make_text_batch(model.spec, [5, 2, 0])
    weights = model.attention_weights(batch.tokens, batch.lengths)
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    assert (weights[0] > 0).all() and (weights[1, 2:] == 0).all()


# The head -------------------------------------------------------------------------------------


def test_a_deep_head(make_classifier, make_text_batch):
    model = make_classifier(head_sizes=[7, 6, 3], head_activations=["sigmoid", "relu", "gelu"])
    batch = make_text_batch(model.spec, [5, 2])
    first, second, third, last = (m for m in model.head if isinstance(m, torch.nn.Linear))
    assert [m.out_features for m in (first, second, third, last)] == [7, 6, 3, 2]
    pooled = model.eval().encoder(model.embedding(batch.tokens), batch.lengths)
    expected = last(F.gelu(third(F.relu(second(torch.sigmoid(first(pooled)))))))
    torch.testing.assert_close(model.logits(batch.tokens, batch.lengths), expected)


def test_the_head_by_default(make_classifier):
    shallow = [type(m).__name__ for m in make_classifier().head]
    assert shallow == ["Dropout", "Linear"]
    deep = [type(m).__name__ for m in make_classifier(head_sizes=[4, 5], head_dropout=0.3).head]
    assert deep == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_head_dropout_acts_on_the_inputs_of_its_layers(make_classifier, make_text_batch):
    model = make_classifier("LSTM", {"hidden_size": 4}, head_dropout=0.5).train()
    batch = make_text_batch(model.spec, [5, 2])
    torch.manual_seed(3)
    logits = model.logits(batch.tokens, batch.lengths)
    pooled = model.encoder(model.embedding(batch.tokens), batch.lengths)
    torch.manual_seed(3)
    torch.testing.assert_close(logits, model.head[1](F.dropout(pooled, 0.5)))
    assert not torch.allclose(logits, model.eval().logits(batch.tokens, batch.lengths))


# The loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("none", [1.0, 1.0, 1.0]),
        ("balanced", [60 / 90, 60 / 30, 60 / 60]),  # of 30, 10 and 20 texts
        ([0.5, 4, 1.5], [0.5, 4.0, 1.5]),
    ],
)
def test_loss(smoothing, given, weights, make_classifier, make_text_spec, make_text_batch):
    spec = make_text_spec(classes=3)
    model = make_classifier(spec=spec, class_weights=given, label_smoothing=smoothing).eval()
    batch = make_text_batch(spec, [5, 2, 9, 4, 1])
    result = model.training_step(batch, 0)
    log_p = model.logits(batch.tokens, batch.lengths).log_softmax(1)
    weights = torch.tensor(weights)
    total = 0.0
    for row, label in zip(log_p, batch.labels, strict=True):
        total -= (1 - smoothing) * weights[label] * row[label]
        total -= smoothing / 3 * (weights * row).sum()
    torch.testing.assert_close(result["loss"], total / weights[batch.labels].sum())
    torch.testing.assert_close(result["logits"].log_softmax(1), log_p.detach())
    assert torch.equal(result["labels"], batch.labels)
    assert result["loss"].requires_grad and not result["logits"].requires_grad


def test_validation_metrics(make_classifier, make_text_spec, make_text_batch, make_trainer, loader):
    spec = make_text_spec(classes=3)
    model = make_classifier(spec=spec, label_smoothing=0.1, class_weights="balanced").eval()
    model.temperature.fill_(3.0)  # metrics are those of the network itself
    batches = [make_text_batch(spec, [9, 4, 1, 6, 0, 3, 3, 8], 1), make_text_batch(spec, [2] * 3)]
    for some in (batches, batches[1:], batches):  # what one validation saw, the next does not
        (logged,) = make_trainer().validate(model, loader(some), verbose=False)
        with torch.no_grad():
            logits = torch.cat([model.logits(b.tokens, b.lengths) for b in some])
        labels, guesses = torch.cat([b.labels for b in some]), logits.argmax(1)
        assert logged.pop("validation_loss") > 0
        assert logged == pytest.approx(
            {
                "validation_accuracy": accuracy_score(labels, guesses),
                "validation_error_rate": 1 - accuracy_score(labels, guesses),
                "validation_macro_f1": f1_score(labels, guesses, average="macro"),
                "validation_cross_entropy": F.cross_entropy(logits, labels).item(),
            }
        )
    assert 0.1 < logged["validation_accuracy"] < 0.9


@pytest.mark.parametrize("monitor", ["validation_error_rate", "validation_cross_entropy"])
def test_training_logs_what_is_monitored(monitor, make_classifier, fit):
    optimization = {"schedule": "plateau"}
    trainer = fit(make_classifier(optimization=optimization), monitor=monitor)
    assert monitor in trainer.callback_metrics
    assert trainer.lr_scheduler_configs[0].monitor == monitor
    assert trainer.callback_metrics["train_loss"].isfinite()


# What trains ----------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", ["tuned", "frozen"])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_gradients_reach_all_that_trains(
    vectors, pooling, text_architecture, make_classifier, make_text_batch
):
    model = make_classifier(
        text_architecture,
        vectors=vectors,
        pooling=pooling,
        bidirectional=text_architecture != "ConvGRU",
        head_sizes=[6],
        head_activations=["tanh"],
    )
    model.train()
    batch = make_text_batch(model.spec, [9, 8, 8, 7, 9, 9, 6, 5])
    model.training_step(batch, 0)["loss"].backward()
    given = [id(p) for group in model.parameter_groups() for p in group["params"]]
    assert len(set(given)) == len(given)
    for name, parameter in model.named_parameters():
        frozen = vectors == "frozen" and parameter is vectors_of(model)
        assert (id(parameter) in given) is not frozen, name
        assert (parameter.grad is None) is frozen, name
        assert parameter.requires_grad is not frozen, name
        if not frozen:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_leaves_padding_and_frozen_vectors_alone(name, make_classifier, fit):
    for vectors in ("tuned", "frozen"):
        optimization = {"name": name, "weight_decay": 0.1, "learning_rate": 0.001}
        model = make_classifier(vectors=vectors, optimization=optimization)
        before = vectors_of(model).detach().clone()
        fit(model, epochs=2)
        after = vectors_of(model).detach()
        assert (after[0] == 0).all()
        if vectors == "frozen":
            assert torch.equal(after, before)
        else:
            assert (after[1:] != before[1:]).all()


class VectorsAfterEachEpoch(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_start(self, trainer, model):
        self.seen.append(vectors_of(model).detach().clone())

    def on_train_end(self, trainer, model):
        self.seen.append(vectors_of(model).detach().clone())


@pytest.mark.parametrize("schedule", ["one_cycle", "constant", "plateau"])
def test_frozen_then_tuned(schedule, make_classifier, fit):
    model = make_classifier(
        vectors="frozen_then_tuned",
        thaw_epoch=2,
        optimization={"schedule": schedule, "weight_decay": 0.01},
    )
    recorder = VectorsAfterEachEpoch()
    # A training that ends before the thaw, or after it, leaves nothing behind for the next one.
    for epochs in (1, 4, 3):
        recorder.seen.clear()
        trainer = fit(model, epochs=epochs, callbacks=[recorder])
        assert trainer.optimizers[0].defaults["fused"]
        pairs = zip(recorder.seen, recorder.seen[1:], strict=False)
        changed = [not torch.equal(*pair) for pair in pairs]
        assert changed == [False, False, True, True][:epochs]


def test_the_learning_rate_of_the_vectors(make_classifier, make_text_batch, fit):
    moved = {}
    for factor in (1.0, 0.25):
        model = make_classifier(
            "LSTM",
            {"hidden_size": 4},
            embedding_learning_rate_factor=factor,
            optimization={"name": "sgd", "schedule": "constant", "gradient_clip_norm": None},
        )
        before = [p.detach().clone() for p in (vectors_of(model), model.head[1].weight)]
        fit(model, limit_train_batches=1)
        after = (vectors_of(model), model.head[1].weight)
        moved[factor] = [(a - b).detach() for a, b in zip(after, before, strict=True)]
    torch.testing.assert_close(moved[0.25][0], moved[1.0][0] / 4, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(moved[0.25][1], moved[1.0][1])
    assert moved[1.0][0].abs().sum() > 0

    model = make_classifier(embedding_learning_rate_factor=0.25)
    trainer = fit(model, epochs=2)  # one_cycle
    head, vectors = trainer.optimizers[0].param_groups
    assert vectors["max_lr"] == pytest.approx(0.25 * head["max_lr"]) == 0.0025
    assert vectors["lr"] == pytest.approx(0.25 * head["lr"])
    assert trainer.callback_metrics["learning_rate"] <= head["max_lr"]


def test_it_starts_from_the_vectors_of_the_data(make_classifier):
    class Data:
        def vectors(self):
            return torch.full((12, 5), 0.5)

    model = make_classifier()
    model.start_from(Data())
    assert vectors_of(model)[:, 0].tolist() == [0.0] + [0.5] * 11


# Calibration ----------------------------------------------------------------------------------


def test_calibration(make_classifier, make_text_batch):
    model = make_classifier(word_dropout=0.3).eval()
    batches = []
    for seed in range(3):
        batch = make_text_batch(model.spec, [n % 10 for n in range(200)], seed)
        drawn = torch.multinomial(model.probabilities(batch.tokens, batch.lengths), 1)
        batches.append(batch._replace(labels=drawn.squeeze(1)))
    with torch.no_grad():  # now it is surer than it should be
        model.head[1].weight *= 6
        model.head[1].bias *= 6
    model.train()
    texts = [["w2", "w5"], ["w7"], []]
    uncalibrated = model.classify(texts)
    model.calibrate(batches)
    assert model.temperature.item() == pytest.approx(6, rel=0.3)
    calibrated = model.classify(texts)
    assert torch.equal(calibrated.argmax(1), uncalibrated.argmax(1))
    assert (calibrated.amax(1) < uncalibrated.amax(1)).all()
    with torch.no_grad():
        logits = torch.cat([model.logits(b.tokens, b.lengths) for b in batches])
    labels = torch.cat([b.labels for b in batches])
    fitted = model.temperature.item()
    losses = [F.cross_entropy(logits / t, labels) for t in (fitted, fitted * 1.1, fitted / 1.1)]
    assert losses[0] < min(losses[1:])
    model.calibrate(batches)  # starts from the network's own logits again
    assert model.temperature.item() == fitted
    assert not model.training


# Learning -------------------------------------------------------------------------------------

LEARNERS = {
    "ElmanRNN": ({"hidden_size": 16, "num_layers": 1}, {}),
    "LSTM": ({"hidden_size": 16, "num_layers": 1, "recurrent_dropout": 0.1}, {}),
    "GRU": ({"hidden_size": 16, "num_layers": 1}, {"pooling": "mean"}),
    "LayerNormRNN": ({"hidden_size": 16, "num_layers": 1}, {}),
    "LayerNormLSTM": ({"hidden_size": 16, "num_layers": 1}, {}),
    "PeepholeLSTM": (
        {"hidden_size": 8, "num_layers": 1},
        {"bidirectional": True, "pooling": "attention"},
    ),
    "TDNN": ({"hidden_sizes": [32], "delays": [7]}, {"pooling": "max"}),
    "TCN": ({"dilations": [1, 2]}, {"pooling": "max"}),
    "ConvGRU": ({"channels": 16, "kernel_size": 2, "hidden_size": 16, "num_layers": 1}, {}),
    "SimpleWaveNet": ({"channels": 32, "dilations": [1, 2, 4]}, {"pooling": "max"}),
    "WaveNet": ({"dilations": [1, 2, 4], "stacks": 1}, {"pooling": "max"}),
}


def order_task(count, generator):
    """Texts of 4, 6 or 8 words: is w2 before w3? Every word is as frequent in both classes."""
    lengths = 2 * torch.randint(2, 5, (count,), generator=generator)
    tokens = torch.randint(4, 12, (count, 8), generator=generator)
    places = torch.rand(count, 8, generator=generator)
    places[torch.arange(8) >= lengths.unsqueeze(1)] = -1
    first, second = places.topk(2).indices.unbind(1)
    rows = torch.arange(count)
    tokens[rows, first], tokens[rows, second] = 2, 3
    tokens[torch.arange(8) >= lengths.unsqueeze(1)] = 0
    return tokens, lengths, (first < second).long()


def test_every_architecture_learns_the_order_of_words(
    text_architecture, make_classifier, make_text_spec
):
    init_args, options = LEARNERS[text_architecture]
    spec = make_text_spec(embedding_size=8, max_length=8)
    model = make_classifier(text_architecture, init_args, spec, **options).train()
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        tokens, lengths, labels = order_task(64, generator)
        optimizer.zero_grad()
        F.cross_entropy(model.logits(tokens, lengths), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    tokens, lengths, labels = order_task(1000, generator)
    guesses = model.eval().probabilities(tokens, lengths).argmax(1)
    assert (guesses == labels).float().mean() > 0.95


# Options --------------------------------------------------------------------------------------


def test_hyperparameters_are_plain_values(make_classifier):
    model = make_classifier(class_weights=[1.0, 2.0], head_sizes=[3])
    values = json.loads(json.dumps(dict(model.hparams)))
    assert values["spec"] == model.spec.to_dict() and values["class_weights"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "model.label_smoothing is 1.0: .* below 1"),
        ({"class_weights": "equal"}, "model.class_weights is 'equal': .* none, balanced, or a l"),
        ({"class_weights": [1.0]}, "model.class_weights is .* list of 2 numbers above 0"),
        ({"class_weights": [1.0, 0.0]}, "list of 2 numbers above 0"),
        ({"head_sizes": [0]}, r"model.head_sizes\[0\] must be a whole number of at least 1"),
        ({"head_sizes": [3], "head_activations": ["swish"]}, r"model.head_activations\[0\] must"),
        ({"head_sizes": [3], "head_activations": ["relu"] * 2}, "names 2 activations, .* 1 layer"),
        ({"head_activations": ["relu"]}, "names 1 activations, but model.head_sizes has 0"),
        ({"head_dropout": 1}, "model.head_dropout is the probability"),
        ({"embedding_learning_rate_factor": 0}, "above 0; .*write model.vectors: frozen"),
        ({"pooling": "sum"}, "model.pooling is 'sum'"),
        ({"vectors": "fixed"}, "model.vectors is 'fixed'"),
        ({"word_dropout": -1}, "model.word_dropout"),
        ({"embedding_dropout": 1}, "model.embedding_dropout"),
        ({"optimization": {"learning_rate": 0}}, "optimizer.learning_rate"),
    ],
)
def test_messages(options, message, make_classifier):
    with pytest.raises(ValueError, match=message):
        make_classifier(**options)


def test_a_class_without_texts_cannot_be_balanced(make_classifier, make_text_spec):
    spec = make_text_spec(class_counts=[5, 0])
    with pytest.raises(ValueError, match="balanced cannot weigh a class without training items"):
        make_classifier(spec=spec, class_weights="balanced")
    make_classifier(spec=spec)
