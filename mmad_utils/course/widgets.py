"""A slider above a figure: it selects one of several figures; without interaction the first figure is shown.

Use it as the last line of a cell. `draw` must only draw, and slow computations belong before it::

    FigureSlider(lambda k: plots.image_row(walk[k]), range(9), label="step", alt=lambda k: f"Step {k} of the walk.")
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt

from mmad_utils.course.results import css_width, png_bytes


class FigureSlider(ipywidgets.VBox):
    """A slider that selects the figure of one of a list of values.

    JupyterLab shows the slider, which the arrow keys move. A page or a printed notebook shows the first figure with
    its text alternative.

    Parameters
    ----------
    draw : callable
        ``draw(value) -> matplotlib Figure``; called at every change, so it should take less than 0.3 s.
    values : sequence
        The values of the slider, in order.
    label : str
        Label of the slider.
    alt : callable
        ``alt(value) -> str``, the text alternative of the figure.
    start : int, default=0
        Index of the value that is shown first.
    text : callable, default=str
        ``text(value) -> str``, the text of a value beside the slider; the texts must differ.
    """

    def __init__(
        self,
        draw: Callable[[Any], Any],
        values: Sequence[Any],
        *,
        label: str,
        alt: Callable[[Any], str],
        start: int = 0,
        text: Callable[[Any], str] = str,
    ):
        self._draw, self._alt, self._values = draw, alt, list(values)
        options = [(text(value), place) for place, value in enumerate(self._values)]
        self.slider = ipywidgets.SelectionSlider(options=options, value=start, description=label)
        self.slider.style.description_width = "initial"
        self.slider.layout.width = "30em"
        self.picture = ipywidgets.HTML()
        super().__init__(children=[self.slider, self.picture])
        self._still = self._show(start)
        self.slider.observe(lambda change: self._show(change["new"]), "value")

    def _show(self, place: int) -> tuple[str, int, str]:
        """Draw the figure of a value; returns a PNG in base64, its width in CSS pixels, and its text alternative."""
        value = self._values[place]
        fig = self._draw(value)
        png = png_bytes(fig)
        plt.close(fig)
        picture, width, alt = base64.b64encode(png).decode(), css_width(png), self._alt(value)
        self.picture.value = (
            f'<img src="data:image/png;base64,{picture}" width="{width}" alt="{html.escape(alt)}" '
            'style="max-width: 100%">'
        )
        return picture, width, alt

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        picture, width, alt = self._still
        data = {**super()._repr_mimebundle_(**options), "text/plain": alt, "image/png": picture}
        return data, {"image/png": {"alt": alt, "width": width}}
