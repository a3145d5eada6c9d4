"""Hypothesis strategies that damage bytes and JSON documents."""

from __future__ import annotations

import json
import os

from hypothesis import HealthCheck, Phase, settings, strategies as st

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def examples(count: int) -> settings:
    """Settings for `count` examples, always the same; the profile `thorough` has twenty times as many random ones."""
    return settings(
        max_examples=20 * count if THOROUGH else count,
        phases=[Phase.generate],
        deadline=None,
        derandomize=not THOROUGH,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


BYTES = st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30]),
    st.floats(allow_subnormal=False),
    st.sampled_from(["", "x", "../../../etc/passwd", "/etc/passwd", "\0", "\ud800", "2024-13-01T99", "NaT", "é" * 300]),
    st.text(max_size=8),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
"""Odd values that may replace a number, a name or a list in a document from elsewhere."""


@st.composite
def spoilt_bytes(draw, data: bytes, *, within: int | None = None) -> bytes:
    """Change some of the first `within` bytes, insert or delete bytes, or cut off the end."""
    spoilt, most = bytearray(data), within or len(data)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.integers(0, min(most, len(spoilt)) - 1)) if spoilt else 0
        how = draw(st.sampled_from(["change", "change", "change", "cut", "take", "put"]))
        if how == "change" and spoilt:
            spoilt[where] = draw(BYTES)
        elif how == "cut":
            del spoilt[where:]
        elif how == "take":
            del spoilt[where : where + draw(st.integers(1, 12))]
        else:
            spoilt[where:where] = draw(st.binary(min_size=1, max_size=12))
    return bytes(spoilt)


@st.composite
def spoilt_json(draw, document) -> bytes:
    """Replace or delete values, or sometimes damage bytes of the text."""
    spoilt = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 2))):
        if not spoilt:
            break
        parent, key = draw(_places(spoilt))
        if draw(st.integers(0, 3)) == 0:
            del parent[key]
        else:
            parent[key] = draw(ODD)
    text = json.dumps(draw(st.sampled_from([spoilt] * 9 + [draw(ODD)]))).encode()
    return draw(spoilt_bytes(text)) if draw(st.integers(0, 4)) == 0 else text


@st.composite
def _places(draw, document):
    """Choose a value of a non-empty document, as its container and its key or index there."""
    keys = list(document) if isinstance(document, dict) else range(len(document))
    key = draw(st.sampled_from(keys))
    inner = document[key]
    return draw(_places(inner)) if inner and isinstance(inner, dict | list) and draw(st.booleans()) else (document, key)
