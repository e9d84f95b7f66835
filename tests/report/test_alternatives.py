"""Sentences with alternatives: the recorded results decide which of them stands in the report."""

import sys

import pytest
from report_project import ROOT

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import alternatives, editions

SOURCE = """On {{ name:01_demo.dataset }} {{ if:01_demo.a > 01_demo.b + 0.02 }}A leads
{{ elif:01_demo.b > 01_demo.a + 0.02 }} B leads{{ else }}they are level{{ end }}."""


def results(a=0.9, b=0.9, dataset="thyroid", **values):
    numbers = {"01_demo.a": a, "01_demo.b": b, "table; row; AUROC": 0.5, **values}
    parameters = {"dataset": dataset, "others": ["mvtec/zipper", "textures/brick"]}
    return {
        "values": {key: {"value": number, "notebook": "01_demo"} for key, number in numbers.items()},
        "provenance": {"01_demo": {"parameters": parameters}},
    }


def chosen(source, language="en", **recorded):
    problems = []
    text = alternatives.Chooser(results(**recorded), language).choose(source, problems.append)
    return text, problems


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [(0.95, 0.9, "A leads"), (0.9, 0.95, "B leads"), (0.9, 0.91, "they are level")],
)
def test_turned_results_turn_the_sentence(a, b, sentence):
    assert chosen(SOURCE, a=a, b=b) == (f"On thyroid {sentence}.", [])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("01_demo.a", True),
        ("01_demo.c", False),
        ("01_demo.dataset is thy*", True),
        ("01_demo.dataset is synthetic/*", False),
        ("01_demo.others is textures/brick", True),
        ("table; row; AUROC < 0.6 and 01_demo.a > 0.8", True),
        ("table; row; AUROC < 0.6 and 01_demo.a > 0.95", False),
    ],
)
def test_a_condition_is_recorded_or_compared_or_a_parameter(condition, holds):
    assert chosen(f"{{{{ if:{condition} }}}}x{{{{ end }}}}") == ("x" if holds else "", [])


def test_a_data_set_without_a_name_is_shown_as_it_was_given_and_names_have_both_languages():
    assert chosen("{{ name:01_demo.dataset }}", dataset="tables/mine")[0] == "`tables/mine`"
    assert chosen("{{ name:01_demo.dataset }}", language="zh")[0] == "甲状腺数据"
    assert all(name.keys() == {"en", "zh"} for name in alternatives.names().values())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ if:01_demo.c > 0.5 }}x{{ end }}", "names '01_demo.c'"),
        ("{{ if:01_demo.data is x }}x{{ end }}", "names '01_demo.data'"),
        ("{{ name:02_demo.dataset }}", "names '02_demo.dataset'"),
        ("{{ if:01_demo.a }}x", "not closed"),
        ("{{ if:01_demo.a }}x{{ if:01_demo.a }}y{{ end }}z{{ end }}", "stands within another"),
    ],
)
def test_what_cannot_be_decided_is_named(source, message):
    assert message in chosen(source)[1][0]


def test_the_notebooks_that_decide_are_noted():
    chooser = alternatives.Chooser(results(), "en")
    chooser.choose("{{ if:01_demo.a > 0.5 }}x{{ end }}", pytest.fail)
    assert chooser.used == {"01_demo"}


@pytest.mark.parametrize(
    ("translation", "same"),
    [
        ("{{ if:1.a > 1.b }}甲 {{ value:1.a }}{{ else }}乙{{ end }}", True),
        ("{{ if:1.b > 1.a }}甲 {{ value:1.a }}{{ else }}乙{{ end }}", False),
        ("{{ if:1.a > 1.b }}甲{{ else }}乙 {{ value:1.a }}{{ end }}", False),
    ],
)
def test_editions_differ_where_a_condition_or_what_an_alternative_holds_differs(translation, same):
    source = "{{ if:1.a > 1.b }}First {{ value:1.a }}{{ else }}Second{{ end }}"
    assert (editions.skeleton(source) == editions.skeleton(translation)) is same
