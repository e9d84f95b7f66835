"""JupyterLab as `make lab` starts it, in a real browser: Run All, no error, and a slider that moves by keyboard."""

import os
import secrets
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request

import jupytext
import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright
from report_project import BROWSER, ROOT, needs_browser

from mmad_utils.course.notebook_files import KERNEL

pytestmark = needs_browser
SECONDS = 120  # for a server, a page or a kernel to start on a busy machine
SOURCE = """\
# %% [markdown]
# # A small notebook

# %%
from matplotlib import pyplot as plt
from mmad_utils.course import widgets

# %%
def draw(height):
    fig, axis = plt.subplots(figsize=(3, 2))
    axis.bar([0], [height])
    axis.set_ylim(0, 10)
    return fig

# %%
widgets.FigureSlider(draw, [1, 5, 9], label="height", alt=lambda height: f"A bar of height {height}.")

# %%
print("the last cell")
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running server over a folder with one notebook: that folder, and the address of the notebook."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    notebook = jupytext.reads(SOURCE, fmt="py:percent")
    notebook.metadata["kernelspec"] = KERNEL
    nbformat.write(notebook, folder / "small.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    settings = {f"JUPYTER{name}_DIR": str(home) for name in ("_CONFIG", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")}
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(home)}
    environment.pop("MAKEFLAGS", None)
    dry = ["make", "--dry-run", "--no-print-directory", "lab", f"FOLDER={folder}"]
    command = subprocess.run(dry, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={token}"]
    log = home / "log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            shlex.split(command.splitlines()[-1]) + options, cwd=ROOT, env=environment, stdout=lines, stderr=lines
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, log)
        yield folder, f"http://127.0.0.1:{port}/lab/tree/small.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(timeout=SECONDS)


def wait_for(address, server, log):
    end = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address).close()
            return
        except urllib.error.URLError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture
def page(lab):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(1000 * SECONDS)
        expect.set_options(timeout=1000 * SECONDS)
        page.goto(lab[1])
        yield page
        browser.close()


def run_all(page):
    """Run All Cells from the menu, once the kernel is there, and wait for the last cell."""
    page.get_by_role("button", name=f"{KERNEL['display_name']} | Idle").wait_for()
    page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
    page.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
    expect(page.locator(".jp-OutputArea-output", has_text="the last cell")).to_be_visible()


def test_run_all_has_no_error_and_the_slider_moves_by_keyboard(lab, page):
    run_all(page)
    picture = page.locator(".jp-OutputArea-output .widget-html img")
    expect(picture).to_have_attribute("alt", "A bar of height 1.")
    first = picture.get_attribute("src")
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(picture).to_have_attribute("alt", "A bar of height 5.")
    assert picture.get_attribute("src") != first
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    expect(page.locator(".widget-readout")).to_have_text("5")
    with page.expect_response(lambda response: response.request.method == "PUT" and "small.ipynb" in response.url):
        page.keyboard.press("Control+s")
    saved = nbformat.read(lab[0] / "small.ipynb", as_version=4)
    outputs = [output for cell in saved.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    [shown] = [output for output in outputs if "image/png" in output.get("data", {})]
    assert shown.metadata["image/png"]["alt"] == "A bar of height 1."
