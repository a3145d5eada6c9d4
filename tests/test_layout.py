"""Modules and folders are small, modules have tests, and libraries that they import are declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_LINES = 500
MAX_FILES = 12
"""Maximum number of modules in a folder, besides `__init__`."""
CATALOGUES = {"metrics/scores", "verification/baselines"}
"""Folders in which each module is one entry, so that any number of them is found at sight."""
TESTED_BY = {
    "archive/fetch": "archive/test_sources",
    "archive/simulated/hrrrcast": "archive/test_hrrrcast",
    "archive/simulated/scans": "archive/test_scans",
    "cli/steps/export": "end_to_end/test_simulated",
    "cli/steps/preprocess": "end_to_end/test_simulated",
    "grib/scans": "archive/test_scans",
    "metrics/scores/storms": "metrics/test_storms",
    "verification/data/gridded_files/files": "verification/test_files",
    "verification/data/mrms": "verification/test_mrms",
    "verification/data/times": "verification/test_times",
    "archive/web/connections": "archive/web/test_http",
    "archive/failures": "faults/test_faults",
    "archive/messages/spec": "archive/messages/test_index",
    "archive/pool": "faults/test_stop",
    "archive/web/probe": "faults/test_answers",
    "archive/request": "archive/test_sources",
    "archive/simulated/observation": "archive/simulated/test_world",
    "archive/simulated/spectra": "archive/simulated/test_world",
    "archive/simulated/transport": "archive/simulated/test_world_exact",
    "cli/check": "operations/readiness/test_checks",
    "cli/common/session": "cli/common/test_process",
    "cli/demo": "end_to_end/test_simulated",
    "cli/main": "cli/test_errors",
    "cli/steps/plot": "end_to_end/test_simulated",
    "forecasts/plot": "verification/test_comparison",
    "cli/status": "cli/test_cycle",
    "cli/steps/train": "end_to_end/test_simulated",
    "dataset/layout": "dataset/test_store",
    "forecasts/labels": "test_api",
    "forecasts/open": "forecasts/test_export",
    "forecasts/summary": "forecasts/test_products",
    "grib/sections": "grib/test_messages",
    "settings/group": "settings/test_load",
    "settings/operational": "settings/test_load",
    "settings/schema": "settings/test_load",
    "metrics/scores/base": "metrics/scores/test_scores",
    "metrics/scores/crps": "metrics/scores/test_scores",
    "metrics/scores/errors": "metrics/scores/test_scores",
    "metrics/scores/events": "metrics/scores/test_scores",
    "metrics/scores/energy": "metrics/scores/test_field_scores",
    "metrics/scores/fractions": "metrics/scores/test_field_scores",
    "metrics/scores/neighbourhood_maxima": "metrics/scores/test_field_scores",
    "metrics/scores/spectra": "metrics/scores/test_field_scores",
    "metrics/scores/spread": "metrics/scores/test_scores",
    "metrics/scores/yes_or_no": "metrics/scores/test_scores",
    "model/checkpoint": "model/training/records/test_saving",
    "model/half_precision": "model/test_pretrained",
    "model/features/condition": "model/network/test_network",
    "model/network/layers": "model/network/test_network",
    "model/skill": "model/training/test_validation",
    "model/training/ema": "model/training/test_loop",
    "model/training/objective": "model/training/test_loop",
    "model/training/preparation": "model/training/test_loop",
    "model/training/records/progress": "model/training/test_loop",
    "model/training/sharding": "model/test_distributed",
    "model/training/records/tensorboard": "model/training/test_loop",
    "operations/prometheus": "operations/test_cycle",
    "operations/publish": "operations/test_cycle",
    "operations/readiness/libraries": "operations/readiness/test_checks",
    "operations/speed/made_up": "operations/speed/test_run",
    "operations/speed/measure": "operations/speed/test_run",
    "operations/speed/report": "operations/speed/test_run",
    "operations/status": "operations/test_inventory",
    "pictures/geography/base_map": "pictures/test_forecast",
    "variables": "test_conventions",
    "verification/baselines/analogues": "verification/baselines/test_base",
    "verification/baselines/archived": "verification/baselines/test_refs_members",
    "cli/steps/calibrate": "verification/test_learn_calibration",
    "forecasts/calibrated": "verification/test_learn_calibration",
    "verification/baselines/raw": "verification/test_learn_calibration",
    "verification/report/certificate": "verification/results/test_certificate",
    "verification/baselines/choose": "verification/baselines/test_refs_members",
    "verification/baselines/exact": "verification/baselines/test_base",
    "verification/cases": "verification/test_over_time",
    "verification/crosscheck": "verification/test_evaluate",
    "verification/digest": "verification/results/test_source_digest",
    "verification/data/gridded_files/cf": "verification/test_foreign",
    "verification/data/radar_cells": "verification/test_mrms",
    "verification/data/ensembles": "verification/test_foreign",
    "verification/data/gridded_files/fields": "verification/test_files",
    "verification/data/gridded_files/gather": "verification/test_files",
    "verification/data/gridded_files/messages": "verification/test_files",
    "verification/data/gridded_files/points": "verification/test_foreign",
    "verification/data/gridded_files/stack": "verification/test_files",
    "verification/data/truth": "verification/test_foreign",
    "verification/data/gridded_files/units": "verification/test_files",
    "verification/report/colours": "verification/report/test_html",
    "verification/report/diagrams": "verification/report/test_html",
    "verification/report/event_diagrams": "verification/report/test_html",
    "verification/report/figures": "verification/report/test_html",
    "verification/report/maps": "verification/report/test_html",
    "verification/report/product_diagram": "verification/baselines/test_published",
    "verification/report/save": "verification/test_evaluate",
    "verification/report/spatial_diagrams": "verification/report/test_html",
    "verification/results/accumulator": "verification/test_streaming",
    "verification/results/case_cache": "verification/test_streaming",
    "verification/results/coverage": "verification/test_gaps",
    "verification/results/published_scores": "verification/baselines/test_published",
    "verification/results/table": "verification/test_evaluate",
    "verification/results/verification": "verification/test_evaluate",
    "verification/scoring": "verification/test_streaming",
    "cli/common/chain": "end_to_end/test_real",
    "cli/common/choices": "cli/steps/test_init",
    "cli/hindcast": "end_to_end/test_real",
    "forecasts/comparison": "verification/test_comparison",
    "operations/page/highlights": "operations/test_page",
    "operations/page/pictures": "operations/test_page",
    "operations/page/write": "operations/test_page",
    "pictures/geography/borders": "pictures/test_forecast",
    "pictures/canvas": "pictures/test_forecast",
    "pictures/forecast_field": "pictures/test_forecast",
    "pictures/member_maps": "pictures/test_forecast",
    "pictures/outlines": "pictures/test_forecast",
    "pictures/single_maps": "pictures/test_forecast",
    "pictures/units": "pictures/test_forecast",
    "settings/template": "cli/steps/test_init",
    "verification/results/warnings": "verification/report/test_html",
    "workers": "verification/test_streaming",
}


def modules() -> dict[str, Path]:
    """Modules by their path below convcast/, without the suffix."""
    package = ROOT / "convcast"
    paths = [path for path in package.rglob("*.py") if not path.stem.startswith("__")]
    return {path.relative_to(package).with_suffix("").as_posix(): path for path in paths}


def own_test(module: str) -> Path:
    """Return the path of a module's test file."""
    folder, _, name = module.rpartition("/")
    return ROOT / "tests" / folder / f"test_{name}.py"


def test_every_module_is_tested():
    untested = [name for name in modules() if name not in TESTED_BY and not own_test(name).is_file()]
    assert not untested, "write the test file of the module, or name in TESTED_BY the one that tests it"


def test_the_list_of_tests_is_current():
    assert not TESTED_BY.keys() - modules().keys()
    assert not {name for name in TESTED_BY if own_test(name).is_file()}
    missing = {test for test in TESTED_BY.values() if not (ROOT / "tests" / f"{test}.py").is_file()}
    assert not missing


def test_no_folder_is_too_full():
    counts = Counter(name.rpartition("/")[0] for name in modules())
    full = {folder for folder, count in counts.items() if count > MAX_FILES}
    assert full <= CATALOGUES


def test_no_module_is_too_long():
    long = {name for name, path in modules().items() if len(path.read_text().splitlines()) > MAX_LINES}
    assert not long


def imported(path: Path) -> set[str]:
    """Return the packages that a module imports, at the top or later."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_every_imported_library_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dask"]]
    declared = {re.match(r"[\w-]+", one)[0].lower() for one in requirements}
    names = {name for path in modules().values() for name in imported(path)}
    sources = packages_distributions()
    assert [
        name
        for name in sorted(names - sys.stdlib_module_names - {"convcast"})
        if not {source.lower().replace("_", "-") for source in sources[name]} & declared
    ] == []
