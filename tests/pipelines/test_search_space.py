import optuna
import pytest

from data_modules.errors import UserError
from pipelines.search_space import SearchSpace

LSTM = "lightning_modules.architectures.LSTM"
TDNN = "lightning_modules.architectures.TDNN"


@pytest.fixture
def space(tmp_path):
    """Returns a function: the space of a YAML text."""

    def read(text):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return SearchSpace(path)

    return read


def draw(space, times=200):
    sampler = optuna.samplers.RandomSampler(seed=0)
    study, points = optuna.create_study(sampler=sampler), []
    for _ in range(times):
        trial = study.ask()
        space.suggest(trial)
        points.append(dict(trial.params))
    return points


ALL_KINDS = """
optimizer.learning_rate: {log_uniform: [0.001, 1]}
architecture.recurrent_dropout: {uniform: [0, 0.5], step: 0.25}
architecture.hidden_size: {log_integer: [1, 100]}
architecture.num_layers: {integer: [1, 5], step: 2}
data.batch_size: {choice: [16, 64]}
"""


def test_values_are_drawn_from_what_the_file_says(space):
    points = draw(space(ALL_KINDS))
    rates = [each["optimizer.learning_rate"] for each in points]
    assert 0.001 <= min(rates) < 0.003 and 0.3 < max(rates) <= 1
    # Uniform in the logarithm: half of them below the geometric mean.
    assert 70 < sum(rate < 0.0316 for rate in rates) < 130
    assert {each["architecture.recurrent_dropout"] for each in points} == {0, 0.25, 0.5}
    sizes = [each["architecture.hidden_size"] for each in points]
    assert all(isinstance(size, int) for size in sizes)
    assert 70 < sum(size < 10 for size in sizes) < 130
    assert {each["architecture.num_layers"] for each in points} == {1, 3, 5}
    assert {each["data.batch_size"] for each in points} == {16, 64}


def test_a_point_changes_the_options_that_it_names_and_no_others(space):
    config = {
        "architecture": {"class_path": LSTM, "init_args": {"hidden_size": 1, "bias": True}},
        "optimizer": {"name": "adam", "learning_rate": 1.0},
        "seed": 3,
    }
    read = space(ALL_KINDS)
    changed = read.apply(config, {"optimizer.learning_rate": 0.5, "architecture.hidden_size": 7})
    assert changed == {
        "architecture": {"class_path": LSTM, "init_args": {"hidden_size": 7, "bias": True}},
        "optimizer": {"name": "adam", "learning_rate": 0.5},
        "seed": 3,
    }
    assert config["optimizer"]["learning_rate"] == 1.0


CONDITIONS = f"""
architecture:
  choice:
    lstm: {{class_path: {LSTM}}}
    tdnn: {{class_path: {TDNN}, init_args: {{hidden_size: 9}}}}
architecture.num_layers: {{integer: [2, 3], when: {{architecture: lstm}}}}
model.loss: {{choice: [mse, mae]}}
"""


def test_options_that_depend_on_others(space):
    read = space(CONDITIONS)
    points = draw(read, 40)
    assert {each["architecture"] for each in points} == {"lstm", "tdnn"}
    for point in points:
        assert ("architecture.num_layers" in point) == (point["architecture"] == "lstm")
        assert set(read.distributions(point)) == set(point)


def test_named_choices_are_values_of_any_kind(space):
    read = space(CONDITIONS)
    base = {"architecture": {"class_path": LSTM, "init_args": {"num_layers": 1}}}
    lstm = read.apply(base, {"architecture": "lstm", "architecture.num_layers": 3})
    assert lstm["architecture"] == {"class_path": LSTM, "init_args": {"num_layers": 3}}
    tdnn = read.apply(base, {"architecture": "tdnn"})
    # Options of another class do not stay.
    assert tdnn["architecture"] == {"class_path": TDNN, "init_args": {"hidden_size": 9}}


def test_lists_are_choices_too(space):
    read = space("architecture.sizes: {choice: [[1, 2], [3]]}")
    label = read.parameters[0].ends[1]
    changed = read.apply({}, {"architecture.sizes": label})
    assert changed == {"architecture": {"init_args": {"sizes": [3]}}}


def test_corners_have_every_end_in_a_point_that_exists(space):
    read = space(CONDITIONS + "optimizer.learning_rate: {uniform: [0.1, 0.2]}")
    corners = [(parameter.name, point) for parameter, point in read.corners()]
    ends = {(name, point[name]) for name, point in corners}
    assert ends == {
        ("architecture", "lstm"),
        ("architecture", "tdnn"),
        ("architecture.num_layers", 2),
        ("architecture.num_layers", 3),
        ("model.loss", "mse"),
        ("model.loss", "mae"),
        ("optimizer.learning_rate", 0.1),
        ("optimizer.learning_rate", 0.2),
    }
    for _, point in corners:
        assert ("architecture.num_layers" in point) == (point["architecture"] == "lstm")


def test_corners_satisfy_what_depends_on_what_depends(space):
    read = space(
        CONDITIONS.replace("lstm: ", "gru: {class_path: a}\n    lstm: ")
        + """
a.b: {choice: [1, 2], when: {architecture: lstm}}
a.c: {choice: [3, 4], when: {a.b: 2}}
"""
    )
    found = [point for parameter, point in read.corners() if parameter.name == "a.c"]
    assert [each["a.c"] for each in found] == [3, 4]
    assert all(each["a.b"] == 2 and each["architecture"] == "lstm" for each in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer.limit_val_batches: {choice: [1, 2]}", "it changes how trials are judged"),
        ("trainer.devices: {choice: [1, 2]}", "or where they run"),
        ("{}", "space.yaml has no option"),
        ("seed: {choice: [1, 2]}", "seed cannot be searched: the best seed of many is luck"),
        ("metric: {choice: [mse, mae]}", "metric cannot be searched"),
        ("a.b: 3", "a.b is 3: write one of uniform, log_uniform, integer"),
        ("a.b: {uniform: [0, 1], choice: [1, 2]}", "write one of"),
        ("a.b: {uniform: [0, 1], wen: {}}", "write one of"),
        ("a.b: {uniform: [1, 0]}", "uniform is [1, 0]"),
        ("a.b: {uniform: [1]}", "uniform is [1]"),
        ("a.b: {uniform: [x, y]}", "uniform is ['x', 'y']"),
        ("a.b: {log_uniform: [0, 1]}", "log_uniform is [0, 1]"),
        ("a.b: {integer: [1, 2.5]}", "these must be whole numbers"),
        ("a.b: {choice: [1]}", "two or more different values"),
        ("a.b: {choice: [1, 1]}", "two or more different values"),
        ("a.b: {choice: 3}", "two or more different values"),
        ("a.b: {choice: [1, 2], step: 1}", "a choice has no step"),
        ("a.b: {choice: [1, 2], when: {c: 1}}", "'when' names 'c'"),
        ("a.b: {choice: [1, 2], when: c}", "'when' is 'c'"),
        ("c: {choice: [1, 2]}\na.b: {choice: [1, 2], when: {c: 3}}", "c may be 1, 2"),
        ("- a", "must hold options"),
    ],
)
def test_what_is_no_space(space, text, message):
    with pytest.raises(UserError) as refused:
        space(text)
    assert message in str(refused.value) and "space.yaml" in str(refused.value)
