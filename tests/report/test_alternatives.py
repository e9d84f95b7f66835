"""Sentences with alternatives: the recorded results decide which of them stands in the report."""

import re
import sys

import pytest
import yaml
from report_project import ROOT

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import alternatives, editions
from report.document import load_results

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


def test_a_row_of_a_table_may_be_left_out():
    table = "| a |\n|---|\n{{ if:01_demo.c }}| c |{{ end }}\n| b |"
    assert chosen(table) == ("| a |\n|---|\n| b |", [])


def test_a_data_set_without_a_name_is_shown_as_it_was_given_and_names_have_both_languages():
    assert chosen("{{ name:01_demo.dataset }}", dataset="tables/mine")[0] == "`tables/mine`"
    assert chosen("{{ name:01_demo.dataset }}", language="zh")[0] == "甲状腺数据"
    assert chosen("{{ name:01_demo.others }}")[0] == "the zippers of MVTec AD, brick"
    assert all(name.keys() == {"en", "zh"} for name in alternatives.names().values())


@pytest.mark.parametrize(
    ("source", "dataset", "text"),
    [
        ("在{{ name:01_demo.dataset }}上", "mvtec/hazelnut", "在 MVTec AD 的榛子上"),
        ("在{{ name:01_demo.dataset }}上", "tables/mine", "在 `tables/mine` 上"),
        ("（{{ name:01_demo.dataset }}）", "mvtec/hazelnut", "（MVTec AD 的榛子）"),
        ("在{{ name:01_demo.dataset }}上", "thyroid", "在甲状腺数据上"),
    ],
)
def test_a_name_in_latin_letters_is_separated_from_chinese_characters(source, dataset, text):
    assert chosen(source, language="zh", dataset=dataset)[0] == text


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


NOT_USED = {
    "en": ("are generated, with", "generated hazelnuts", "Wisconsin", "n breast cancer ", "zippers"),
    "zh": ("生成的榛子", "威斯康星", "在乳腺癌数据上", "拉链位置", "拉链在每幅"),
}


def of_the_course(turned=False):
    """The committed results as if made from MVTec's hazelnuts alone and thyroid, all values moved if `turned`."""
    results = load_results(ROOT / "report" / "results")
    profile = yaml.safe_load((ROOT / "profiles" / "course.yaml").read_text(encoding="utf-8"))
    for notebook, values in profile.items():
        results["provenance"][notebook]["parameters"].update(values)
    results["provenance"]["01b_image_detectors"]["parameters"]["other_datasets"] = ["textures/brick"]
    results["provenance"]["09b_labels_and_drift"]["parameters"]["other_images"] = "textures/brick"
    missing = ("zipper", "auroc_mild", "gan_comparison; breast_cancer")
    values = {key: value for key, value in results["values"].items() if not any(word in key for word in missing)}
    if turned:
        values = {key: {**value, "value": 1 - value["value"]} for key, value in values.items()}
    return {**results, "values": values}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("language", editions.LANGUAGES)
@pytest.mark.parametrize("document", editions.DOCUMENTS)
def test_the_courses_report_names_no_data_set_that_was_not_used(document, language, turned):
    chooser = alternatives.Chooser(of_the_course(turned), language)
    for cell in editions.read(language, document).cells:
        text = chooser.choose(cell.source, pytest.fail)
        assert not [word for word in NOT_USED[language] if word in text], text


def decided(condition, holds):
    """Results in which the comparisons of a condition hold or do not, and everything else of it does."""
    made = {"values": {}, "provenance": {}}
    for part in condition.split(" and "):
        if " is " in part:
            name, pattern = part.split(" is ")
            notebook, parameter = name.split(".")
            made["provenance"].setdefault(notebook, {"parameters": {}})["parameters"][parameter] = pattern
            continue
        left, sign, right = part.partition(" > ") if " > " in part else part.partition(" < ")
        for key, number in zip((left, right), (1, -1) if holds == (sign == " > ") else (-1, 1)):
            made["values"][key.partition(" + ")[0]] = {"value": number, "notebook": "01_demo"}
    return made


@pytest.mark.parametrize("language", editions.LANGUAGES)
def test_turned_results_turn_every_comparison_of_the_report(language):
    sources = [cell.source for document in editions.DOCUMENTS for cell in editions.read(language, document).cells]
    blocks = [block for source in sources for block in alternatives.BLOCK.finditer(source)]
    compared = [(block, next(alternatives.branches(block))) for block in blocks if re.search(" [<>] ", block[1])]
    assert len(compared) > 10
    for block, (condition, text) in compared:
        until = f"{{{{ if:{condition} }}}}{text}{{{{ else }}}}{{{{ end }}}}"
        for holds in (True, False):
            chooser = alternatives.Chooser(decided(condition, holds), language)
            assert bool(chooser.choose(until, pytest.fail)) is holds, block.group()
