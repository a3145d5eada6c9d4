"""A workspace is created, opened, and not confused with another folder."""

import json
import subprocess

import numpy as np
import pytest

from convcast.errors import SettingsError
from convcast.files import HOST
from convcast.settings.load import load_settings
from convcast.workspace import create_workspace, open_workspace


def test_a_new_workspace_keeps_the_choices_it_was_made_with(tmp_path):
    place = create_workspace(
        tmp_path / "w", preset="demo", tables={"dataset": {"fields": ["t2m", "cape"], "analysis_lead": 1}}
    )

    settings = load_settings(place.settings_file)
    assert (settings.preset, settings.dataset.fields, settings.dataset.analysis_lead) == ("demo", ("t2m", "cape"), 1)
    assert open_workspace(place.root) == place


def test_an_existing_workspace_keeps_its_settings(tmp_path):
    create_workspace(tmp_path / "w", preset="demo")
    create_workspace(tmp_path / "w", preset="phase2")

    assert load_settings(tmp_path / "w" / "convcast.toml").preset == "demo"


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")

    with pytest.raises(SettingsError, match="not a convcast workspace"):
        create_workspace(tmp_path)
    with pytest.raises(SettingsError, match="not a convcast workspace"):
        open_workspace(tmp_path)
    with pytest.raises(SettingsError, match="not a folder"):
        create_workspace(tmp_path / "thesis.tex")


def test_a_workspace_whose_first_file_was_left_unfinished_is_made_anew(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".convcast.toml.{HOST}-{gone.pid}-0.partial").write_text("preset = ")

    create_workspace(tmp_path, preset="demo")

    assert [path.name for path in tmp_path.iterdir()] == ["convcast.toml"]


def test_forecasts_are_named_for_their_init(tmp_path):
    place = create_workspace(tmp_path / "w")

    assert place.forecast(np.datetime64("2024-05-06T21", "h")).name == "20240506T21.zarr"


def test_the_journal_takes_one_line_a_unit(tmp_path):
    place = create_workspace(tmp_path / "w")
    place.record("fetch", valid="2024-05-06T21", status="ok")
    place.record("fetch", valid="2024-05-06T22", status="late")

    entries = [json.loads(line) for line in (place.root / "journal.jsonl").read_text().splitlines()]
    assert [(e["verb"], e["status"]) for e in entries] == [("fetch", "ok"), ("fetch", "late")]
    assert all(e["at"].endswith("Z") for e in entries)
