"""Reference ensembles over HTTP: what a publisher leaves out, and what only looks as if it did."""

from __future__ import annotations

from dataclasses import dataclass

import eccodes
import laboratory as lab
import numpy as np
import pytest
from laboratory import Rule

from convcast.archive import fetch_files, locations, open_archives, open_sources, verify_archive
from convcast.archive.locations import GribFile
from convcast.archive.reference_ensembles import products, requests
from convcast.archive.simulated.server import serve
from convcast.archive.web import http
from convcast.errors import DamagedFileError
from convcast.grib import encode
from convcast.settings.load import load_settings
from convcast.variables import FIELDS
from convcast.workspace import Workspace

CYCLE = np.datetime64("2026-11-20T06", "h")
VALID = np.array([CYCLE + 3])
NAMES = ("refc", "t2m", "cape", "cin")
PROBABILITIES = GribFile("refs", "prob", CYCLE, 3)
MEMBER = GribFile("rrfs", "2dfldnomads", CYCLE, 3, 2)


def message(variable, file, *, product=None, simulated=False) -> bytes:
    """A field of one member, or a product made of all of them."""
    key = product.spec.keys[-1] if product else variable.grib
    values = np.arange(lab.GRID.ny * lab.GRID.nx, dtype=float).reshape(lab.GRID.shape) % 100
    sound = encode(values, key=key, grid=lab.GRID, init=file.init, lead_hours=file.lead, simulated=simulated)
    keys = {"productDefinitionTemplateNumber": 1, "perturbationNumber": file.member or 0}
    if product is not None and product.limit is None:
        keys = {"productDefinitionTemplateNumber": 2, "derivedForecast": 1, "numberOfForecastsInEnsemble": 14}
    elif product is not None:
        side = "Lower" if product.limit.below else "Upper"
        keys = {
            "productDefinitionTemplateNumber": 5,
            "probabilityType": 0 if product.limit.below else 1,
            f"scaleFactorOf{side}Limit": 2,
            f"scaledValueOf{side}Limit": round(product.limit.threshold * 100),
        }
    handle = eccodes.codes_new_from_message(sound)
    for name, value in keys.items():
        eccodes.codes_set(handle, name, value)
    made = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return made


def publish(root, file, rows) -> None:
    """`rows` are (index name, index level, what follows the forecast, message)."""
    path = root / locations.bucket_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    cycle, text, offset = str(file.init).replace("-", "").replace("T", ""), "", 0
    for number, (name, level, rest, data) in enumerate(rows, 1):
        text += f"{number}:{offset}:d={cycle}:{name}:{level}:{file.lead} hour fcst:{rest}\n"
        offset += len(data)
    path.write_bytes(b"".join(row[3] for row in rows))
    path.with_name(path.name + ".idx").write_text(text)


def product_rows(kind, file=PROBABILITIES, system="refs"):
    for product in products(system):
        if product.kind == kind and product.variable.name in NAMES:
            wanted = product.spec
            if product.limit is None:
                rest = "wt ens mean"
            else:
                rest = f"prob {'<' if product.limit.below else '>'}{product.limit.threshold:g}:prob fcst 0/14:Nbhd"
            yield wanted.index_name, wanted.index_level, rest, message(product.variable, file, product=product)


def member_rows(file, names=NAMES, **options):
    for variable in (FIELDS[name] for name in names):
        yield variable.index_name, variable.index_level, f"ENS=+{file.member}", message(variable, file, **options)


def hrrr_rows(file):
    for variable in (FIELDS[name] for name in NAMES):
        values = np.full(lab.GRID.shape, 1.0)
        data = encode(values, key=variable.grib, grid=lab.GRID, init=file.init, lead_hours=file.lead, simulated=True)
        yield variable.index_name, variable.index_level, "", data


@dataclass
class Done:
    outcomes: dict
    archives: dict

    def held(self, file):
        room = self.archives["refs" if file.model != "href" else "href"]
        path = room.root / locations.archive_path(file)
        return [m.variable for m in room.sidecar(path).messages] if path.exists() else None


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Fetch these files of REFS or HREF from a server of the bucket."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def bring(*files, rules=(), system="refs", leads=(3,), folder=False):
        settings = load_settings(flags={"archive": {"retries": 1, "read_timeout": 0.5, "workers": 2}})
        archives = open_archives(tmp_path / "archive")
        asked = [r for r in requests(system, archives, VALID, leads, NAMES) if not files or r.file in files]
        script = lab.Script(list(rules))
        with serve(tmp_path / "bucket", handler=lab.faulty(script)) as server:
            name = str(tmp_path / "bucket") if folder else server.url
            with open_sources([name], workspace=Workspace(tmp_path), settings=settings) as sources:
                now = CYCLE + np.timedelta64(1000, "h")
                outcomes = fetch_files(asked, sources, settings=settings.archive, now=now)
                return Done({outcome.file: outcome for outcome in outcomes}, archives)

    return bring


def status(done, file):
    return done.outcomes[locations.archive_path(file).as_posix()].status


def reason(done, file):
    return done.outcomes[locations.archive_path(file).as_posix()].reason


@pytest.mark.parametrize("folder", [False, True], ids=["server", "folder"])
def test_probabilities_come_whole_and_by_name(bring, tmp_path, folder):
    publish(tmp_path / "bucket", PROBABILITIES, list(product_rows("probability")))
    done = bring(PROBABILITIES, folder=folder)
    assert status(done, PROBABILITIES) == "ok"
    assert set(done.held(PROBABILITIES)) == {
        p.name for p in products("refs") if p.kind == "probability" and p.variable.name in NAMES
    }
    assert {o.status for o in verify_archive(done.archives["refs"])} == {"ok"}


def test_event_in_the_header_must_be_that_of_the_index(bring, tmp_path):
    rows = list(product_rows("probability"))
    rows[0], rows[1] = (*rows[0][:3], rows[1][3]), (*rows[1][:3], rows[0][3])  # 10 and 20 dBZ
    publish(tmp_path / "bucket", PROBABILITIES, rows)
    done = bring(PROBABILITIES)
    assert (status(done, PROBABILITIES), done.held(PROBABILITIES)) == ("bad", None)
    assert "another field or lead" in reason(done, PROBABILITIES)


@pytest.mark.parametrize("folder", [False, True], ids=["server", "folder"])
def test_member_without_a_field_counts_and_says_so(bring, tmp_path, folder):
    publish(tmp_path / "bucket", MEMBER, list(member_rows(MEMBER, names=("refc", "t2m", "cape"))))
    done = bring(MEMBER, folder=folder)
    assert (status(done, MEMBER), reason(done, MEMBER)) == ("ok", "it has no cin")
    assert sorted(done.held(MEMBER)) == ["cape", "refc", "t2m"]
    assert status(bring(MEMBER, folder=folder), MEMBER) == "cached"


def test_index_cut_short_is_not_a_member_without_a_field(bring, tmp_path):
    publish(tmp_path / "bucket", MEMBER, list(member_rows(MEMBER)))
    done = bring(MEMBER, rules=[Rule(".idx", lab.lines(lambda rows: rows[:-1]))])
    assert (status(done, MEMBER), done.held(MEMBER)) == ("bad", None)
    assert "index ends before" in reason(done, MEMBER)


def test_file_with_none_of_the_fields_is_bad(bring, tmp_path):
    rows = [("HGT", "surface", "", row[3]) for row in member_rows(MEMBER)]
    publish(tmp_path / "bucket", MEMBER, rows)
    assert status(bring(MEMBER), MEMBER) == "bad"


def test_statistic_over_a_period_is_not_taken_for_a_member(bring, tmp_path):
    rows = list(member_rows(MEMBER, names=("t2m",)))
    publish(tmp_path / "bucket", MEMBER, [(*row[:2], "ENS=+2", rows[0][3]) for row in rows])
    path = tmp_path / "bucket" / locations.bucket_path(MEMBER)
    index = path.with_name(path.name + ".idx")
    index.write_text(index.read_text().replace("3 hour fcst", "2-3 hour max fcst"))
    assert status(bring(MEMBER), MEMBER) == "bad"


def test_all_files_of_a_cycle_are_asked_for_and_missing_ones_are_gaps(bring, tmp_path):
    publish(tmp_path / "bucket", MEMBER, list(member_rows(MEMBER)))
    done = bring()
    assert len(done.outcomes) == 14 + 4
    assert {file: o.status for file, o in done.outcomes.items() if o.status != "gap"} == {
        locations.archive_path(MEMBER).as_posix(): "ok"
    }


def test_href_products_come_from_a_server_that_still_has_them(bring, tmp_path):
    mean = GribFile("href", "mean", CYCLE, 3)
    publish(tmp_path / "bucket", mean, list(product_rows("mean", mean, "href")))
    done = bring(mean, system="href")
    assert (status(done, mean), done.held(mean)) == ("ok", ["t2m_mean", "cape_mean", "cin_mean"])


def test_simulated_files_do_not_join_real_ones_of_another_room(bring, tmp_path):
    publish(tmp_path / "bucket", MEMBER, list(member_rows(MEMBER)))
    hrrr = locations.hrrr(CYCLE, 3)
    publish(tmp_path / "bucket", hrrr, [(*row[:2], "", row[3]) for row in hrrr_rows(hrrr)])
    assert status(bring(MEMBER), MEMBER) == "ok"
    with pytest.raises(DamagedFileError, match="cannot take simulated ones"):
        bring(MEMBER, hrrr)
