"""Stored scores are known by the source that computed them: all that they depend on, and nothing else."""

from __future__ import annotations

import re
import sys

import pytest

import convcast
from convcast.verification.digest import digest
from convcast.verification.evaluate import COMPUTED_BY, evaluate
from convcast.verification.results.source_digest import KEPT, kept_digest, reached, read_source, source_digest

ROOTS = [(root.__module__, root.__qualname__) for root in COMPUTED_BY]


def digest_of(change):
    """The texts that are hashed, of modules whose source was changed."""

    def read(name):
        source = read_source(name)
        return None if source is None else change(name, source)

    return sorted(reached(*ROOTS, read=read).values())


@pytest.fixture(scope="module")
def definitions():
    return reached(*ROOTS)


@pytest.fixture(scope="module")
def unchanged(definitions):
    return sorted(definitions.values())


@pytest.fixture(scope="module")
def names(definitions):
    return {name for _, name in definitions}


def substituted(*pairs):
    """A change of all modules by regular expressions, each of which must be found somewhere."""
    found = [0] * len(pairs)

    def change(name, source):
        for number, (pattern, replacement) in enumerate(pairs):
            source, count = re.subn(pattern, replacement, source, flags=re.MULTILINE)
            found[number] += count
        return source

    return change, found


CONSTANTS = ["RADIUS", "FASTEST", "SMOOTHING", "NEAR_HOUR", "STEP", "ECHO", "SPACING", "BANDS", "FINEST_BIN", "SAMPLED"]


def test_constants_and_estimators_are_hashed(unchanged):
    """All of them are changed at once, and each shows."""
    constants = [(rf"^{name} = ", rf"{name} = 1 + ") for name in CONSTANTS]
    formulas = [
        (r'self\.members - \(estimator == "fair"\)', 'self.members - (estimator == "ensemble")'),
        (r"pairs / \(members \* \(members - 1\)\)", "pairs / (members * (members - 2))"),
        (r"thresholds=\(20\.0, 30\.0", "thresholds=(21.0, 30.0"),
        (r"spread\[i\] \+= departure \* departure", "spread[i] += departure"),
    ]
    change, found = substituted(*constants, *formulas)
    differing = set(digest_of(change)) - set(unchanged)
    assert all(found)
    for name in CONSTANTS:
        assert any(f"Name(id='{name}', ctx=Store())" in text for text in differing), name
    for name in ("class PointScores", "function energy", "constant REFC", "function _pass"):
        kind, its = name.split()
        mark = f"Name(id='{its}', ctx=Store())" if kind == "constant" else f"name='{its}'"
        assert any(mark in text for text in differing), name


def test_comments_and_texts_are_not_hashed(unchanged):
    change, found = substituted(
        (r"\Z", "\n# a comment\n"),
        (r'\A"""', '"""Another sentence. '),
        (r'^        """(?=\w)', '        """Another sentence. '),
        (r"^def (\w+)\(", r"\n\n\ndef \1("),
        (r"^(    )return ", r"\1# a comment\n\1return "),
        (r"colour_map=\"[\w.]+\"", 'colour_map="grey"'),
        (r"comment=\"[^\"]+\"", 'comment="another"'),
        (r"cannot be pooled", "cannot be added"),
        (r" -> bool:$", ":"),
    )
    assert digest_of(change) == unchanged
    assert all(found)


def test_definitions_that_scores_depend_on_are_hashed(names):
    kernels = {"_pass", "_sort_and_sum", "sorting_network", "_count", "rank_counts", "BLOCK"}
    fields = {
        "fraction_sums",
        "energy",
        "spectrum",
        "_near",
        "happens_near",
        "far_from_missing",
        "RADIUS",
        "sort_points",
    }
    baselines = {
        "Persistence",
        "Climatology",
        "Advection",
        "Exact",
        "HrrrForecasts",
        "ReferenceMembers",
        "PublishedProducts",
    }
    motion = {"estimate_motion", "advect", "_correlate", "FASTEST"}
    files = {"Ensemble", "StoredTruth", "Dataset", "decode_hour", "unpack"}
    assert kernels | fields | baselines | motion | files <= names


def test_definitions_that_scores_do_not_depend_on_are_not_hashed(definitions, names):
    modules = {name for name, _ in definitions}
    assert not names & {"Bootstrap", "score_rows", "render_report", "draw_figures", "VerificationSettings", "SYSTEMS"}
    assert not [
        m for m in modules if re.search(r"cli|report|plots|diagram|maps|figures|pictures|colours|operations|model", m)
    ]


def test_a_module_that_is_moved_is_covered_and_keeps_the_digest():
    """Here by a package that passes on a name of a module elsewhere."""
    before = {
        "convcast.a": "from convcast.b import f\ndef g():\n    return f(1)\n",
        "convcast.b": "def f(x):\n    return x\n",
    }
    after = before | {
        "convcast.a": before["convcast.a"].replace("convcast.b", "convcast.c"),
        "convcast.c": "from convcast.c.there import f\n",
        "convcast.c.there": before["convcast.b"],
    }
    found = [reached(("convcast.a", "g"), read=sources.get) for sources in (before, after)]
    assert set(found[0].values()) == set(found[1].values())
    assert ("convcast.c.there", "f") in found[1]
    changed = after | {"convcast.c.there": "def f(x):\n    return x + 1\n"}
    assert set(reached(("convcast.a", "g"), read=changed.get).values()) != set(found[1].values())


def test_names_are_followed_through_modules_and_functions():
    sources = {
        "convcast.a": "from convcast import b\ndef g():\n    from convcast.c import h\n    return b.f(h)\n",
        "convcast.b": "LIMIT = 3\nUNUSED = 4\ndef f(x):\n    return x(LIMIT)\n",
        "convcast.c": "class h:\n    size: int = 3\n",
    }
    found = reached(("convcast.a", "g"), read=sources.get)
    assert {name for _, name in found} == {"g", "f", "LIMIT", "h"}


def test_a_root_that_is_not_there_is_a_fault():
    with pytest.raises(LookupError, match="defines no h"):
        reached(("convcast.a", "h"), read={"convcast.a": "g = 1\n"}.get)


def test_the_key_of_a_case_holds_the_digest(small, tmp_path, monkeypatch):
    """Nothing is scored again, until the source is another."""

    def run():
        under_way = evaluate(
            small.paths[:1],
            small.dataset,
            against=[],
            settings=small.settings(),
            workspace=small.workspace,
            keep=tmp_path / "cases",
        )
        list(under_way)
        return under_way.reused

    assert (run(), run()) == (0, 1)
    monkeypatch.setattr(
        sys.modules[evaluate.__module__], "kept_digest", lambda *arguments: kept_digest(*arguments) + "another"
    )
    assert (run(), run()) == (0, 1)


def test_a_digest_is_kept_until_a_source_file_changes(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(convcast, "__file__", str(package / "__init__.py"))
    module = sys.modules[kept_digest.__module__]
    computed = []
    monkeypatch.setattr(module, "source_digest", lambda *roots: computed.append(roots) or f"digest {len(computed)}")

    def kept():
        return kept_digest(tmp_path / "cases", evaluate)

    assert (kept(), kept()) == ("digest 1", "digest 1")
    (package / "scores.py").write_text("RADIUS = 1\n")
    assert (kept(), kept()) == ("digest 2", "digest 2")
    (package / "scores.py").write_text("RADIUS = 13\n")
    assert (kept(), kept()) == ("digest 3", "digest 3")
    (tmp_path / "cases" / KEPT).write_text("[damaged")
    assert (kept(), kept()) == ("digest 4", "digest 4")


def test_a_digest_that_cannot_be_kept_is_computed(tmp_path):
    (tmp_path / "file").write_text("in the folder's place")
    assert kept_digest(tmp_path / "file", digest) == source_digest(digest)
