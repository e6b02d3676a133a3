import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from data_modules.errors import UserError
from data_modules.lemma_words import NEGATIONS
from data_modules.lemmas import tokenise_words
from data_modules.text_options import TextOptions
from lightning_modules.saving import load_model, save_model
from lightning_modules.text_baselines import TEXT_BASELINES
from pipelines.classification_task import ClassificationTask, part_logits
from pipelines.classifying import classify_texts
from pipelines.labelling_task import cross_entropy, softmax
from pipelines.leaderboard import leaderboard
from pipelines.results import Protocol, Result
from pipelines.task import Evaluation, evaluate_tests

TASK = ClassificationTask()
CONFIG = {"metric": "error_rate"}


def probabilities_of(model, data):
    return softmax(part_logits(model, data, "test") / float(model.temperature))


def evaluated(model, data, part="test"):
    return TASK.evaluate(model, data, part)


@pytest.fixture(params=["lstm", "majority", "word_vectors", "tfidf"])
def any_model(request, text):
    data = text.tweets()
    if request.param == "lstm":
        return text.lstm(data), data
    return TASK.fit_baseline(request.param, data, CONFIG), data


def test_every_text_gets_its_own_probabilities(any_model):
    """Whatever the batches and their order: as if each text came alone."""
    model, data = any_model
    texts = data.parts["test"]
    rows = np.arange(len(texts))
    found = probabilities_of(model, data)
    alone = torch.cat([model.classify([words]) for words in texts.words(rows)])
    np.testing.assert_allclose(found, alone.numpy(), atol=1e-6)


def test_measures_equal_those_of_scikit_learn(any_model):
    model, data = any_model
    model.temperature.fill_(1.7)
    got = evaluated(model, data)
    labels = np.asarray(data.parts["test"].labels)
    probabilities = probabilities_of(model, data)
    predicted = probabilities.argmax(axis=1)
    assert got.measures["accuracy"] == pytest.approx((predicted == labels).mean())
    assert got.errors["error_rate"].mean() == pytest.approx((predicted != labels).mean())
    assert got.measures["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert got.measures["auroc"] == pytest.approx(roc_auc_score(labels, probabilities[:, 1]))
    own = -np.log(probabilities[np.arange(len(labels)), labels])
    assert got.errors["cross_entropy"].mean() == pytest.approx(own.mean(), rel=1e-5)
    assert got.errors["cross_entropy"].shape == got.errors["error_rate"].shape == (len(labels), 1)


@pytest.mark.parametrize("temperature", [0.05, 2.5])
def test_before_and_after_temperature_scaling(temperature, text):
    """Also where scaled probabilities are 0 or 1 in single precision."""
    data = text.tweets()
    model = text.lstm(data)
    with torch.no_grad():
        model.head[-1].weight *= 20
    plain = evaluated(model, data)
    model.temperature.fill_(temperature)
    scaled = evaluated(model, data)
    np.testing.assert_allclose(
        scaled.details["uncalibrated"], plain.details["probabilities"], atol=1e-6
    )
    assert abs(scaled.details["probabilities"] - plain.details["probabilities"]).max() > 0.01
    logits = torch.from_numpy(part_logits(model, data, "test"))
    labels = torch.tensor(np.asarray(data.parts["test"].labels))
    expected = torch.nn.functional.cross_entropy(
        logits / float(model.temperature), labels, reduction="none"
    )
    np.testing.assert_allclose(scaled.errors["cross_entropy"][:, 0], expected, rtol=1e-6)
    assert TASK.validation_error(model, data, "cross_entropy") == pytest.approx(
        evaluated(model, data, "validation").errors["cross_entropy"].mean(), rel=1e-5
    )


def test_baselines_choose_by_the_metric(text):
    data = text.tweets()
    entropy, errors = {}, {}
    for metric in ("error_rate", "cross_entropy"):
        model = TASK.fit_baseline("tfidf", data, {"metric": metric})
        logits = part_logits(model, data, "validation")
        labels = np.asarray(data.parts["validation"].labels)
        entropy[metric] = cross_entropy(logits, labels).mean()
        errors[metric] = (logits.argmax(axis=1) != labels).mean()
    assert entropy["cross_entropy"] <= entropy["error_rate"]
    assert errors["error_rate"] <= errors["cross_entropy"]
    assert (
        entropy["cross_entropy"] < entropy["error_rate"]
        or errors["error_rate"] < errors["cross_entropy"]
    )


def test_details_are_those_of_the_texts(text):
    data = text.tweets()
    details = evaluated(text.lstm(data), data).details
    words = data.parts["test"].words(np.arange(len(data.parts["test"])))
    assert details["lengths"].tolist() == [len(each) for each in words]
    assert details["negated"].tolist() == [bool(NEGATIONS & set(each)) for each in words]
    assert 0 < details["negated"].mean() < 1
    assert set(TASK.item_details) <= set(details)


def test_each_test_part_is_evaluated(text, tmp_path):
    path = tmp_path / "more.csv"
    path.write_text("text,label\nso good,positive\nso bad,negative\nmeh,neutral\n")
    main = tmp_path / "main.csv"
    rows = [f"good day number {i},positive\nbad day number {i},negative" for i in range(40)]
    main.write_text("text,label\n" + "\n".join(rows) + "\n")
    data = text.tweets(
        path=str(main),
        extra_tests={"more": str(path)},
        sizes=None,
        classes=["negative", "positive"],
    )
    found = evaluate_tests(text.lstm(data), data)
    assert list(found) == ["test", "test_more"]
    assert len(found["test_more"].errors["error_rate"]) == 2
    assert all(isinstance(each, Evaluation) for each in found.values())


def test_timing_touches_neither_test_nor_training(text):
    data = text.tweets()
    model = text.lstm(data)
    for part in ("test", "train"):
        del data.parts[part]
    assert 0 < TASK.inference_us_per_step(model, data) < 1e5


def test_lexicon_is_refused_for_other_classes(text, tmp_path):
    path = tmp_path / "topics.csv"
    rows = [f"ball game {i},sport\nvote now {i},politics" for i in range(40)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    data = text.tweets(path=str(path), sizes=None)
    with pytest.raises(ValueError, match="lexicon"):
        TASK.check_baseline("lexicon", data)
    TASK.check_baseline("tfidf", data)


# Leaderboard --------------------------------------------------------------------------------------


def result_of(name, models, data, kind="network"):
    found = [evaluated(model, data) for model in models]
    return Result(
        name=name,
        kind=kind,
        errors={
            metric: np.stack([each.errors[metric] for each in found]) for metric in found[0].errors
        },
        validation=np.array([TASK.validation_error(m, data, "error_rate") for m in models]),
        parameters=10,
        train_seconds=1.0,
        inference_us_per_step=1.0,
        details={
            key: found[0].details[key]
            if key in TASK.item_details
            else np.stack([each.details[key] for each in found])
            for key in found[0].details
        },
    )


def protocol_of(data, seeds):
    return Protocol(
        metric="error_rate",
        seeds=seeds,
        learning_rates=[0.01],
        optimizer_steps=10,
        nominal_coverage=None,
        data=data.describe(),
        spec=data.spec,
        title="Tweets",
    )


def test_leaderboard_and_report_of_classifiers(text):
    data = text.tweets()
    results = [
        result_of("lstm", [text.lstm(data, seed=seed) for seed in (0, 1, 2)], data),
        result_of("tfidf", [TASK.fit_baseline("tfidf", data, CONFIG)], data, "baseline"),
    ]
    protocol = protocol_of(data, seeds=3)
    table = leaderboard(results, protocol).set_index("model")
    for row in results:
        own = table.loc[row.name]
        assert own["test_error_rate"] == pytest.approx(row.errors["error_rate"].mean())
        for name in ("macro_f1", "auroc"):
            low, mean, high = (own[f"test_{name}{end}"] for end in ("_low", "", "_high"))
            assert 0 <= low < mean < high <= 1
        assert own["relative_to_floor"] == pytest.approx(own["test_error_rate"] / 0.05)
    chosen = table.index[table["chosen"]][0]
    other = next(name for name in table.index if name != chosen)
    assert np.isnan(table.loc[chosen, "mcnemar_p"]) and 0 <= table.loc[other, "mcnemar_p"] <= 1

    from pipelines.figures import figures
    from pipelines.report import report_html
    from pipelines.verdict import verdict

    table = leaderboard(results, protocol)
    best = next(each for each in results if each.name == chosen)
    examples = TASK.examples(data, best, 0, "error_rate", lambda: None)
    drawn = figures(results, table, protocol, examples)
    assert set(TASK.captions) <= set(drawn)
    lines = verdict(table, protocol)
    accuracy = 1 - table.set_index("model").loc[chosen, "validation_error_rate"]
    assert lines[0].startswith(f"{chosen} wins: it has the highest accuracy on the validation part")
    assert f"{accuracy:.3f}" in lines[0]
    assert any("points of accuracy" in line for line in lines)
    assert any("best achievable accuracy is 0.950" in line for line in lines)
    html = report_html(table, lines, drawn, protocol, TASK.tables(examples))
    assert "Worst mistakes" in html and "test accuracy" in html and "window" not in html.lower()


def test_worst_mistakes_are_mistakes(text):
    data = text.tweets()
    models = [text.lstm(data, seed=seed) for seed in (0, 1)]
    result = result_of("lstm", models, data)
    table = TASK.tables(TASK.examples(data, result, 0, "error_rate", lambda: None))[
        "Worst mistakes"
    ]
    assert len(table) and (table["label"] != table["predicted"]).all()
    texts = data.parts["test"].raw_texts(np.arange(len(data.parts["test"])))
    assert set(table["text"]) <= set(texts)


# A champion on other data -------------------------------------------------------------------------


def test_a_model_is_judged_on_other_data_by_its_own_tokens(text):
    old = text.tweets(max_length=6, punctuation="keep", vocabulary_size=50)
    model = text.lstm(old)
    new = text.tweets(seed=1)
    texts = new.parts["validation"]
    raw = texts.raw_texts(np.arange(len(texts)))
    words = tokenise_words(raw, TextOptions(**old.spec.text_options))
    wrong = model.classify(words).argmax(dim=1).numpy() != np.asarray(texts.labels)
    assert TASK.validation_error(model, new, "error_rate") == pytest.approx(wrong.mean())


def test_classes_in_another_order_are_matched(text, tmp_path):
    path = tmp_path / "texts.csv"
    rows = [f"good day {i},positive\nbad day {i},negative" for i in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    one, other = (
        text.tweets(path=str(path), sizes=None, classes=order)
        for order in (["negative", "positive"], ["positive", "negative"])
    )
    model = TASK.fit_baseline("tfidf", one, CONFIG)
    for metric in ("error_rate", "cross_entropy"):
        expected = evaluated(model, one, "validation").errors[metric].mean()
        assert TASK.validation_error(model, other, metric) == pytest.approx(expected, rel=1e-4)
    path.write_text(path.read_text().replace("positive", "sunny"))
    third = text.tweets(path=str(path), sizes=None)
    with pytest.raises(UserError, match="tells negative, positive apart .* negative, sunny"):
        TASK.validation_error(model, third, "error_rate")


@pytest.mark.parametrize("name", list(TEXT_BASELINES))
def test_baselines_answer_raw_texts_after_reloading(name, text, tmp_path):
    data = text.tweets()
    model = TASK.fit_baseline(name, data, CONFIG)
    save_model(model, model.init_args, tmp_path)
    texts = ["not bad at all :)", "", "😀", "so so awful"]
    pd.testing.assert_frame_equal(
        classify_texts(load_model(tmp_path), texts), classify_texts(model, texts)
    )


def test_a_model_that_is_always_right_has_an_interval(text):
    data = text.tweets()
    result = result_of("lstm", [text.lstm(data)], data)
    result.errors["error_rate"][:] = 0
    protocol = protocol_of(data, seeds=1)
    row = leaderboard([result], protocol).iloc[0]
    assert row["test_error_rate_low"] == 0
    # 80 texts: a share of errors that gives none of them in 2.5 % of cases.
    assert (1 - row["test_error_rate_high"]) ** 80 == pytest.approx(0.025)
