from __future__ import annotations

import re

import numpy as np
import pytest

from convcast.archive.failures import Bad, Incomplete
from convcast.archive.messages.index import UNKNOWN_END, Span, merge, missing_messages, parse, select
from convcast.archive.messages.spec import fields
from convcast.variables import CAPE, CIN, FIELDS, REFC, T2M

FIELD_ROWS = {
    "REFC:entire atmosphere",
    "TMP:2 m above ground",
    "DPT:2 m above ground",
    "UGRD:10 m above ground",
    "VGRD:10 m above ground",
    "CAPE:surface",
    "CIN:surface",
}
EXPECTED = {
    "20221014.hrrr.t01z.wrfsfcf00.grib2.idx": 8331620,
    "20221014.hrrr.t09z.wrfsfcf05.grib2.idx": 8859166,
    "20231104.hrrr.t01z.wrfsfcf00.grib2.idx": 7858529,
    "20231104.hrrr.t01z.wrfsfcf05.grib2.idx": 8151414,
    "hrrr.t00z.wrfsfcf00.grib2.idx": 8366197,
    "20221014.hrrr.t01z.wrfsubhf00.grib2.idx": "has no cape",
    "20221014.hrrr.t03z.wrfsubhf09.grib2.idx": "has no refc",
    "20231104.hrrr.t01z.wrfsubhf00.grib2.idx": "has no cape",
    "20231104.hrrr.t01z.wrfsubhf09.grib2.idx": "has no refc",
    "rap.t00z.awp130pgrbf00.grib2.idx": "u10 is a submessage",
}
"""Bytes of the seven fields, counted with awk; or the refusal."""
SEVEN = tuple(FIELDS.values())
INIT = np.datetime64("2023-12-01T00", "h")
TWO = "1:0:d=2023120100:REFC:entire atmosphere:anl:\n2:100:d=2023120100:TMP:2 m above ground:anl:\n"


def found(rows, variables, *, init, lead):
    """The spans of fields all of which must be there."""
    spans, lacking = select(rows, fields(variables), init=init, lead=lead)
    if lacking:
        raise missing_messages(lacking, lead)
    return spans


@pytest.mark.parametrize("name", EXPECTED)
def test_real_indexes_give_the_right_rows_or_a_named_refusal(shared_data, name):
    text = (shared_data / "idx" / name).read_text()
    rows = parse(text)
    cycle, lead = rows[0].cycle, int(re.search(r"f(\d\d)\.", name)[1])
    init = np.datetime64(f"{cycle[:4]}-{cycle[4:6]}-{cycle[6:8]}T{cycle[8:]}", "h")
    if isinstance(EXPECTED[name], str):
        with pytest.raises(Bad, match=EXPECTED[name]):
            found(rows, SEVEN, init=init, lead=lead)
        return
    spans = found(rows, SEVEN, init=init, lead=lead)
    lines = {f":{span.start}:": line for span in spans for line in text.splitlines() if f":{span.start}:d=" in line}
    assert {":".join(line.split(":")[3:5]) for line in lines.values()} == FIELD_ROWS
    assert sum(span.length for span in spans) == EXPECTED[name]


def test_every_real_index_is_expected(shared_data):
    assert {path.name for path in (shared_data / "idx").iterdir()} == set(EXPECTED)


def test_seven_fields_are_five_ranges(shared_data):
    rows = parse((shared_data / "idx/hrrr.t00z.wrfsfcf00.grib2.idx").read_text())
    assert len(merge(found(rows, SEVEN, init=INIT, lead=0))) == 5


def test_spans_come_in_the_order_of_the_file():
    assert [span.spec.name for span in found(parse(TWO), (T2M, REFC), init=INIT, lead=0)] == ["refc", "t2m"]


def test_last_message_is_open():
    assert found(parse(TWO), (T2M,), init=INIT, lead=0) == (Span(*fields([T2M]), 100, UNKNOWN_END),)


def test_analysis_and_forecast_are_told_apart():
    text = TWO + "3:200:d=2023120100:TMP:2 m above ground:1 hour fcst:\n4:300:d=2023120100:TMP:surface:anl:\n"
    assert found(parse(text), (T2M,), init=INIT, lead=1) == (Span(*fields([T2M]), 200, 300),)


def test_statistics_with_the_same_name_are_not_taken():
    text = "1:0:d=2023120100:TMP:2 m above ground:0-1 hour max fcst:\n" + TWO.replace("1:0:", "2:50:").replace(
        "2:100", "3:100"
    )
    assert found(parse(text), (REFC,), init=INIT, lead=0) == (Span(*fields([REFC]), 50, 100),)


def test_row_with_further_columns_is_another_field():
    text = TWO.replace("2 m above ground:anl:", "2 m above ground:anl:ENS=+1")
    with pytest.raises(Incomplete, match="has no t2m"):
        found(parse(text), (T2M,), init=INIT, lead=0)


def test_all_missing_variables_are_named():
    with pytest.raises(Incomplete, match=r"cape \(CAPE:surface:anl\), cin \(CIN:surface:anl\).*--fields"):
        found(parse(TWO), (CAPE, T2M, CIN), init=INIT, lead=0)


@pytest.mark.parametrize("text", ["", "\n", " \r\n\n"])
def test_empty_index_is_incomplete(text):
    with pytest.raises(Incomplete, match="empty"):
        parse(text)


ROWS = [
    "1:0:d=2023120100:REFC:entire atmosphere:anl:",
    "2:90:d=2023120100:HGT:surface:anl:",
    "3:100:d=2023120100:TMP:2 m above ground:anl:",
]
ODD = {
    "an empty column": "2:90:d=2023120100::surface:anl:",
    "no column but the offset": "2:90:d=::::",
    "another cycle": "2:90:d=2023113023:HGT:surface:anl:",
    "a year of too many digits": "2:90:d=" + "9" * 5000 + ":HGT:surface:anl:",
    "an offset of thousands of digits": f"2:{'9' * 5000}:d=2023120100:HGT:surface:anl:",
    "an offset beyond any file": f"2:{10**19}:d=2023120100:HGT:surface:anl:",
    "a negative offset": "2:-90:d=2023120100:HGT:surface:anl:",
    "no offset": "2::d=2023120100:HGT:surface:anl:",
    "no row": "HGT",
    "a number of thousands of digits": "9" * 5000 + ":90:d=2023120100:HGT:surface:anl:",
}


# A last line that is no row is that of an index that is still being uploaded.
@pytest.mark.parametrize(
    ("odd", "place"), sorted({(odd, place) for odd in ODD for place in range(3)} - {("no row", 2)})
)
def test_an_odd_row_that_is_not_wanted_is_nobody_s(odd, place):
    rows = [ROWS[0], ROWS[2]]
    rows.insert(place, ODD[odd].replace(":90:", f":{(0, 90, 200)[place]}:"))
    if place == 0:
        rows = [rows[0], *(row.replace(":0:d", ":50:d") for row in rows[1:])]
    spans = found(parse("\n".join(rows) + "\n"), (REFC, T2M), init=INIT, lead=0)
    assert [span.start for span in spans] == [50 if place == 0 else 0, 100]
    assert spans[0].end in ((90, UNKNOWN_END) if place == 1 else (100,))
    assert spans[1].end in ((200, UNKNOWN_END) if place == 2 else (UNKNOWN_END,))


@pytest.mark.parametrize("offset", ["9" * 5000, str(10**19), "-1", "", "1e3", "\u0664"])
def test_an_odd_offset_of_a_wanted_row_is_refused_in_one_short_sentence(offset):
    text = "\n".join([ROWS[0], f"2:{offset}:d=2023120100:TMP:2 m above ground:anl:", ROWS[1]])
    with pytest.raises(Bad, match="does not say where t2m lies") as caught:
        found(parse(text), (REFC, T2M), init=INIT, lead=0)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("blank", ["\n", "  \n", "\r\n"])
def test_blank_lines_do_not_count(blank):
    text = blank + TWO.replace("\n", "\n" + blank) + blank
    assert found(parse(text), (T2M, REFC), init=INIT, lead=0) == found(parse(TWO), (T2M, REFC), init=INIT, lead=0)


def test_touching_spans_merge_and_others_do_not():
    spans = (Span(*fields([REFC]), 0, 10), Span(*fields([T2M]), 10, 30), Span(*fields([CAPE]), 31, UNKNOWN_END))
    assert merge(spans) == ((0, 30), (31, UNKNOWN_END))
