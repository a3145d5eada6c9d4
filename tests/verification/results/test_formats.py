import pytest

from convcast.verification.results.formats import interval, number


def row(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.4221, 0.3964, 0.4412, ("0.422", "0.396 to 0.441")),
        (0.957, 0.59, 1.371, ("0.96", "0.59 to 1.37")),
        (124.6, 117.2, 1320.0, ("125", "117 to 1320")),
        (0.000123, -0.000012, 0.0015, ("0.00012", "-0.00001 to 0.00150")),
        (0.001, -9.996, 2.0, ("0.0", "-10.0 to 2.0")),
        (3e-9, None, None, ("0.000000", "")),
        (0.0, 0.0, 0.0, ("0.00", "0.00 to 0.00")),
        (None, None, None, ("–", "")),
        (0.5, None, None, ("0.500", "")),
    ],
)
def test_a_value_and_its_interval_have_three_digits_of_the_largest_of_them(value, low, high, shown):
    assert (number(row(value, low, high)), interval(row(value, low, high))) == shown


def test_a_column_may_fix_the_decimals():
    assert (number(row(0.954, 0.9, 1.1), 2), interval(row(0.954, 0.9, 1.1), 2)) == ("0.95", "0.90 to 1.10")


def test_a_row_that_is_absent_is_a_dash():
    assert (number(None), interval(None)) == ("–", "")
