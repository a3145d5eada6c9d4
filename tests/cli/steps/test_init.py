"""A workspace is made by the verbs that say so, keeps what it was made with, and no command that looks makes one."""

import json

import pytest

from convcast.settings import Settings
from convcast.settings.load import load_settings
from convcast.settings.template import settings_text
from convcast.workspace import create_workspace

pytestmark = pytest.mark.usefixtures("short_spin_up")


def everything(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_init_writes_every_setting_with_its_meaning(convcast, tmp_path):
    result = convcast(
        "init", "there", "--preset", "demo", "--region", "southern-plains", "--fields", "refc,t2m", "--source", "google"
    )
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["convcast.toml"]

    settings = load_settings(tmp_path / "there" / "convcast.toml")
    assert settings.preset == "demo"
    assert settings.dataset.region == "southern-plains"
    assert settings.dataset.fields == ("refc", "t2m")
    assert settings.archive.sources == ("google",)
    text = (tmp_path / "there" / "convcast.toml").read_text()
    assert "# Number of members.\n# members = 50" in text

    again = convcast("init", "there")
    assert again.exit_code == 2
    assert "is a workspace already" in again.stderr


def test_a_new_file_names_every_setting_and_changes_none(tmp_path):
    text = settings_text("phase2", {})
    names = {name for group in Settings.model_fields.values() for name in getattr(group.annotation, "model_fields", {})}
    assert {line.split(" =")[0].lstrip("# ") for line in text.splitlines() if " =" in line} >= names
    (tmp_path / "convcast.toml").write_text(text)
    assert load_settings(tmp_path / "convcast.toml").model_dump() == load_settings(preset="phase2").model_dump()


@pytest.mark.parametrize(
    "words",
    [
        (
            "fetch",
            "--source",
            "simulated",
            "--start",
            "2024-05-10T00",
            "--end",
            "2024-05-10T01",
            "--preset",
            "demo",
            "--dry-run",
        ),
        ("fetch", "--source", "nowhere"),
        ("fetch", "--source", "simulated", "--start", "yesterday", "--end", "2024-05-10"),
        ("fetch", "--source", "simulated", "--now", "noon"),
        ("fetch", "--preset", "phase9"),
        ("fetch", "--fields", "rain"),
        ("fetch", "--what", "gfs"),
        ("init", "--region", "atlantis"),
        ("init", "--preset", "phase9"),
        ("status",),
    ],
    ids=" ".join,
)
def test_looking_and_refused_arguments_make_no_workspace(convcast, tmp_path, words):
    result = convcast(*words)
    assert result.exit_code == (0 if "--dry-run" in words else 2), result.output
    assert not (tmp_path / "w").exists()


def test_status_writes_nothing(convcast, tmp_path):
    create_workspace(tmp_path / "w", preset="demo")
    before = everything(tmp_path)
    assert convcast("status").exit_code == 0
    assert everything(tmp_path) == before


FETCH = ("fetch", "--source", "simulated", "--start", "2024-05-10T00", "--end", "2024-05-10T00")


def test_a_workspace_remembers_what_it_was_made_with_and_refuses_other_choices(convcast, tmp_path):
    assert convcast(*FETCH, "--preset", "demo", "--fields", "refc,t2m").exit_code == 0
    settings = load_settings(tmp_path / "w" / "convcast.toml")
    assert settings.preset == "demo"
    assert settings.archive.sources == ("simulated",)

    for words, said in (
        (("--preset", "phase1"), "has preset demo, not phase1"),
        (("--fields", "refc"), "has dataset.fields = refc,t2m, not refc"),
    ):
        refused = convcast(*FETCH, *words)
        assert refused.exit_code == 2
        assert said in refused.stderr
        assert "choose another --workspace" in refused.stderr
    again = convcast("fetch", "--start", "2024-05-10T00", "--end", "2024-05-10T00", "--preset", "demo", "--json")
    assert json.loads(again.stdout)["counts"] == {"cached": 1}, "from the same source, without naming it"


def test_a_password_is_not_remembered(convcast, tmp_path):
    assert convcast("init", "--source", "https://me:secret@mirror.example/hrrr").exit_code == 0
    assert "secret" not in (tmp_path / "w" / "convcast.toml").read_text()
    assert "mirror.example" not in (tmp_path / "w" / "convcast.toml").read_text()
