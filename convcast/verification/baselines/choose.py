"""Choice of how REFS and HREF are compared: by members where the archive has them, else by published products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convcast.errors import MissingInputError, SettingsError
from convcast.notation import Hour
from convcast.verification.baselines.published import PublishedProducts
from convcast.verification.baselines.refs_members import ReferenceMembers
from convcast.verification.data.truth import Truth
from convcast.workspace import Workspace

REFERENCES = ("refs", "href")
"""Names of the reference ensembles."""


@dataclass(frozen=True)
class ReferenceEnsembles:
    """Baselines and products by which REFS and HREF are compared."""

    baselines: tuple[ReferenceMembers, ...] = ()
    products: tuple[PublishedProducts, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences of the report on which ensemble is compared how."""


def make_references(
    names: Sequence[str],
    truth: Truth,
    workspace: Workspace | None,
    *,
    cases: Sequence[tuple[Hour, int]],
    members: int,
) -> ReferenceEnsembles:
    """Open the reference ensembles among these names; REFS replaces HREF where HREF has no files.

    Args:
        names: Names of baselines; others than REFERENCES are ignored.
        truth: Fields that the forecasts are scored against.
        workspace: Workspace with the archive, where there is one.
        cases: Initial time and lead, hours, of the cases.
        members: Size of the verified ensemble.

    Raises:
        MissingInputError: The archive holds nothing for these cases; the advice is the command that fetches it.
        SettingsError: The truth is simulated or off the HRRR grid, there is no workspace, or `members` is too small.
    """
    requested = [name for name in dict.fromkeys(names) if name in REFERENCES]
    if not requested:
        return ReferenceEnsembles()
    if truth.simulated:
        raise SettingsError(
            f"the simulated world has no {requested[0]}", advice="use --against exact --against persistence"
        )
    if truth.points.grid is None or workspace is None:
        lacking = "a truth on the HRRR grid" if workspace else "a workspace, whose archive holds it"
        raise SettingsError(f"{requested[0]} needs {lacking}", advice="use --against persistence")
    refs, href = PublishedProducts("refs", truth, workspace), PublishedProducts("href", truth, workspace)
    baselines: tuple[ReferenceMembers, ...] = ()
    chosen: list[PublishedProducts] = []
    notes: list[str] = []
    with_href = [case for case in cases if href.has(*case)] if "href" in requested else []
    if with_href:
        chosen.append(href)
        notes.append(f"HREF publishes no members: it is compared by its products, {_share(with_href, cases)}")
    elif "href" in requested:
        notes.append("HREF has no files for these forecasts: REFS, which replaces it, stands in its place")
    if "refs" in requested or not with_href:
        try:
            baselines = (ReferenceMembers(truth, workspace, cases),)
            notes.append(baselines[0].described)
        except MissingInputError:
            with_refs = [case for case in cases if refs.has(*case)]
            if not with_refs:
                name = "REFS" if "refs" in requested else "HREF or REFS"
                command = (refs if "refs" in requested else href).remedy(cases)
                raise MissingInputError(
                    f"the archive holds nothing of {name} for these forecasts",
                    advice=f"run `{command}`, or leave out --against {requested[0]}",
                ) from None
            chosen.append(refs)
            notes.append(
                f"Members of REFS are not in the archive: it is compared by its products, {_share(with_refs, cases)}"
            )
    elif len(with_href) < len(cases) and any(refs.has(*case) for case in cases if case not in with_href):
        chosen.append(refs)
        notes.append("Where HREF has no files, products of REFS, which replaces it, stand in its place")
    for products in chosen:
        products.require(members)
    return ReferenceEnsembles(baselines, tuple(chosen), tuple(notes))


def _share(some: Sequence[object], of: Sequence[object]) -> str:
    return f"for {len(some)} of {len(of)} forecasts"
