"""Formulas as MathML, against the spaces that TeX sets."""

import pytest

from report.formulas import mathml


def test_bars_of_a_norm_keep_their_height_beside_an_exponent():
    assert mathml(r"\lVert x \rVert^2").count('<mo stretchy="false">&#x02016;</mo>') == 2


@pytest.mark.parametrize(
    ("formula", "prefixes"), [("f(-a)", 1), ("x = -1", 1), ("[-c, -d]", 2), ("a - b", 0), ("(a) - b", 0)]
)
def test_a_minus_sign_that_begins_a_term_is_a_prefix(formula, prefixes):
    assert mathml(formula).count('form="prefix"') == prefixes


@pytest.mark.parametrize(
    ("formula", "spaces"),
    [
        (r"2\ln 16", 2),
        (r"\log p", 1),
        (r"\exp(x)", 0),
        (r"n\log_2 n", 2),
        (r"\log^2 x", 1),
        (r"p(x)\log q", 2),
        (r"\frac{a}{b}\log c", 2),
        (r"[\log c]", 1),
        (r"a b", 0),
    ],
)
def test_the_name_of_a_function_has_thin_spaces_around_it(formula, spaces):
    assert mathml(formula).count("<mspace") == spaces


def test_the_name_of_an_operator_has_no_space_before_its_parenthesis():
    shown = mathml(r"\operatorname{logit}(x) = \max_i x")
    assert 'rspace="0em">logit<' in shown and 'rspace="0.167em">max<' in shown


def test_the_variable_of_a_minimum_stands_below_it_in_a_displayed_formula():
    assert "<munder><mo" in mathml(r"\min_W x", display="block") and "<msub><mo" in mathml(r"\min_W x")
    assert "<msub>" in mathml("x_i", display="block")


def test_a_colon_is_a_relation_and_colon_a_punctuation_mark():
    assert '<mo lspace="0.278em" rspace="0.278em">:</mo>' in mathml(r"\{x : x > 0\}")
    assert '<mo lspace="0em" rspace="0.167em">' in mathml(r"f\colon X \to Y")
