"""``python -m pipelines.write``: files of every kind, and messages for what cannot be written."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from data_modules.handwriting.reading import read_ink
from data_modules.handwriting.specification import HandwritingSpec
from lightning_modules import HandwritingPredictor, HandwritingSynthesizer
from lightning_modules.saving import save_model
from pipelines import write

SPEC = HandwritingSpec(
    alphabet=[" ", *"abcdeé"],
    mean=[0.1, 0.0],
    deviation=[0.5, 0.4],
    points_per_character=5.0,
    character_counts=[1] * 7,
    preparation={"deskew": True, "smooth": True, "max_points": 1200, "max_characters": 75},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    made = HandwritingSynthesizer(SPEC.to_dict(), hidden_size=8, mixture_components=3)
    folder = tmp_path_factory.mktemp("model")
    save_model(made, dict(made.hparams), folder)
    return folder


def run(model, tmp_path, *options, text="abc de"):
    out = tmp_path / "note.svg"
    write.main([text, f"--model={model}", f"--out={out}", "--retries=0", *options])
    return out


def refusal(capsys, model, tmp_path, *options, text="abc de"):
    with pytest.raises(SystemExit) as stopped:
        run(model, tmp_path, *options, text=text)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_every_kind_of_file(model, tmp_path, capsys):
    options = ["--png=true", "--gcode=true", "--json=true", "--attention=true", "--width=3"]
    out = run(model, tmp_path, *options)
    assert ElementTree.parse(out).getroot().tag.endswith("svg")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "G21" in out.with_suffix(".gcode").read_text()
    assert [ink.text for ink in read_ink(out.with_suffix(".jsonl"))] == ["abc", "de"]
    for number in (1, 2):
        assert out.with_suffix(f".attention-{number}.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert said.count("wrote ") == 6
    assert {path.name for path in tmp_path.iterdir()} == {
        line.rpartition("/")[2] for line in said.splitlines() if line.startswith("wrote ")
    }


def test_the_seed_decides(model, tmp_path):
    contents = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents.append(run(model, folder, f"--seed={seed}").read_text())
    assert contents[0] == contents[1] != contents[2]


def test_what_was_written_serves_as_a_style(model, tmp_path):
    out = run(model, tmp_path, "--json=true")
    key = json.loads(out.with_suffix(".jsonl").read_text().splitlines()[0]).get("key", "note-1")
    plain = out.read_text()
    for style in (out.with_suffix(".jsonl"), f"{out.with_suffix('.jsonl')}:{key}"):
        assert run(model, tmp_path, f"--style={style}").read_text() != plain


def test_a_faulty_line_is_told(tmp_path, capsys):
    made = HandwritingSynthesizer(SPEC.to_dict(), hidden_size=8, mixture_components=3)
    with torch.no_grad():
        made.network.first.bias_window[2] = -30.0  # its window stands still
    save_model(made, dict(made.hparams), tmp_path / "model")
    out = run(tmp_path / "model", tmp_path, "--retries=1", text="abc abc")
    said = capsys.readouterr().out
    assert "warning: 'abc abc' is faulty after 2 attempts" in said and "--seed" in said
    assert out.exists()


def test_unknown_characters_are_named_or_replaced(model, tmp_path, capsys):
    said = refusal(capsys, model, tmp_path, text="abc zu Abé")
    assert "in 'abc zu Abé' cannot be written" in said
    assert "'A'" in said and "'u'" in said and "'z'" in said and "--replace true" in said
    assert "'b'" not in said and not list(tmp_path.iterdir())
    run(model, tmp_path, "--replace=true", text="Abé è")
    said = capsys.readouterr().out
    assert "replaced 'A' by 'a'" in said and "replaced 'è' by 'e'" in said


def test_the_text_may_come_from_the_input(model, tmp_path, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("abc\nde\n"))
    out = run(model, tmp_path, "--json=true", text="-")
    assert [ink.text for ink in read_ink(out.with_suffix(".jsonl"))] == ["abc", "de"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--legibility=-1"], "legibility is -1"),
        (["--num_threads=0"], "--num_threads is 0"),
        (["--proofread=true"], "--proofread: the recogniser does not know 'é'"),
        (["--body_height=0"], "--body_height is 0"),
        (["--body_height=1e12", "--gcode=true"], "at most 1000.0."),
        (["--style=~nobody-of-that-name/x.jsonl"], "~nobody-of-that-name/x.jsonl"),
        (["--ink=reddish"], "--ink"),
        (["--width=0"], "width is 0"),
        (["--out=/no/such/folder/note.svg"], "no folder"),
        (["--out=note.png", "--png=true"], "--out is 'note.png': write the name of an SVG file"),
        ([f"--out={'a' * 300}.svg"], "File name too long"),
        (["--seed=-1"], "seed is -1"),
        (["--body_height=1e-6", "--png=true"], "body_height: at 1e-06 mm"),
        (["--style=/no/such/file.jsonl"], "/no/such/file.jsonl"),
        (["--model=/no/such/model"], "/no/such/model"),
    ],
)
def test_bad_options_get_a_message(model, tmp_path, capsys, options, said):
    assert said in refusal(capsys, model, tmp_path, *options)
    assert not list(tmp_path.iterdir())


def test_a_style_that_is_not_there_is_named(model, tmp_path, capsys):
    out = run(model, tmp_path, "--json=true")
    said = refusal(capsys, model, tmp_path, f"--style={out.with_suffix('.jsonl')}:other")
    assert "no line 'other'; its first is" in said


@pytest.mark.parametrize("key", ["", ":note-1"])
def test_a_style_is_not_written_over(model, tmp_path, capsys, key):
    style = run(model, tmp_path, "--json=true").with_suffix(".jsonl")
    before = style.read_bytes()
    said = refusal(capsys, model, tmp_path, f"--style={style}{key}", "--json=true")
    assert "--json and --style are the same file" in said and style.read_bytes() == before


def test_a_folder_in_place_of_a_file_is_told_before_anything_is_written(model, tmp_path, capsys):
    (tmp_path / "note.gcode").mkdir()
    said = refusal(capsys, model, tmp_path, "--gcode=true")
    assert "note.gcode is a folder" in said and not (tmp_path / "note.svg").exists()


def test_an_input_of_another_encoding_is_told(model, tmp_path, capsys, monkeypatch):
    import io

    given = io.TextIOWrapper(io.BytesIO("abc é".encode("latin-1")), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", given)
    assert "give UTF-8" in refusal(capsys, model, tmp_path, text="-")


def test_missing_weights_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lightning_modules.pretrained.FOLDER", tmp_path / "nowhere")
    assert "holds no saved model" in refusal(capsys, write.SHIPPED, tmp_path)


def test_the_pretrained_model_is_proofread(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "lightning_modules.handwriting_recognizer.HandwritingRecognizer.read",
        lambda self, lines: asked.extend(lines) or ["nonsense"] * len(lines),
    )
    out = tmp_path / "note.svg"
    write.main(["Hello", f"--out={out}", "--retries=0"])
    assert len(asked) == 1 and "it reads as 'nonsense'" in capsys.readouterr().out
    write.main(["Hello", f"--out={out}", "--retries=0", "--proofread=false"])
    assert len(asked) == 1 and "nonsense" not in capsys.readouterr().out


def test_a_sample_with_fewer_points_than_its_text_needs_is_no_style(model, tmp_path, capsys):
    style = tmp_path / "mine.jsonl"
    style.write_text('{"text": "abcde abcde", "strokes": [[[0, 0], [3, 9]], [[4, 4], [5, 5]]]}')
    assert "fewer than two points a letter" in refusal(capsys, model, tmp_path, f"--style={style}")
    style.write_text('{"text": "Hi", "strokes": [[[0, 0], [3, 9]], [[4, 4], [5, 5]]]}')
    said = refusal(capsys, model, tmp_path, f"--style={style}", "--replace=true")
    assert f"--style: {style}, line 'mine-1': 'H'" in said


def test_a_predictor_cannot_write(tmp_path, capsys):
    lstm = {"class_path": "lightning_modules.architectures.LSTM", "init_args": {"hidden_size": 4}}
    predictor = HandwritingPredictor(SPEC.to_dict(), lstm)
    save_model(predictor, dict(predictor.hparams), tmp_path / "model")
    said = refusal(capsys, tmp_path / "model", tmp_path)
    assert "HandwritingPredictor, which cannot write" in said
