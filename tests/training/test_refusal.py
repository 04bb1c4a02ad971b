import pytest

pytest.importorskip("torch")


def record(group, none, other, right):
    return {"group": group, "refusal": [none, other], "right_otherwise": right}


def test_the_factor_trades_refusals_of_both_kinds():
    from fit_refusal import chosen, figures

    records = [record("unanswerable", 10, 6, False)] * 9 + [record("unanswerable", 10, 9.5, False)] + [record("needles", 10, 9, True)] * 5 + [record("needles", 4, 9, False)] * 5
    assert figures(records, 1) == (1, 0.5, 0.5)
    assert figures(records, 0.8) == (0.9, 0, 0.7)
    assert figures(records, 0.5) == (0, 0, 0.25)
    assert chosen(records, [1, 0.8, 0.5]) == 0.8
    # Where every factor refuses too much, the boldest.
    assert chosen(records, [1.2, 1]) == 1
