"""Whatever a server answers, a client gives what was asked for or one of the archive's failures."""

from __future__ import annotations

import tempfile
from contextlib import suppress

import laboratory as lab
import pytest
from hypothesis import example, given, strategies as st
from spoiling import examples

from convcast.archive.failures import Bad, Failure, Transient
from convcast.archive.simulated.server import Handler, serve
from convcast.archive.web import http
from convcast.archive.web.azure import SharedAccess
from convcast.archive.web.probe import probe
from convcast.settings import ArchiveSettings

SETTINGS = ArchiveSettings(retries=0, read_timeout=0.5, connect_timeout=1)
HUGE = "9" * 5000


class Parrot(Handler):
    """Sends the bytes that it is given, and hangs up."""

    said = b""

    def answer(self):
        self.wfile.write(self.said)
        self.close_connection = True


@pytest.fixture(scope="module")
def parrot(tmp_path_factory):
    handler = type("Given", (Parrot,), {})
    with serve(tmp_path_factory.mktemp("empty"), handler=handler) as server:
        yield handler, server.url


numbers = st.one_of(
    st.integers(-10, 30).map(str),
    st.sampled_from(
        [HUGE, "9" * 20, str(2**63), str(2**64), "-" + HUGE, "1e3", "0x10", "1_0", "10, 10", "10, 11", "", " "]
    ),
    st.text("0123456789-+*/ ,.", max_size=12),
)
texts = st.one_of(numbers, st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20))
# None of another server: what is drawn must not leave this machine.
addresses = st.sampled_from(
    [
        *(
            "http://[/x",
            "http://",
            "http:///x",
            "//",
            "//[",
            ":",
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "mailto:a@b",
        ),
        *("http://127.0.0.1:0/", "http://127.0.0.1:99999999/", "http://127.0.0.1:x/", "http://127.0.0.1:" + HUGE),
        *("http://me:secret@127.0.0.1:0/", "http://\x00/", "http://%/x", "http:127.0.0.1:0", "/\xff\xfe", "/x" * 3000),
        *("\x00", "?", "#", ""),
    ]
)
ranges = st.builds("bytes {}-{}/{}".format, numbers, numbers, numbers)
headers = st.one_of(
    st.tuples(st.just("Location"), addresses),
    st.tuples(st.just("Content-Range"), st.one_of(ranges, texts, st.just("bytes 0-9/10"), st.just("bytes 0-9/*"))),
    st.tuples(st.sampled_from(["Content-Length", "Retry-After", "Age", "Keep-Alive"]), numbers),
    st.tuples(
        st.just("Transfer-Encoding"), st.sampled_from(["chunked", "gzip, chunked", "identity", "Chunked", "x" * 300])
    ),
    st.tuples(
        st.sampled_from(["ETag", "Last-Modified", "Date", "Content-Type", "Content-Encoding", "Connection"]), texts
    ),
    st.tuples(
        st.just("Set-Cookie"), st.one_of(texts, st.just(f"a=b; Max-Age={HUGE}"), st.just(f"a=b; expires=1 Jan {HUGE}"))
    ),
    st.tuples(texts, texts),
)
statuses = st.one_of(
    st.sampled_from([200, 206, 301, 302, 307, 404, 416, 429, 500, 503, 100, 204, 304]), st.integers(0, 1200)
)
bodies = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"x" * 10, b"5\r\nabcde\r\n0\r\n\r\n", b"-5\r\nabc", b"f" * 99 + b"\r\n"])
)


@st.composite
def answers(draw):
    """An answer that is made of headers, not all of which are sound."""
    lines = [
        f"HTTP/1.1 {draw(statuses)} {draw(texts)}",
        *(": ".join(draw(headers)) for _ in range(draw(st.integers(0, 6)))),
    ]
    return ("\r\n".join(lines) + draw(st.sampled_from(["\r\n\r\n", "\n\n", "", "\r\n"]))).encode("latin-1") + draw(
        bodies
    )


def head(*lines, body=b"x" * 10):
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@given(st.one_of(answers(), st.binary(max_size=80)))
@example(head("HTTP/1.1 200 OK", f"Content-Length: {HUGE}"))
@example(head("HTTP/1.1 206 P", f"Content-Range: bytes 0-9/{HUGE}"))
@example(head("HTTP/1.1 206 P", f"Content-Range: bytes {HUGE}-{HUGE}/{HUGE}"))
@example(head("HTTP/1.1 302 F", "Location: http://[/x"))
@example(head("HTTP/1.1 302 F", "Location: /\xff\xfe"))
@example(head("HTTP/1.1 503 S", f"Retry-After: {HUGE}"))
@example(head("HTTP/1.1 200 OK", f"Set-Cookie: a=b; expires=Mon, 01-Jan-{HUGE} 00:00:00 GMT"))
@examples(150)
@pytest.mark.filterwarnings("error")
def test_any_answer_is_what_was_asked_for_or_a_failure(parrot, said):
    handler, url = parrot
    handler.said = said
    client = http.Client(SETTINGS, direct=True)
    with suppress(Failure):
        assert isinstance(client.text(f"{url}/a"), str)
    with suppress(Failure):
        assert client.exists(f"{url}/a") in (True, False)
    with suppress(Failure):
        size, data = client.size_and_bytes(f"{url}/a", 0, 10)
        assert len(data) == 10
        assert size < 10**15
    with suppress(Failure), tempfile.TemporaryFile() as file:
        client.copy(f"{url}/a", 0, 10, file)
        assert file.tell() == 10
    client.close()
    answer = probe(url, SETTINGS)
    assert answer.error is None or len(answer.error) < 100


@given(st.one_of(texts, st.just("[" * 100_000), st.builds('{{"href": {}, "msft:expiry": {}}}'.format, texts, texts)))
@example('{"href": 5, "msft:expiry": "2024-05-06T00:00:00Z"}')
@example('{"href": "http://[/x?a", "msft:expiry": "2024-05-06T00:00:00Z"}')
@example('{"href": "http://a/x?a", "msft:expiry": "0001-01-01T00:00:00+14:00"}')
@example('{"href": "http://a/x?a", "msft:expiry": ' + HUGE + "}")
@examples(60)
def test_any_signature_is_used_or_none_is_to_be_had(parrot, said):
    handler, url = parrot
    body = said.encode()
    handler.said = head("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", body=body)
    client = http.Client(SETTINGS, direct=True)
    with suppress(Transient):
        assert SharedAccess(client, service=f"{url}/?")("http://a/b").startswith("http://a/b?")
    client.close()


tags = st.sampled_from(["", '"a"', '"b"', 'W/"a"'])
times = st.sampled_from(["", "Mon, 06 May 2024 18:50:00 GMT", "Mon, 06 May 2024 18:51:00 GMT"])
versions = st.builds(http.Version, tags, times, st.sampled_from([None, 10, 11]))


@given(versions, versions)
def test_files_of_two_sizes_are_never_one(one, other):
    if None not in (one.size, other.size) and one.size != other.size:
        assert not one.may_be(other)
    assert one.may_be(one)


@pytest.mark.parametrize("said", [HUGE, "9" * 20, str(2**63)])
def test_a_length_beyond_any_file_is_refused_in_one_short_sentence(parrot, said):
    handler, url = parrot
    handler.said = head("HTTP/1.1 200 OK", f"Content-Length: {said}")
    client = http.Client(SETTINGS, direct=True)
    with pytest.raises(Bad, match="bytes long") as caught:
        client.text(f"{url}/a")
    client.close()
    assert len(str(caught.value)) < 100


def test_an_answer_s_limit_counts_from_its_request(parrot, tmp_path):
    """Each header alone comes in good time."""
    script = lab.Script([lab.Rule("", lab.drip_headers), lab.Rule("", lab.drip_headers, method="HEAD")])
    quick = SETTINGS.model_copy(update={"connect_timeout": 0.1, "read_timeout": 0.2})
    with serve(tmp_path, handler=lab.faulty(script)) as server:
        client = http.Client(quick, direct=True)
        with pytest.raises(Transient, match="in time"):
            client.text(f"{server.url}/a")
        assert probe(server.url, quick).error == "no answer in time"
        client.close()
