"""A field for one file. Alone in its module: Gradio writes a stub beside the source of a subclass."""

from __future__ import annotations

import gradio as gr


class Upload(gr.File):
    """A gr.File that hands over the path of what was sent, without the empty file that Gradio makes at each use."""

    is_template = True  # so that the browser and clients know it as what it is made of

    def preprocess(self, payload: gr.FileData | None) -> str | None:  # type: ignore[override] # one file alone
        """The path of what was sent."""
        return None if payload is None else payload.path
