from __future__ import annotations

import json

import pytest

from convcast.cli.common.curve import draw_loss, read_log


def report(step, loss, validation=None):
    return {"step": step, "loss": loss, "validation": validation}


def test_the_curve_shows_both_losses_and_has_no_colours():
    drawn = draw_loss([report(2, 1.0), report(4, 0.6, {"loss": 0.75}), report(6, 0.5)])
    assert "step" in drawn
    assert "training" in drawn
    assert drawn.count("x") >= 2  # the point and the legend
    assert "\x1b" not in drawn


def test_the_axis_of_steps_begins_at_none_and_names_whole_steps():
    for last in (6, 333, 1234567):
        axis = draw_loss([report(1, 1.0), report(last, 0.5)]).splitlines()[-5].split("|")[1].split()
        assert axis[0] == "0"
        assert len(set(map(int, axis))) == 7


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_the_curve_fits_the_terminal(columns):
    drawn = draw_loss([report(1, 1.0), report(1234567, 0.5)], columns=columns).splitlines()
    assert min(columns, 87) == max(map(len, drawn))


def test_a_log_of_another_version_is_drawn_without_its_validation():
    assert draw_loss([report(2, 1.0), report(4, 0.6, 0.7)]) == draw_loss([report(2, 1.0), report(4, 0.6)])


def test_a_line_that_is_no_report_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    others = ['{"step": 4, "lo', "[" * 100_000, "[]", '{"step": 4}']
    path.write_text("\n".join([json.dumps(report(2, 1.0)), *others]))
    assert [line["step"] for line in read_log(path)] == [2]


def test_steps_trained_again_are_drawn_as_they_came_out_at_last():
    assert draw_loss([report(2, 1.0), report(4, 9.0), report(4, 0.5)]) == draw_loss([report(2, 1.0), report(4, 0.5)])


def test_lines_that_are_no_report_are_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [
        "[" * 100_000,
        "9" * 5000,
        "[]",
        "1",
        '{"step": "x", "loss": 1}',
        '{"step": 3, "loss": NaN}',
        '{"step": 4}',
    ]
    lines += ['{"step": 5, "loss": 1e400}', '{"step": 6, "loss": 0.5}', '{"step": 7, "loss": 1, "validation": {}}']
    path.write_text("\n".join(lines))
    reports = read_log(path)
    assert [report["step"] for report in reports] == [6, 7]
    assert "training" in draw_loss(reports)
