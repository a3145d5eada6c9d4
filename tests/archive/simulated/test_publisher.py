from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from convcast import grib
from convcast.archive import locations, scans
from convcast.archive.messages.index import parse, select
from convcast.archive.messages.spec import fields
from convcast.archive.simulated import publisher as module
from convcast.archive.simulated.hrrrcast import probability_matched_mean
from convcast.archive.simulated.observation import FIELDS as SIMULATED
from convcast.archive.simulated.publisher import ORDER, Publisher, simulated_grid
from convcast.archive.simulated.world import World
from convcast.errors import DamagedFileError
from convcast.settings import SimulationSettings
from convcast.variables import FIELDS, STATIC

SETTINGS = SimulationSettings(size=32, start="2024-05-01T00", days=2, seed=5)
START = np.datetime64("2024-05-01T00", "h")


class StandIn:
    """A world that takes no time: every value tells hour and field."""

    runs = 0

    def __init__(self, ny, nx, seed):
        self.terrain = np.linspace(0, 1000, ny * nx).reshape(ny, nx)
        self.land = np.ones((ny, nx))

    def nature_run(self, start, hours, state=None):
        StandIn.runs += 1
        for hour in range(hours):
            time = start + hour
            yield time, SimpleNamespace(hour=int(time.astype(int)) % 1000)

    def observe(self, state, time):
        gradient = np.arange(32.0)[None, None, :].repeat(32, 1)
        return {name: gradient + state.hour / 4 + number for number, name in enumerate(FIELDS)}


class StandInModel:
    """A forecast model whose values tell the analysis and the lead."""

    hours = 0

    def __init__(self, ny, nx, seed):
        pass

    def run(self, fields, init):
        assert fields["t2m"].shape == (32, 32)
        for lead in range(1, 100):
            StandInModel.hours += 1
            yield {name: values[None] + lead for name, values in fields.items()}

    def run_ensemble(self, fields, init, members):
        for one in self.run(fields, init):
            yield {name: values + np.arange(members)[:, None, None] for name, values in one.items()}


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "World", StandIn)
    monkeypatch.setattr(module, "ForecastModel", StandInModel)
    monkeypatch.setattr(StandIn, "runs", 0)
    monkeypatch.setattr(StandInModel, "hours", 0)
    return Publisher(tmp_path, SETTINGS)


def headers(path):
    return (message.header for message in grib.read_messages(path))


def name(hour):
    return str(locations.archive_path(locations.hrrr(START + hour, 0)))


def test_hour_appears_when_asked_for(publisher, tmp_path):
    publisher.publish(name(3))
    assert (tmp_path / name(3)).is_file()


def test_hours_ahead_are_not_published(publisher, tmp_path):
    publisher.publish(name(3))
    assert not (tmp_path / name(4)).exists()


def test_same_hour_is_the_same_bytes_in_any_order(publisher, tmp_path, monkeypatch):
    for hour in (30, 2, 12, 47):
        publisher.publish(name(hour))
    other = Publisher(tmp_path / "other", SETTINGS)
    for hour in (2, 12, 30, 47):
        other.publish(name(hour))
    ours, theirs = ([(root / name(h)).read_bytes() for h in (2, 12, 30, 47)] for root in (tmp_path, tmp_path / "other"))
    assert ours == theirs


def test_hours_a_little_out_of_order_need_one_run_of_the_world(publisher):
    for hour in (20, 17, 22, 19, 25):
        publisher.publish(name(hour))
    assert StandIn.runs == 1


@pytest.mark.usefixtures("short_spin_up")
class TestKeptState:
    SETTINGS = SimulationSettings(size=32, start="2024-05-09T00", days=2, seed=5)  # where an era begins

    @staticmethod
    def name(hour):
        return str(locations.archive_path(locations.hrrr(np.datetime64("2024-05-09T00", "h") + hour, 0)))

    @pytest.fixture
    def root(self, tmp_path):
        """Hours 0 to 2, and the state of hour 2."""
        first = Publisher(tmp_path / "one", self.SETTINGS)
        first.publish(self.name(2))
        first.keep_state()
        return first.root

    def test_a_later_run_goes_on_to_the_same_bytes_without_a_spin_up(self, root, tmp_path, monkeypatch):
        other = Publisher(tmp_path / "other", self.SETTINGS)
        other.publish(self.name(4))
        monkeypatch.setattr(World, "_clear_sky", None)

        Publisher(root, self.SETTINGS).publish(self.name(4))

        assert (root / self.name(4)).read_bytes() == (other.root / self.name(4)).read_bytes()

    @pytest.mark.parametrize("how", ["cut", "empty", "of another version", "of another size", "gone"])
    def test_a_state_that_cannot_be_used_is_done_without(self, root, how, monkeypatch):
        file = root / module.STATE_FILE
        content = file.read_bytes()
        match how:
            case "cut":
                file.write_bytes(content[: len(content) // 2])
            case "empty":
                file.write_bytes(b"")
            case "of another version":
                monkeypatch.setattr(module, "__version__", "0")
            case "of another size":
                np.savez(file, **{name: value[..., :2] for name, value in np.load(file).items() if value.ndim})
            case "gone":
                file.unlink()

        Publisher(root, self.SETTINGS).publish(self.name(3))

        assert (root / self.name(3)).is_file()


@pytest.mark.parametrize("hour", [-1, 48])
def test_hours_outside_the_world_are_not_there(publisher, tmp_path, hour):
    publisher.publish(name(hour))
    assert not (tmp_path / name(hour)).exists()


def test_index_says_where_the_messages_are(publisher, tmp_path):
    publisher.publish(name(1))
    path = tmp_path / name(1)
    rows = parse((tmp_path / f"{name(1)}.idx").read_text())
    headers = [message.header for message in grib.read_messages(path)]
    assert [(h.offset, h.key) for h in headers] == [
        (row.offset, key) for row, (_, _, _, key) in zip(rows, ORDER, strict=True)
    ]


def test_all_wanted_fields_are_selected_from_the_index(publisher, tmp_path):
    publisher.publish(name(1))
    rows = parse((tmp_path / f"{name(1)}.idx").read_text())
    spans, lacking = select(rows, fields((*FIELDS.values(), *STATIC.values())), init=START + 1, lead=0)
    assert (len(spans), lacking) == (9, ())


def test_every_message_is_dated_and_says_simulated(publisher, tmp_path):
    publisher.publish(name(29))
    assert {(h.init, h.simulated, h.lead_hours) for h in headers(tmp_path / name(29))} == {(START + 29, True, 0)}


def test_messages_lie_on_a_periodic_part_of_the_hrrr_grid(publisher, tmp_path):
    publisher.publish(name(0))
    assert {h.grid() for h in headers(tmp_path / name(0))} == {simulated_grid(32)}


def test_values_come_back_on_the_lattice(publisher, tmp_path):
    publisher.publish(name(0))
    path = tmp_path / name(0)
    header = next(h for h in (message.header for message in grib.read_messages(path)) if h.key == FIELDS["t2m"].grib)
    _, values = grib.decode(path.read_bytes()[header.offset : header.offset + header.length])
    hour = int(START.astype(int)) % 1000
    expected = np.arange(32.0)[None, :].repeat(32, 0) + hour / 4 + 1
    assert np.abs(values - expected).max() <= 1 / 32


def test_world_is_written_down(publisher, tmp_path):
    expected = {"size": 32, "seed": 5, "start": "2024-05-01T00", "days": 2}
    assert json.loads((tmp_path / "world.json").read_text()) == expected


@pytest.mark.parametrize("other", [{"size": 48}, {"seed": 6}])
def test_another_world_in_the_same_place_is_refused(publisher, tmp_path, other):
    with pytest.raises(DamagedFileError, match="size 32 and seed 5"):
        Publisher(tmp_path, SETTINGS.model_copy(update=other))


def test_more_days_of_the_same_world_are_welcome(publisher, tmp_path):
    Publisher(tmp_path, SETTINGS.model_copy(update={"days": 3})).publish(name(60))
    assert (tmp_path / name(60)).is_file()


def forecast_name(hour, lead):
    return str(locations.archive_path(locations.hrrr(START + hour, lead)))


def test_forecasts_start_from_the_published_analysis(publisher, tmp_path):
    publisher.publish(forecast_name(5, 3))
    assert (tmp_path / name(5)).is_file()
    read = {lead: [m.decode() for m in grib.read_messages(tmp_path / forecast_name(5, lead))] for lead in (0, 3)}
    for (field, *_), analysed, forecast in zip(ORDER, read[0], read[3], strict=True):
        np.testing.assert_array_equal(forecast, analysed + (3 if field in FIELDS else 0), field)


def test_forecasts_are_dated_indexed_and_say_simulated(publisher, tmp_path):
    publisher.publish(forecast_name(30, 6))
    path = forecast_name(30, 6)
    found = {(h.init, h.simulated, h.lead_hours) for h in headers(tmp_path / path)}
    assert found == {(START + 30, True, 6)}
    rows = parse((tmp_path / f"{path}.idx").read_text())
    spans, lacking = select(rows, fields((*FIELDS.values(), *STATIC.values())), init=START + 30, lead=6)
    assert (len(spans), lacking) == (9, ())


def test_forecasts_are_the_same_in_any_order_and_leads_go_on_from_each_other(publisher, tmp_path):
    for lead in (1, 3, 18):
        publisher.publish(forecast_name(2, lead))
    assert StandInModel.hours == 18
    other = Publisher(tmp_path / "other", SETTINGS)
    for lead in (18, 1, 3):
        other.publish(forecast_name(2, lead))
    ours, theirs = (
        [(root / forecast_name(2, lead)).read_bytes() for lead in (1, 3, 18)] for root in (tmp_path, tmp_path / "other")
    )
    assert ours == theirs


@pytest.mark.parametrize(("hour", "lead"), [(-1, 1), (48, 1), (0, 19)])
def test_forecasts_of_other_cycles_and_leads_are_not_there(publisher, tmp_path, hour, lead):
    publisher.publish(forecast_name(hour, lead))
    assert not (tmp_path / forecast_name(hour, lead)).exists()


def test_forecasts_reach_beyond_the_last_published_hour(publisher, tmp_path):
    publisher.publish(forecast_name(47, 6))
    assert (tmp_path / forecast_name(47, 6)).is_file()


def test_a_scan_is_published_when_its_names_are_listed(publisher):
    before, after = (f"{locations.SCANS}/{prefix}" for prefix in scans.prefixes(START + 5))
    publisher.publish(before)
    assert not (publisher.root / "CONUS").exists()
    publisher.publish(after)
    (path,) = (publisher.root / locations.SCANS).glob("*/*.gz")
    assert path.relative_to(publisher.root).as_posix().startswith(after)
    header, values = grib.decode(scans.unpack(path.read_bytes()))
    assert header.simulated
    assert header.key == scans.SCAN_KEY
    assert values.min() == -999
    assert 0.02 < (values == -999).mean() < 0.6
    content = path.read_bytes()
    path.unlink()
    publisher.publish(after)
    assert path.read_bytes() == content


def test_no_scan_is_published_outside_the_simulated_days(publisher):
    for hour in (START - 1, START + 48):
        publisher.publish(f"{locations.SCANS}/{scans.prefixes(hour)[1]}")
    assert not (publisher.root / "CONUS").exists()


def cast_name(hour, lead, product="pgrb2", member=None):
    return str(locations.bucket_path(locations.GribFile("hrrrcast", product, START + hour, lead, member)))


def read_fields(path):
    return {h.key: values for h, values in ((m.header, m.decode()) for m in grib.read_messages(path))}


def test_a_lead_of_hrrrcast_is_published_whole(publisher, tmp_path):
    publisher.publish(f"{cast_name(5, 3, member=7)}.idx")
    names = {path.name for path in (tmp_path / cast_name(5, 3, "avg")).parent.glob("*f03")}
    tokens = {*(f"m{number:02d}" for number in range(18)), "avg", "spr"}
    assert names == {f"hrrrcast.{token}.t05z.pgrb2.f03" for token in tokens}
    analysed = read_fields(tmp_path / name(5))
    found = {token: read_fields(tmp_path / cast_name(5, 3, token)) for token in ("avg", "spr")}
    found["m07"] = read_fields(tmp_path / cast_name(5, 3, member=7))
    key = FIELDS["t2m"].grib
    for token, expected in (("m07", analysed[key] + 3 + 7), ("avg", analysed[key] + 3 + 8.5), ("spr", 27**0.5)):
        assert np.abs(found[token][key] - expected).max() <= 1 / 16, token


def test_messages_of_hrrrcast_are_found_as_in_its_index(publisher, tmp_path):
    publisher.publish(cast_name(6, 40, "spr"))
    rows = parse((tmp_path / f"{cast_name(6, 40, 'spr')}.idx").read_text())
    wanted = fields([FIELDS[field] for field in SIMULATED])
    spans, lacking = select(rows, wanted, init=START + 6, lead=40)
    assert (len(spans), lacking) == (7, ())
    assert {(h.init, h.simulated, h.lead_hours) for h in headers(tmp_path / cast_name(6, 40, "spr"))} == {
        (START + 6, True, 40)
    }


def test_hrrrcast_is_published_hours_late_and_to_the_last_lead_of_its_cycle(publisher, tmp_path):
    for hour, lead in ((5, 19), (6, 49), (42, 1), (5, 0), (-1, 1)):
        publisher.publish(cast_name(hour, lead, "avg"))
    assert not (tmp_path / "HRRRCast").exists()
    publisher.publish(cast_name(41, 18, "avg"))
    assert (tmp_path / cast_name(41, 18, "avg")).is_file()


def test_probability_matched_mean_has_the_members_values_where_their_mean_has_its_rank():
    members = np.random.default_rng(1).gamma(1, 10, (5, 6, 7))
    matched = probability_matched_mean(members)
    order = np.argsort(members.mean(0), axis=None)
    assert (np.diff(matched.ravel()[order]) >= 0).all()
    groups = np.sort(members.ravel()).reshape(42, 5)
    np.testing.assert_array_equal(np.sort(matched, axis=None), groups[:, 2])
