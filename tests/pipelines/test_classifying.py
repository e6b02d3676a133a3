import numpy as np
import pytest

from data_modules.errors import UserError
from lightning_modules.saving import load_model, save_model
from pipelines.classifying import classify_texts, explain
from pipelines.predict import main

NASTY = [
    "",
    "   \n\t ",
    "😀🏳️‍🌈👩‍👩‍👧",
    "これは素晴らしい عظيم ไทย",
    "x" * 10_000,
    "not good " * 1_200,
    "&amp;lt;3 \x00\x07 \ud800 @@@ http:// <script>alert(1)</script>",
]


def test_nasty_texts_get_an_answer(text):
    model = text.lstm(text.tweets())
    found = classify_texts(model, NASTY)
    assert list(found) == ["label", "confidence", "p_negative", "p_positive"]
    assert len(found) == len(NASTY)
    assert np.isfinite(found["confidence"]).all()
    np.testing.assert_allclose(found["p_negative"] + found["p_positive"], 1, rtol=1e-6)
    larger = found[["p_negative", "p_positive"]].to_numpy().argmax(axis=1)
    assert [model.spec.classes[k] for k in larger] == list(found["label"])
    for each in NASTY:
        explain(model, each)


def test_no_texts_get_no_answers(text):
    assert len(classify_texts(text.lstm(text.tweets()), [])) == 0


@pytest.mark.parametrize("wrong", [None, 3.5, float("nan"), ["a"]])
def test_what_is_no_text_is_refused(wrong, text):
    with pytest.raises(UserError, match="text 2 of 2 is .* give a text"):
        classify_texts(text.lstm(text.tweets()), ["fine", wrong])


def test_explanation_is_what_leaving_a_word_out_changes(text):
    data = text.tweets()
    model = text.lstm(data)
    (words,) = data.parts["validation"].words([0])
    found = explain(model, data.parts["validation"].raw_texts([0])[0])
    assert found.tokens == words[: data.spec.max_length]
    whole = model.classify([words])[0]
    assert found.label == data.spec.classes[int(whole.argmax())]
    assert found.probability == pytest.approx(float(whole.max()))
    for i, push in enumerate(found.pushes):
        without = model.classify([words[:i] + words[i + 1 :]])[0, int(whole.argmax())]
        assert push == pytest.approx(float(whole.max() - without), abs=1e-6)
    strongest = found.tokens[int(np.abs(found.pushes).argmax())]
    assert str(found).startswith(f"{strongest} ")


# python -m pipelines.predict ----------------------------------------------------------------------


@pytest.fixture
def folder(text, tmp_path):
    model = text.lstm(text.tweets())
    save_model(model, dict(model.hparams), tmp_path / "model")
    return tmp_path / "model"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_one_text(folder, capsys):
    main(["--model", str(folder), "--text", "not bad at all :)", "--explain", "true"])
    printed = capsys.readouterr().out
    answer = classify_texts(load_model(folder), ["not bad at all :)"]).iloc[0]
    assert printed.startswith(f"{answer['label']}  (confidence {answer['confidence']:.3f};")
    assert f"p_positive {answer['p_positive']:.3f}" in printed
    for word in ("not", "bad", "all", ":)"):
        assert f"{word} " in printed


def test_a_text_that_is_too_long_is_refused(text):
    with pytest.raises(UserError, match="the text has 20,001 characters: give at most 20,000"):
        classify_texts(text.lstm(text.tweets()), ["x" * 20_001])


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_file_in_a_file_out(separator, folder, tmp_path, capsys):
    path, output, html = (tmp_path / name for name in ("in.csv", "out.csv", "out.html"))
    rows = [("id", "tweet"), ("7", '"so, good <b>"'), ("8", ""), ("9", '"two\nlines"')]
    path.write_text("".join(f"{separator.join(row)}\n" for row in rows), encoding="utf-8")
    main(
        [
            *["--model", str(folder), "--input", str(path), "--text_column", "tweet"],
            *["--output", str(output), "--html", str(html), "--explain", "true"],
            *["--separator", separator],
        ]
    )
    import pandas as pd

    written = pd.read_csv(output, keep_default_na=False, sep=separator)
    texts = ["so, good <b>", "", "two\nlines"]
    assert list(written["id"]) == [7, 8, 9] and list(written["tweet"]) == texts
    expected = classify_texts(load_model(folder), texts)
    assert list(written["label"]) == list(expected["label"])
    np.testing.assert_allclose(written["p_positive"], expected["p_positive"], rtol=1e-6)
    assert written["pushes"][0] and not written["pushes"][1]
    page = html.read_text()
    assert "&lt;b&gt;" in page and "<b>so" not in page and page.count("<p><b>") == 3
    assert "3 labels written" in capsys.readouterr().out


def test_mistakes_get_an_answer(folder, tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_text("text,label\nfine,positive\n")
    model = ["--model", folder]
    assert "either a text" in refused(capsys, *model)
    assert "either a text" in refused(capsys, *model, "--text", "a", "--input", path)
    assert "would cover" in refused(capsys, *model, "--input", path)
    assert "no column 'tweet'" in refused(capsys, *model, "--input", path, "--text_column", "tweet")
    assert "same file" in refused(capsys, *model, "--input", path, "--output", path)
    assert "--plot is only for forecasting" in refused(
        capsys, *model, "--text", "a", "--plot", "x.png"
    )
    assert path.read_text() == "text,label\nfine,positive\n"


def test_a_forecaster_takes_no_text(small, tmp_path, capsys):
    folder = small.saved(small.gru(small.sines()), tmp_path / "model")
    assert "--text is only for classification" in refused(
        capsys, "--model", folder, "--text", "fine"
    )
    assert "input and output are needed" in refused(capsys, "--model", folder)
