"""The one component behind all widgets. Alone in its module: Gradio writes a stub beside the source of a subclass."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tabs.widgets.bundle import widget_script


class Widget(gr.HTML):
    """A gr.HTML that a script of ours draws. Its template holds no values: in the browser they are data, never code.

    Args:
        value: what the script draws.
        drawn_by: name of the script, and of the class of the element that it draws into.
        looks: further classes of that element.
        about: the value in words, for those who call the API.
        kind: of the value, in JSON schema's words.
        options: of gr.HTML.
    """

    def __init__(
        self, value: Any = None, *, drawn_by: str, about: str, looks: str = "", kind: str = "object", **options: Any
    ) -> None:
        self.drawn_by, self.about, self.looks, self.kind = drawn_by, about, looks, kind
        super().__init__(
            value, html_template=f'<div class="bd-{drawn_by} {looks}"></div>', js_on_load=widget_script(drawn_by),
            apply_default_css=False, **options,
        )  # fmt: skip

    def api_info(self) -> dict[str, Any]:
        """What clients are told of the value."""
        return {"type": self.kind, "description": self.about}
