"""The two editions of the report say the same: sections, keys, figures, tables, citations, cell by cell."""

import re
import shutil
import sys

import pytest
import yaml
from report_project import ROOT

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import editions, labels, markup
from report.alternatives import Chooser
from report.document import load_results
from report.language import NUMBER, captions, label, translate, translation


def cells(language, document="report"):
    return editions.read(language, document).cells


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The sources in a folder where they may be changed."""
    shutil.copytree(ROOT / "report" / "src", tmp_path / "src")
    monkeypatch.setattr(editions, "FOLDER", tmp_path)
    return tmp_path / "src"


def placed(kind):
    chooser = Chooser(load_results(ROOT / "report" / "results"), "zh")
    return [
        token["children"][0]["raw"].partition(":")[2]
        for cell in cells("zh")
        for token in markup.parse(chooser.choose(cell.source, pytest.fail))
        if token["type"] == "paragraph" and token["children"][0].get("raw", "").startswith(f"{kind}:")
    ]


@pytest.mark.parametrize("document", editions.DOCUMENTS)
def test_the_editions_have_the_same_sections_keys_and_citations_and_were_read_side_by_side(document):
    assert list(editions.differences(cells("en", document), cells("zh", document))) == []


@pytest.mark.parametrize(("language", "side"), [("en", "English text"), ("zh", "translation")])
def test_an_edited_paragraph_makes_its_pair_stale_until_it_is_accepted(copy, language, side, capsys):
    path = copy / f"report.{language}.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^(# .*)( OCGAN )", r"\1 an \2", text, count=1), encoding="utf-8")
    found = list(editions.differences(cells("en"), cells("zh")))
    assert len(found) == 1 and f"the {side} changed since they were compared" in found[0]
    assert editions.main(["check"]) == 1
    number = re.search(r"cell (\d+)", found[0])[1]
    assert editions.main(["accept", number]) == 0
    assert editions.main(["check"]) == 0
    assert found[0] in capsys.readouterr().err


def test_the_other_document_is_checked_and_accepted_by_its_name(copy, capsys):
    path = copy / "which_detector.zh.py"
    path.write_text(path.read_text(encoding="utf-8").replace("](notebooks/05_", "](notebooks/04_"), encoding="utf-8")
    assert editions.main(["check"]) == 1
    found = capsys.readouterr().err
    assert "lacks link to notebooks/05_self_supervised.html" in found and "which_detector.zh: cell" in found
    assert "changed since" in found
    assert editions.main(["accept", "--document", "which_detector"]) == 0
    assert editions.main(["check"]) == 1, "accepted, and still another link"
    assert "changed since" not in capsys.readouterr().err


def test_accepting_changes_the_marks_and_nothing_else(copy):
    before = [cell.source for cell in cells("zh")]
    path = copy / "report.zh.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r' checked="[^"]*"', "", text), encoding="utf-8")
    editions.accept("zh", [])
    assert path.read_text(encoding="utf-8") == text
    assert [cell.source for cell in cells("zh")] == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{{ figure:padim_roc }}", "", "lacks {{ figure:padim_roc }}"),
        (
            "[@golan2018geometric]",
            "[@wang2019e3outlier]",
            "lacks @golan2018geometric and has @wang2019e3outlier as well",
        ),
        ("{#task-4}", "{#task-5}", "lacks section task-4, level 3 and has section task-5, level 3 as well"),
        ("- 新增一种模态", "新增一种模态", "lacks list item"),
    ],
)
def test_what_one_edition_lacks_is_named(copy, old, new, words):
    path = copy / "report.zh.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert any(words in found for found in editions.differences(cells("en"), cells("zh")))


@pytest.mark.parametrize("document", editions.DOCUMENTS)
def test_every_number_that_is_named_is_in_the_committed_results(document):
    results = load_results(ROOT / "report" / "results")
    values, chooser = results["values"], Chooser(results, "en")
    texts = [chooser.choose(cell.source, pytest.fail) for cell in cells("en", document)]
    keys = [token["raw"] for text in texts for token in markup.walk(markup.parse(text))
            if token["type"] == "key" and token["raw"].startswith("value:")]  # fmt: skip
    assert len(keys) > 50 and {key.removeprefix("value:") for key in keys} <= values.keys()


def test_a_cell_without_a_value_is_a_dash_in_every_language():
    assert markup.format_column(["none"]) == ["–"] and "none" not in captions("zh")


def test_a_missing_cell_is_counted():
    assert "54 cells" not in "".join(editions.differences(cells("en"), cells("zh")))
    found = list(editions.differences(cells("en"), cells("zh")[:-1]))
    assert f"{len(cells('en')) - 1} in the translation" in found[-1]


def test_every_caption_and_text_alternative_of_the_committed_results_is_translated():
    results = load_results(ROOT / "report" / "results")
    missing = [
        sentence
        for kind in ("figure", "table")
        for name in placed(kind)
        for sentence in translate(results[f"{kind}s"][name], "zh")[1]
    ]
    assert missing == []


def test_every_translation_is_of_a_text_that_the_report_still_shows():
    results = load_results(ROOT / "report" / "results")
    entries = [results[f"{kind}s"][name] for kind in ("figure", "table") for name in placed(kind)]
    texts = {text for entry in entries for text in (entry["caption"], entry.get("alt"), *entry.get("columns", []))}
    texts |= {cell for entry in entries for row in entry.get("rows", []) for cell in row}
    drawings = [(ROOT / entry["svg"]).read_bytes() for entry in entries if "svg" in entry]
    for line in (line for drawing in drawings for line in labels.lines(drawing)):
        texts |= {line, NUMBER.sub("{}", line)}
    committed = yaml.safe_load((ROOT / "report" / "src" / "captions.zh.yaml").read_text(encoding="utf-8"))
    assert committed.keys() - texts == set()


def test_every_number_of_a_label_has_its_place_in_the_translation():
    assert [english for english, words in captions("zh").items() if english.count("{}") != words.count("{}")] == []


def test_a_changed_caption_asks_for_its_translation_again():
    entry = {
        "caption": "Point, contextual and collective anomalies, drawn.",
        "alt": "ROC curves on synthetic/hazelnut.",
    }
    translated, missing = translate(entry, "zh")
    assert translated["alt"].startswith("synthetic/hazelnut") and len(missing) == 1
    assert "drawn.' is not translated. It was 'Point, contextual and collective anomalies.'" in missing[0]


def test_a_text_that_differs_in_data_sets_and_numbers_only_is_translated_alike():
    labels_of_thyroid = (
        "AUROC on thyroid against the number of labelled anomalies. The horizontal line is the unsupervised detector."
    )
    assert translation("ROC curves on mvtec/hazelnut.", "zh").startswith("mvtec/hazelnut")
    assert translation(labels_of_thyroid, "zh").startswith("thyroid 上")
    assert "5 个随机种子" in translation("AUROC of one scorer for both modalities, mean and sd over 5 seeds.", "zh")
    assert translation("ROC curves of thyroid.", "zh") is None
    assert label("mvtec/zipper", "zh") == "mvtec/zipper"


def test_words_of_a_table_are_translated_and_names_are_kept():
    table = {"caption": "ROC curves on synthetic/hazelnut.", "columns": ["detector", "AUROC"]}
    table["rows"] = [["random score", 0.5], ["PatchCore", 0.9]]
    translated, _ = translate(table, "zh")
    assert translated["columns"] == ["检测器", "AUROC"]
    assert translated["rows"] == [["随机分数", 0.5], ["PatchCore", 0.9]]
    assert table["columns"] == ["detector", "AUROC"], "the record itself stays as it is"


def test_every_head_of_a_placed_table_is_translated_or_the_name_of_data_or_a_spread():
    results = load_results(ROOT / "report" / "results")
    known = yaml.safe_load((ROOT / "report" / "src" / "captions.zh.yaml").read_text(encoding="utf-8"))
    heads = {head for name in placed("table") for head in results["tables"][name]["columns"]}
    assert {h for h in heads - known.keys() if "/" not in h and h.split()[-1] not in markup.SPREADS} <= {"ρ", "‖x‖²"}


@pytest.mark.parametrize("document", editions.DOCUMENTS)
@pytest.mark.parametrize("language", editions.LANGUAGES)
def test_notebook_and_source_of_an_edition_are_the_same(language, document):
    import nbformat

    path = ROOT / "report" / f"{document}.{language}.ipynb"
    assert path.read_text(encoding="utf-8") == nbformat.writes(editions.read(language, document), version=4) + "\n"
    nbformat.validate(nbformat.read(path, as_version=4))
