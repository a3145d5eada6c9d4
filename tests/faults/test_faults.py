"""Each thing that can go wrong between a bucket and a disk, and what must become of it."""

from __future__ import annotations

import base64

import laboratory as lab
import pytest
from laboratory import Rule

from convcast.errors import MissingInputError

INDEX, DATA = ".idx", ".grib2"


def swap(data: bytes) -> bytes:
    """The object as a re-upload packed it: every message elsewhere."""
    return b"".join(lab.messages(lab.HOUR, salt=1)[::-1])


def yesterday(data: bytes) -> bytes:
    """The same messages, dated a day earlier in section 1."""
    return data.replace(b"\x07\xe8\x05\x06\x12", b"\x07\xe8\x05\x05\x12")


def first_message_of_another_field(data: bytes) -> bytes:
    """Code of REFC's parameter replaced; all lengths stay."""
    section = data.index(b"\x04\x00\x00", 100)
    return data[: section + 6] + b"\xc5" + data[section + 7 :]


def drop(name):
    return lab.lines(lambda rows: [row for row in rows if f":{name}:surface:" not in row])


def twice(name):
    return lab.lines(lambda rows: [row for row in rows for _ in range(1 + (f":{name}:surface:" in row))])


FATAL = {
    "503 on the index": (Rule(INDEX, lab.status(503)), "transient", "answered 503"),
    "503 on the data": (Rule(DATA, lab.status(503)), "transient", "answered 503"),
    "429 slow down": (Rule(DATA, lab.status(429)), "transient", "answered 429"),
    "403 blocked": (Rule(INDEX, lab.status(403)), "transient", "refused access"),
    "400": (Rule(DATA, lab.status(400)), "bad", "answered 400"),
    "404 on the data": (Rule(DATA, lab.status(404)), "gap", "not there"),
    "404 on the index alone": (Rule(INDEX, lab.status(404)), "bad", "no index"),
    "reset on the index": (Rule(INDEX, lab.reset), "transient", "connection broke"),
    "reset on the data": (Rule(DATA, lab.reset), "transient", "connection broke"),
    "reset half-way": (Rule(DATA, lab.break_off), "transient", "connection"),
    "truncation": (Rule(DATA, lab.truncate), "transient", "connection"),
    "stall half-way": (Rule(DATA, lab.stall), "transient", "went silent"),
    "silence": (Rule(INDEX, lab.silent), "transient", "went silent"),
    "drip": (Rule(DATA, lab.drip), "transient", "stalled"),
    "range ignored": (Rule(DATA, lab.ignore_range), "bad", "ignores Range"),
    "another Content-Range": (Rule(DATA, lab.content_range("bytes 7-16/9999")), "bad", "were requested"),
    "no Content-Range": (Rule(DATA, lab.content_range(None)), "bad", "sent an unknown range"),
    "unreadable Content-Range": (Rule(DATA, lab.content_range("octets all")), "bad", "were requested"),
    "body shorter than its Content-Range": (Rule(DATA, lab.misjudge(0.5)), "transient", "connection ended after"),
    "body longer than its Content-Range": (Rule(DATA, lab.misjudge(2)), "bad", "more bytes than requested"),
    "object shorter than its index": (Rule(DATA, lab.edit(lambda data: data[:400])), "bad", "shorter"),
    "zero-byte object": (Rule(DATA, lab.edit(lambda data: b"")), "bad", "shorter"),
    "zero-byte index": (Rule(INDEX, lab.edit(lambda data: b"")), "bad", "index is empty"),
    "object re-uploaded, index stale": (Rule(DATA, lab.edit(swap)), "bad", "message"),
    "object of another cycle": (Rule(DATA, lab.edit(yesterday)), "bad", "belongs to the cycle of 2024-05-05T18"),
    "message of another field": (Rule(DATA, lab.edit(first_message_of_another_field)), "bad", "another field"),
    "no end marker": (Rule(DATA, lab.edit(lambda data: data.replace(b"7777", b"7787"))), "bad", "end as GRIB"),
    "no start marker": (Rule(DATA, lab.edit(lambda data: data.replace(b"GRIB", b"GRUB"))), "bad", "no GRIB message"),
    "zeros in place of data": (Rule(DATA, lab.edit(lambda data: bytes(len(data)))), "bad", "no GRIB message"),
    "index of another cycle": (
        Rule(INDEX, lab.edit(lambda data: data.replace(b"d=2024050618", b"d=2024050518"))),
        "bad",
        "cycle 2024050518",
    ),
    "index cut at a row": (Rule(INDEX, lab.lines(lambda rows: rows[:6])), "bad", "has no"),
    "index cut within a row": (Rule(INDEX, lab.edit(lambda data: data[:-25])), "bad", "not a row"),
    "index cut after the last wanted row": (Rule(INDEX, lab.lines(lambda rows: rows[:9])), "bad", "index ends before"),
    "message missing": (Rule(INDEX, drop("CAPE")), "bad", "has no cape (CAPE:surface:anl)"),
    "message twice": (Rule(INDEX, twice("CAPE")), "bad", "cape 2 times"),
    "submessage": (
        Rule(
            INDEX,
            lab.lines(lambda rows: [*rows[:5], f"5.2:{rows[4].split(':')[1]}:" + rows[5].split(":", 2)[2], *rows[6:]]),
        ),
        "bad",
        "submessage",
    ),
    "offsets that fall": (Rule(INDEX, lab.lines(lambda rows: rows[::-1])), "bad", "offsets of the index fall"),
    "binary index": (Rule(INDEX, lab.edit(lambda data: b"\x89PNG\xff\xfe" * 30)), "bad", "not text"),
    "web page for the index": (Rule(INDEX, lab.page), "bad", "web page"),
    "web page for the data": (Rule(DATA, lab.page), "bad", "web page"),
    "redirect in a circle": (
        Rule(DATA, lab.redirect("/hrrr.20240506/conus/hrrr.t18z.wrfsfcf00.grib2")),
        "bad",
        "redirects",
    ),
    "Content-Range of thousands of digits": (
        Rule(DATA, lab.content_range(f"bytes 0-{'9' * 5000}/{'9' * 5000}")),
        "bad",
        "were requested",
    ),
    "Content-Length of thousands of digits": (Rule(INDEX, lab.headers(Content_Length="9" * 5000)), "bad", "bytes long"),
    "Content-Length beyond 64 bits": (Rule(INDEX, lab.headers(Content_Length="9" * 20)), "bad", "bytes long"),
    "redirect to no address": (Rule(DATA, lab.status(302, Location="http://[/x")), "bad", "cannot be understood"),
    "redirect to no text": (Rule(INDEX, lab.status(302, Location="/\xff\xfe")), "bad", "cannot be understood"),
    "redirect to no port": (Rule(INDEX, lab.status(302, Location="http://127.0.0.1:99999999/")), "bad", "cannot be"),
    "redirect to a file": (Rule(INDEX, lab.status(302, Location="file:///etc/passwd")), "bad", "cannot be used"),
    "Retry-After of thousands of digits": (Rule(INDEX, lab.status(503, Retry_After="9" * 5000)), "transient", "503"),
    "wanted offset of thousands of digits": (
        Rule(INDEX, lab.edit(lambda data: data.replace(b"4:", b"4:" + b"9" * 5000, 1))),
        "bad",
        "does not say where",
    ),
    "redirect to a page": (Rule(DATA, lab.redirect("/nowhere.html")), "gap", "not there"),
}

PASSING = {
    "503 twice on the index": Rule(INDEX, lab.status(503), times=2),
    "503 twice on the data": Rule(DATA, lab.status(503), times=2),
    "429 with Retry-After": Rule(DATA, lab.status(429, Retry_After="0"), times=1),
    "reset on the index": Rule(INDEX, lab.reset, times=1),
    "reset on the data": Rule(DATA, lab.reset, times=1),
    "reset half-way": Rule(DATA, lab.break_off, times=2),
    "truncation": Rule(DATA, lab.truncate, times=1),
    "stall": Rule(DATA, lab.stall, times=1),
    "slow": Rule(DATA, lab.slow),
    "index with an empty column": Rule(INDEX, lab.edit(lambda data: data.replace(b":TMP:surface", b"::surface"))),
    "index with an unwanted offset of thousands of digits": Rule(
        INDEX, lab.lines(lambda rows: [*rows[:2], f"3:{'9' * 5000}:d=2024050618:TMP:surface:anl:\n", *rows[3:]])
    ),
    "index with blank last lines": Rule(INDEX, lab.edit(lambda data: data + b"\n \n")),
    "headers of any content": Rule(
        "",
        lab.headers(
            Last_Modified="\xff" * 300, Date="9" * 5000, Age="-1", Set_Cookie=f"a=b; Max-Age={'9' * 5000}", Vary=""
        ),
    ),
    "ETag of thousands of signs": Rule(DATA, lab.headers(ETag='"' + "\xe9" * 5000 + '"')),
}


@pytest.mark.parametrize("fault", FATAL)
def test_fault_is_named_and_leaves_nothing(run, fault):
    rule, status, reason = FATAL[fault]
    quick = {"connect_timeout": 0.2} if fault == "drip" else {}  # which goes on until both limits have passed
    done = run([Rule(rule.ending, rule.answer)], **quick)
    assert (done.outcome.status, reason in done.outcome.reason, done.files) == (status, True, set()), done.outcome


@pytest.mark.parametrize("fault", PASSING)
def test_fault_that_passes_is_waited_out(run, fault):
    rule = PASSING[fault]
    done = run([Rule(rule.ending, rule.answer, rule.times)])
    assert (done.outcome.status, done.data()) == ("ok", lab.subset(lab.HOUR)), done.outcome


def test_one_bad_hour_does_not_stop_the_others(run):
    done = run([Rule("t19z.wrfsfcf00.grib2", lab.status(500))], hours=lab.HOURS)
    assert {str(o.valid)[-2:]: o.status for o in done.outcomes} == {
        "18": "ok",
        "19": "transient",
        "20": "ok",
        "21": "ok",
    }


def test_redirect_to_another_server_is_followed(run, bucket):
    from convcast.archive.simulated.server import serve

    with serve(bucket) as mirror:
        done = run([Rule(DATA, lab.redirect(mirror.url)), Rule(INDEX, lab.redirect(mirror.url))])
    assert (done.outcome.status, done.data()) == ("ok", lab.subset(lab.HOUR))


def test_ranges_of_two_versions_are_not_joined(run):
    done = run([Rule(DATA, lab.tag('"first"'), times=1), Rule(DATA, lab.tag('"second"'))])
    assert (done.outcome.status, "was replaced" in done.outcome.reason, done.files) == ("transient", True, set())


def test_servers_of_one_address_may_tag_a_file_differently(run):
    def server(tag):
        return lab.headers(ETag=tag, Last_Modified="Mon, 06 May 2024 18:50:00 GMT")

    done = run([Rule(DATA, server('"first"'), times=1), Rule(DATA, server('"second"'))])
    assert (done.outcome.status, done.data()) == ("ok", lab.subset(lab.HOUR))


@pytest.mark.parametrize(
    "second", [{"ETag": '"second"', "Last-Modified": "Mon, 06 May 2024 18:51:00 GMT"}, {"ETag": '"second"'}]
)
def test_ranges_of_a_file_that_was_changed_meanwhile_are_not_joined(run, second):
    first = lab.headers(ETag='"first"', Last_Modified="Mon, 06 May 2024 18:50:00 GMT")
    done = run([Rule(DATA, first, times=1), Rule(DATA, lab.headers(**second))])
    assert (done.outcome.status, "was replaced" in done.outcome.reason, done.files) == ("transient", True, set())


QUICK = {"connect_timeout": 0.2, "read_timeout": 0.3, "retries": 0}


@pytest.mark.parametrize(
    ("ending", "habit"),
    [
        (INDEX, lab.drip_headers),
        (INDEX, lab.drip_status),
        (INDEX, lab.wait_for_ever),
        (DATA, lab.drip_headers),
        (DATA, lab.drip_chunk),
        (DATA, lab.drip),
    ],
)
def test_a_request_has_one_limit_headers_included(run, ending, habit):
    done = run([Rule(ending, habit)], **QUICK)
    assert (done.outcome.status, done.files) == ("transient", set())
    assert "in time" in done.outcome.reason or "stalled" in done.outcome.reason


def test_a_redirect_s_body_is_not_read(run):
    done = run([Rule(INDEX, lab.endless_redirect, times=1)])
    assert (done.outcome.status, done.data()) == ("ok", lab.subset(lab.HOUR))


@pytest.mark.parametrize("habit", [lab.drip_headers, lab.drip_status, lab.drip])
def test_the_deadline_ends_what_is_under_way(run, habit):
    patient = {"connect_timeout": 900, "read_timeout": 900, "retries": 0, "deadline": 0.01}
    done = run([Rule(DATA, habit)], hours=lab.HOURS, **patient)
    assert {(o.status, "deadline passed" in o.reason) for o in done.outcomes} == {("transient", True)}


def test_nothing_of_netrc_is_sent_and_environment_s_proxies_stay(run, bucket, tmp_path, monkeypatch):
    from convcast.archive.simulated.server import serve

    (tmp_path / "netrc").write_text("default login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    behind = lab.Script()
    with serve(bucket, handler=lab.faulty(behind)) as mirror:
        done = run([Rule(DATA, lab.redirect(mirror.url)), Rule(INDEX, lab.redirect(mirror.url))])
    assert (done.outcome.status, done.scripts[0].credentials, behind.credentials) == ("ok", [], [])

    proxy = lab.Script()
    monkeypatch.setenv("NO_PROXY", "")
    with serve(bucket, handler=lab.faulty(proxy)) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        run([], hours=lab.HOURS[1:2])
    assert proxy.requests
    assert proxy.credentials == []


def test_a_password_in_an_address_goes_to_its_server_and_into_no_file(run, bucket, tmp_path):
    from convcast.archive.simulated.server import serve

    elsewhere = lab.Script()
    with serve(bucket, handler=lab.faulty(elsewhere)) as mirror:
        done = run([Rule(DATA, lab.redirect(mirror.url))], user="me:s%2Fcr\u00e9t@")
    assert set(done.scripts[0].credentials) == {"Basic " + base64.b64encode("me:s/cr\u00e9t".encode()).decode()}
    assert elsewhere.credentials == []
    assert done.outcome.source == done.archive.sidecar(done.archive.path(lab.HOUR, 0)).source
    written = [path.read_bytes() for path in done.archive.root.rglob("*") if path.is_file()]
    assert not any(b"cr\xc3\xa9t" in data or b"s%2F" in data or b"me:" in data for data in written)


def test_young_hour_that_is_nowhere_is_late(run):
    missing = [Rule(INDEX, lab.status(404)), Rule(DATA, lab.status(404), method="HEAD")]
    assert run(missing, age=2).outcome.status == "late"


def test_old_hour_that_is_nowhere_is_a_gap(run):
    missing = [Rule(INDEX, lab.status(404)), Rule(DATA, lab.status(404), method="HEAD")]
    assert run(missing, age=4).outcome.status == "gap"


@pytest.mark.parametrize(
    "fault", ["404 on the index alone", "index cut at a row", "index cut within a row", "object shorter than its index"]
)
def test_young_hour_still_being_uploaded_is_late(run, fault):
    rule = FATAL[fault][0]
    assert run([Rule(rule.ending, rule.answer)], age=2).outcome.status == "late"


def test_young_hour_of_another_cycle_is_bad(run):
    rule = FATAL["index of another cycle"][0]
    assert run([Rule(rule.ending, rule.answer)], age=2).outcome.status == "bad"


@pytest.mark.parametrize(
    "fault", ["404 on the data", "503 on the index", "message missing", "truncation", "range ignored"]
)
def test_second_source_steps_in(run, fault):
    rule = FATAL[fault][0]
    done = run([Rule(rule.ending, rule.answer)], [])
    assert (done.outcome.status, done.data()) == ("ok", lab.subset(lab.HOUR))


def test_transient_source_outweighs_absent_one(run):
    absent = [Rule(INDEX, lab.status(404)), Rule(DATA, lab.status(404), method="HEAD")]
    assert run(absent, [Rule(INDEX, lab.status(503))]).outcome.status == "transient"


def test_last_message_of_the_file_comes_whole(run, tmp_path):
    rows = [row for row in lab.ROWS if row[0] != "LAND"][:-1]  # CIN is last
    rows.insert(0, lab.ROWS[-1])
    root = tmp_path / "bucket"
    lab.publish(root, lab.HOUR, rows=rows)
    assert run(root=root).data() == lab.subset(lab.HOUR, rows=rows)


def test_a_source_without_ground_serves_where_the_land_is_flat(run, tmp_path):
    root = tmp_path / "bucket"
    lab.publish(root, lab.HOUR, rows=[row for row in lab.ROWS if row[0] not in ("HGT", "LAND")])
    with pytest.raises(MissingInputError, match=r"orog .*--set dataset\.ground=flat") as caught:
        run(root=root)
    assert "dataset.ground=flat" in caught.value.advice
    done = run(root=root, static=False)
    assert done.outcome.status == "cached"
    assert not done.archive.static.exists()


def test_only_the_wanted_bytes_travel(run):
    done = run()
    script = done.scripts[0]
    index = len(lab.index(lab.HOUR, lab.messages(lab.HOUR)))
    static = done.archive.sidecar(done.archive.static).bytes
    wanted = len(lab.subset(lab.HOUR)) + static + 2 * index
    assert script.bytes_sent <= wanted + 16


def test_touching_messages_are_one_request(run):
    done = run()
    ranges = [r for _, path, r in done.scripts[0].requests if path.endswith(DATA) and r]
    # REFC, five neighbours and CIN's; terrain; the land mask's size, and the land mask.
    assert len(ranges) == 2 + 3
