"""Whatever stands in a file from elsewhere, what comes out is its content or one of the documented errors."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from contextlib import suppress

import laboratory as lab
import numpy as np
import pytest
from hypothesis import given, strategies as st
from spoiling import examples, spoilt_bytes, spoilt_json

from convcast import grib
from convcast.archive import Archive
from convcast.archive.archive import SIDECAR_SUFFIX
from convcast.archive.failures import Failure
from convcast.archive.messages import framing, index
from convcast.archive.messages.spec import fields
from convcast.archive.scans import SCAN_KEY, nearest, parse_listing, unpack
from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.preprocessing.decode import decode_hour
from convcast.dataset.store import Store
from convcast.errors import ConvcastError, SettingsError
from convcast.forecasts.calibration import Calibration, MemberMap, read_calibration
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grib.scans import encode_scan
from convcast.grid import RegularGrid
from convcast.model import checkpoint
from convcast.model.training.preparation import describe
from convcast.notation import HOUR
from convcast.settings.load import load_settings, nested
from convcast.variables import FIELDS
from convcast.verification.data.ensembles import open_ensembles
from convcast.verification.data.radar_cells import RadarCells
from convcast.verification.data.truth import open_truth

LINES = lab.index(lab.HOUR, lab.messages(lab.HOUR)).splitlines(keepends=True)
WANTED = fields(lab.VARIABLES)


@given(st.one_of(spoilt_bytes("".join(LINES).encode()), st.text(max_size=60).map(lambda text: text.encode())))
@examples(100)
def test_an_index_of_anything_is_read_or_refused(data):
    with suppress(Failure, UnicodeDecodeError):  # the client has decoded it
        spans, _ = index.select(index.parse(data.decode("ascii")), WANTED, init=lab.HOUR, lead=0)
        assert all(span.length > 0 or span.end == index.UNKNOWN_END for span in spans)
        index.merge(spans)


MESSAGES = [m for m, (_, _, key) in zip(lab.messages(lab.HOUR), lab.ROWS, strict=True) if key != lab.ROWS[2][2]]
HEADERS = 230
"""Octets before the packed values."""
LISTING = (
    b"<ListBucketResult><Contents><Key>CONUS/MergedReflectivityQCComposite_00.50/20240506/"
    b"MRMS_MergedReflectivityQCComposite_00.50_20240506-180036.grib2.gz</Key><Size>1200</Size></Contents>"
    b"</ListBucketResult>"
)


@given(st.integers(0, 2), spoilt_bytes(MESSAGES[0], within=HEADERS), spoilt_bytes(MESSAGES[1]))
@examples(100)
def test_grib_of_anything_is_read_or_refused(tmp_path, place, one, other):
    spoilt = b"".join([*MESSAGES[:place], one, *MESSAGES[place + 1 :], other])
    path = tmp_path / "hour.grib2"
    path.write_bytes(spoilt)
    with suppress(Failure), open(path, "rb") as file:
        list(framing.walk(file))
    with suppress(ConvcastError):
        for header in (message.header for message in grib.read_messages(path)):
            header.grid()
    with suppress(ConvcastError):
        decode_hour(path, valid=lab.HOUR, lead=0, variables=lab.VARIABLES)
    for message in (one, other):
        with suppress(ConvcastError):
            grib.decode(message)


SCAN = encode_scan(
    np.where(np.arange(600).reshape(20, 30) % 7, -99.0, 42.5),
    key=SCAN_KEY,
    grid=RegularGrid(20, 30, 36.995, 262.005, 0.01),
    time=lab.HOUR + np.timedelta64(40, "s"),
)


@given(st.one_of(spoilt_bytes(SCAN, within=HEADERS), spoilt_bytes(SCAN), st.binary(max_size=40)))
@examples(100)
def test_a_scan_of_anything_is_read_or_refused(data):
    for file in (data, gzip.compress(data), gzip.compress(SCAN)[: len(data)]):
        with suppress(Failure):
            unpack(file)
    with suppress(ConvcastError):
        header, values = grib.decode(data)
        RadarCells(header.regular_grid(), lab.GRID).to_cells(values, "maximum")


@given(st.one_of(spoilt_bytes(LISTING).map(lambda data: data.decode("ascii", "replace")), st.text(max_size=60)))
@examples(100)
def test_a_list_of_anything_is_read_or_refused(text):
    with suppress(Failure):
        nearest(parse_listing(text), lab.HOUR)


TOML = """\
preset = "demo"
[archive]
sources = ["simulated"]
read_timeout = 3.5
[model]
leads = [1, 3]
reference = { default = "regression", refc = "advected" }
[training]
weights = { refc = 2.0 }
"""


@given(st.one_of(spoilt_bytes(TOML.encode()), st.binary(max_size=40)))
@examples(100)
def test_settings_of_anything_are_read_or_refused(tmp_path, data):
    path = tmp_path / "convcast.toml"
    path.write_bytes(data)
    with suppress(SettingsError):
        load_settings(path)


SETTINGS = load_settings(preset="demo").model_dump(mode="json")
FLAT = [(group, name) for group, values in SETTINGS.items() if isinstance(values, dict) for name in values]


@given(st.sampled_from(FLAT), st.text(max_size=12))
@examples(100)
def test_an_assignment_of_anything_is_read_or_refused(place, text):
    with suppress(SettingsError):
        load_settings(flags=nested([".".join(place) + "=" + text]))
    with suppress(SettingsError):
        load_settings(flags=nested([text]))


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """An archive of one hour, and its sidecar."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    path = archive.path(lab.HOUR, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(lab.subset(lab.HOUR))
    size = path.stat().st_size
    sidecar = {
        "source": "aws",
        "url": "https://example.org/file.grib2",
        "etag": '"tag"',
        "ranges": [[10, 10 + size]],
        "messages": [{"variable": "t2m", "offset": 0, "length": 10}],
        "bytes": size,
        "sha256": "00",
        "simulated": True,
        "fetched": "2024-05-07T01:00:00Z",
        "lacking": ["cin"],
    }
    return archive, path, sidecar


@given(st.data())
@examples(100)
def test_a_sidecar_of_anything_is_read_or_refused(archived, data):
    archive, path, sidecar = archived
    path.with_name(path.name + SIDECAR_SUFFIX).write_bytes(data.draw(spoilt_json(sidecar)))
    with suppress(ConvcastError):
        said = archive.sidecar(path)
        assert said.bytes == path.stat().st_size
        assert all(m.offset >= 0 and m.offset + m.length <= said.bytes for m in said.messages)
    archive.has(path, ["t2m"])
    assert archive.simulated in (None, True, False)
    assert archive.hours(0).tolist() == [lab.HOUR.item()]


LEARNT = Calibration(
    "2024-05-01T00",
    "2024-05-06T12",
    40,
    {"refc": {"1": {"all": MemberMap(1.2, 0.0, (-10.0, 20.0), (-10.0, 25.0), 9), "echo": MemberMap(0.8)}}},
).to_dict()


@given(spoilt_json(LEARNT))
@examples(100)
def test_a_calibration_of_anything_is_read_or_refused(tmp_path, data):
    path = tmp_path / "20240506T12.json"
    path.write_bytes(data)
    members = np.linspace(-10, 60, 48, dtype=np.float32).reshape(2, 4, 6)
    with suppress(ConvcastError):
        read = read_calibration(path)
        assert np.isfinite(read.apply(FIELDS["refc"], 1, members, np.zeros((4, 6), np.int8))).all()
        assert read.name


HOURS = np.datetime64("2014-07-02T00", "h") + np.arange(12) * HOUR


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("dataset") / "dataset.zarr"
    variables = tuple(FIELDS.values())
    store = Store.create(path, DatasetDescription(variables, lab.GRID, False, 0), np.ones((2, *lab.GRID.shape), "f4"))
    for hour in HOURS:
        values = [np.random.default_rng(0).uniform(v.display[0], v.display[1], lab.GRID.shape) for v in variables]
        store.write_hour(hour, np.stack(values).astype("f4"))
        if hour > HOURS[0]:
            store.write_tendencies(hour)
    store.write_status(HOURS, HourStatus.OK, [{"valid": str(hour)} for hour in HOURS])
    return path


SAMPLED = ForecastDescription(
    HOURS[6], (1,), (1,), tuple(FIELDS.values()), lab.GRID, {"simulated": 0}, {"title": "an ensemble"}
)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("forecasts") / "20140702T06.zarr"
    store = EnsembleStore.prepare(path, SAMPLED, members=2)
    for member in range(2):
        store.write(member, 1, np.stack([np.full(lab.GRID.shape, v.display[1], "f4") for v in FIELDS.values()]))
    return path


def spoil(data, store, tmp_path):
    """A copy of a Zarr store, one of whose metadata files is spoilt."""
    copied = tmp_path / store.name
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(store, copied, copy_function=os.link)
    descriptions = sorted(path.relative_to(store) for path in store.rglob("zarr.json"))
    chosen = copied / data.draw(st.sampled_from(descriptions))
    spoilt = data.draw(spoilt_json(json.loads(chosen.read_bytes())))
    chosen.unlink()
    chosen.write_bytes(spoilt)
    return copied


@given(st.data())
@examples(15)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_a_dataset_of_any_metadata_is_read_or_refused(dataset, tmp_path, data):
    path = spoil(data, dataset, tmp_path)
    with suppress(ConvcastError):
        opened = Dataset.open(path)
        opened.read(opened.hours[:2])
        opened.static  # noqa: B018
        opened.store.archived_grid  # noqa: B018
        opened.store.read_histogram(HOURS[1])
        opened.store.read_tendencies(HOURS[1])


@given(st.data())
@examples(15)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_an_ensemble_of_any_metadata_is_read_or_refused(dataset, ensemble, tmp_path, data):
    path = spoil(data, ensemble, tmp_path)
    truth = open_truth(dataset)
    with suppress(ConvcastError):
        found = open_ensembles(path, fields=truth.variables, points=truth.points, simulated=False)
        for one in found.ensembles:
            one.training_hours  # noqa: B018
            one.fingerprint  # noqa: B018
            for lead in one.leads:
                one.read(found.fields[0], lead, one.members(lead))
    with suppress(ConvcastError):
        EnsembleStore.prepare(path, SAMPLED, members=3).complete()


def of_others(kind):
    """An ensemble of two members as another program's file has it."""
    values = {v.name: np.full(lab.GRID.shape, np.mean(v.display)) for v in FIELDS.values()}
    if kind == "grib2":
        return b"".join(
            grib.encode(
                values[name] + member,
                key=FIELDS[name].grib,
                grid=lab.GRID,
                init=HOURS[6],
                lead_hours=1,
                simulated=False,
                ensemble=grib.EnsembleSpec(2, member=member),
            )
            for name in ("t2m", "u10")
            for member in (0, 1)
        )
    data = ensemble_dataset(
        {name: np.stack([[its], [its]]) for name, its in values.items()},
        init=HOURS[6],
        members=range(2),
        leads=[1],
        grid=lab.GRID,
        attributes={"title": "an ensemble"},
    )
    for name in data.variables:
        data[name].encoding.clear()
    if kind == "netcdf3":
        data = data.drop_vars(["complete", "number", "lead_time", "valid_time"]).assign_coords(number=[0, 1])
        data = data.assign_coords(lead_time=("lead_time", [1.0], {"units": "h"}))
    return bytes(data.to_netcdf(format="NETCDF4" if kind == "netcdf4" else "NETCDF3_64BIT"))


@pytest.mark.parametrize("kind", ["grib2", "netcdf3", "netcdf4"])
@given(st.data())
@examples(25)
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_others_of_any_bytes_is_read_or_refused(dataset, tmp_path, kind, data):
    path, truth = tmp_path / "file", open_truth(dataset)
    path.write_bytes(data.draw(spoilt_bytes(of_others(kind))))
    with suppress(ConvcastError):
        found = open_ensembles(path, fields=truth.variables, points=truth.points, simulated=False, foreign=True)
        for one in found.ensembles:
            one.fingerprint  # noqa: B018
            for lead in one.leads:
                one.read(found.fields[0], lead, one.members(lead))
    with suppress(ConvcastError):
        opened = open_truth(path)
        for hour in opened.hours:
            opened.read(opened.variables[0], hour)


@pytest.mark.parametrize("kind", ["grib2", "netcdf3", "netcdf4"])
def test_the_file_of_others_is_read_whole(dataset, tmp_path, kind):
    path, truth = tmp_path / "file", open_truth(dataset)
    path.write_bytes(of_others(kind))
    found = open_ensembles(path, fields=truth.variables, points=truth.points, simulated=False, foreign=True)
    assert found.ensembles[0].read(FIELDS["t2m"], 1, np.array([0, 1])).shape == (2, *lab.GRID.shape)


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    """A model's description, and the document that says it."""
    directory = tmp_path_factory.mktemp("model")
    flags = {"split": {"validation_days": 0, "test_days": 0, "gap_hours": 0}, "training": {"patch": 16}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convcast.model.features.correction.MAX_STEPS", 2)
        return directory, describe(Dataset.open(dataset), load_settings(flags=flags, preset="demo")).to_dict()


@given(st.data())
@examples(60)
def test_a_model_s_description_of_anything_is_read_or_refused(model, data):
    directory, document = model
    (directory / checkpoint.DESCRIPTION).write_bytes(data.draw(spoilt_json(document)))
    with suppress(ConvcastError):
        checkpoint.ModelDescription.read(directory)
