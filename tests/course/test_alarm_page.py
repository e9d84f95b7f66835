from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mmad_utils import CalibratedDetector, ColumnEncoder, DistanceToCenter
from mmad_utils.calibrated import cross_fit_scores
from mmad_utils.course.alarm_page import first_alarms, score_drop, scores_table, write_page
from mmad_utils.course.results import png_bytes

EVIL = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'>&amp;"


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(tmp_path):
    figure = Figure(figsize=(1, 1))
    table = pd.DataFrame({EVIL: [EVIL, "plain"], "number": [0.123456, np.nan]})
    write_page(tmp_path / "page.html", EVIL, [(EVIL, EVIL, table, (png_bytes(figure), EVIL))])
    return tmp_path / "page.html"


def test_markup_in_names_and_cells_is_shown_as_text(page):
    parsed = Tags(page.read_text())
    tags = [tag for tag, _ in parsed.tags]
    assert "script" not in tags and tags.count("img") == 1
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    assert parsed.text.count(EVIL) == 6  # title, h1, h2, paragraph, column, cell
    (image,) = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert image["alt"] == EVIL and image["src"].startswith("data:image/png;base64,")
    assert "0.123" in parsed.text and "–" in parsed.text and "nan" not in parsed.text


def test_the_page_asks_for_nothing_and_forbids_scripts(page):
    parsed = Tags(page.read_text())
    policy = next(a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert not any(key in attributes for _, attributes in parsed.tags for key in ("href", "action", "srcset"))


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_page(path, "new \ud800", [])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def judged():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300), "c": rng.choice(list("xy"), 300)})
    frame.loc[5, "b"], frame["unit"] = 40.0, "mm"
    return frame, cross_fit_scores(CalibratedDetector(DistanceToCenter(), ColumnEncoder()), frame, seed=0)


def test_the_value_that_made_the_alarm_is_named_first(judged):
    frame, judgement = judged
    changes = score_drop(judgement, frame, [5])
    assert list(changes) == ["a", "b", "c"] and changes.loc[5].idxmax() == "b"
    assert changes.loc[5, "b"] > 3 * changes.loc[5, ["a", "c"]].abs().max()
    lines = first_alarms(judgement, changes, frame, np.arange(2, 302))
    assert lines["sample"].tolist() == [7] and lines.iloc[0, -1].startswith("b = 40 (+")


def test_a_fall_is_the_mean_over_rows_without_alarm(judged):
    frame, judgement = judged
    others = frame[["a", "b", "c"]][~judgement.alarms]
    copies = pd.concat([frame[["a", "b", "c"]].iloc[[5]]] * len(others), ignore_index=True)
    copies["b"] = others["b"].to_numpy()
    scores = judgement.detectors[judgement.fold[5]].anomaly_score(copies)
    everyone = score_drop(judgement, frame, [5], n_others=1000)
    assert everyone.loc[5, "b"] == pytest.approx(judgement.scores[5] - scores.mean())


def test_scores_have_a_line_for_each_sample(judged):
    frame, judgement = judged
    table = scores_table(judgement, np.arange(2, 302), np.zeros(300, dtype=int))
    assert list(table) == ["sample", "score", "p_value", "alarm", "label"] and len(table) == len(frame)
    assert table["alarm"].sum() == judgement.alarms.sum()


def test_no_sample_is_named_by_a_formula(judged):
    _, judgement = judged
    names = ["=1+1.png", "+a.png", "-b.png", "@c.png", "good/=d.png", *range(295)]
    written = scores_table(judgement, names)["sample"]
    assert list(written[:5]) == ["./=1+1.png", "./+a.png", "./-b.png", "./@c.png", "good/=d.png"]
    assert list(written[5:]) == list(range(295))


def test_of_many_columns_the_one_that_made_the_alarm_is_found_in_groups():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 200)))
    frame.iloc[5, 130] = 1e6
    judgement = cross_fit_scores(CalibratedDetector(DistanceToCenter(), ColumnEncoder()), frame, seed=0)
    changes = score_drop(judgement, frame, [5])
    assert changes.loc[5].idxmax() == "130" and changes.loc[5].notna().sum() < 100
    quiet = np.flatnonzero(~judgement.alarms)
    others = np.random.default_rng(0).choice(quiet, 30, replace=False)
    copies = pd.concat([frame.iloc[[5]]] * 30, ignore_index=True)
    copies[130] = frame.iloc[others, 130].to_numpy()
    fall = judgement.scores[5] - judgement.detectors[judgement.fold[5]].anomaly_score(copies).mean()
    assert changes.loc[5, "130"] == pytest.approx(fall)
    assert "130 = 1e+06" in first_alarms(judgement, changes, frame, np.arange(60)).iloc[0, -1]
