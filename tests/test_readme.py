"""What README.md says can be done, can be done."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pipelines import compare, train
from pipelines.compare import candidate_configs
from pipelines.experiment import build_data, plain
from pipelines.fitting import fit
from pipelines.forecasting import Request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINES = [
    line.partition(" #")[0].strip()
    for language, block in BLOCKS
    if language == "console"
    for line in block.replace("\\\n", " ").splitlines()
]
PIPELINES = [line for line in LINES if line.startswith("python -m pipelines.")]
MAKES = [line for line in LINES if line.startswith("make ")]


def test_the_readme_has_commands():
    assert len(PIPELINES) >= 5 and len(MAKES) >= 4


@pytest.mark.parametrize("command", PIPELINES)
def test_pipelines_know_their_options(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    parser = importlib.import_module(words[2]).parser()
    if words[-1] in ("--help", "--print_config"):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words[3:])
        assert ended.value.code == 0
        capsys.readouterr()
    else:
        parser.parse_args(words[3:])


@pytest.mark.parametrize("command", MAKES)
def test_make_knows_its_targets(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets


def test_the_request_for_series_is_what_a_forecaster_takes():
    """The shell makes the body out of what Python prints."""
    (curl,) = [line for line in LINES if line.startswith("curl ") and "history" in line]
    quoted = curl.partition(" -d ")[2]
    echoed = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    (row,) = json.loads(echoed.stdout)["inputs"]
    assert len(Request.model_validate(row).history["y"]) == 50


def test_every_target_is_in_the_help():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    assert set(phony) == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_the_numbers_of_models():
    folder = ROOT / "pipelines" / "configs" / "series"
    config = plain(compare.parser().parse_args([f"--config={folder / 'compare.yaml'}"]))
    said = re.search(r"compares (\d+) networks with (\d+) classical models", README)
    networks, classical = int(said[1]), int(said[2])
    assert networks == len(candidate_configs(config, [folder]))
    assert classical == len(set(config["baselines"]) - {"oracle"})


def test_an_architecture_is_added_as_the_readme_says(tmp_path, monkeypatch):
    """The example trains and obeys the chunking law, in ten lines or little more."""
    (code,) = [block for language, block in BLOCKS if language == "python" and "class " in block]
    (config,) = [block for language, block in BLOCKS if language == "yaml" and "class" in block]
    imports = (
        "import torch\nfrom torch import Tensor, nn\n"
        "from lightning_modules.architectures.base import Architecture, State\n"
    )
    (tmp_path / "leaky.py").write_text(imports + code)
    # In its place, for the length of this test.
    monkeypatch.syspath_prepend(tmp_path)
    name = "lightning_modules.architectures.leaky"
    monkeypatch.setitem(sys.modules, name, importlib.import_module("leaky"))
    options = yaml.safe_load(config)
    assert options["architecture"]["class_path"] == f"{name}.Leaky"
    (tmp_path / "leaky.yaml").write_text(config)
    resolved = plain(
        train.parser().parse_args(
            [
                f"--config={tmp_path / 'leaky.yaml'}",
                "--data.sizes=[64,40,20]",
                "--trainer.max_epochs=1",
                "--trainer.accelerator=cpu",
            ]
        )
    )
    model = fit(resolved, build_data(resolved["data"]), tmp_path / "fit").model
    x = torch.randn(2, 9, 1)
    whole, _ = model.architecture(x)
    first, state = model.architecture(x[:, :4])
    second, _ = model.architecture(x[:, 4:], state)
    assert torch.allclose(torch.cat([first, second], dim=1), whole, atol=1e-6)
