"""The rendered report in a real browser with no network: formulas are drawn and nothing is asked for."""

import html
import json
import re
import shutil
import subprocess

import pytest
from report_project import LANGUAGES, REPORT, ReportProject

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<pre id="probe"></pre><script>
const boxes = [...document.querySelectorAll("math")].map(m => m.getBoundingClientRect());
const images = [...document.images];
document.getElementById("probe").textContent = JSON.stringify({
  formulas: boxes.length, empty: boxes.filter(b => b.width < 2 || b.height < 2).length,
  images: images.length, broken: images.filter(i => !i.complete || i.naturalWidth === 0).length,
  sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  asked: performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
});</script></body>"""


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = ReportProject(tmp_path_factory.mktemp("report"), monkeypatch)
        project.record_all_of(REPORT.read_text(encoding="utf-8"))
        return project.render_committed(request.param)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome: apt-get install chromium")
@pytest.mark.parametrize("width", [1000, 500])
def test_report_is_whole_without_a_network(page, tmp_path, width):
    # the probe is a script, which the page itself forbids; without that rule more would be asked for, not less
    probed = re.sub(r'<meta content="default-src[^>]*>', "", page).replace("</body>", PROBE)
    assert "default-src" not in probed and "<script>" in probed
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [
        BROWSER,
        *options,
        *offline,
        f"--window-size={width},1200",
        "--dump-dom",
        str(tmp_path / "page.html"),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    seen = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert seen["formulas"] > 30 and seen["empty"] == 0
    assert seen["images"] > 0 and seen["broken"] == 0
    assert seen["sideways"] == 0, "the page must not scroll sideways"
    assert seen["asked"] == []
