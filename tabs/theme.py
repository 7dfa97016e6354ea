"""The theme: warm for what the image model makes, cool for what the video model makes, on paper or on slate."""

from __future__ import annotations

import gradio as gr

# Fonts that come with the system: nothing is fetched from elsewhere.
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")

WARM_HUE = gr.themes.Color(
    "#fdf3ec", "#fae3d3", "#f4c5a6", "#eca678", "#e08a52", "#c9632a",
    "#ad4a14", "#8f3b0f", "#70300f", "#57270f", "#3d1b0a",
    name="warm",
)  # fmt: skip
COOL_HUE = gr.themes.Color(
    "#ecf6f6", "#d3eaeb", "#a9d6d9", "#79bec4", "#4aa3ab", "#1f838d",
    "#0f6a74", "#0d565f", "#0d464e", "#0c3a41", "#072529",
    name="cool",
)  # fmt: skip
PAPER_HUE = gr.themes.Color(
    "#faf8f4", "#f3f0e9", "#e5e0d5", "#cfc8ba", "#a49d90", "#746e64",
    "#575249", "#403c36", "#2a2a2e", "#1c1d22", "#141519",
    name="paper",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """The page's colours, fonts and sizes, light and dark."""
    base = gr.themes.Base(
        primary_hue=WARM_HUE,
        secondary_hue=COOL_HUE,
        neutral_hue=PAPER_HUE,
        font=SANS,
        font_mono=MONO,
        radius_size="md",
        text_size="md",
    )
    return base.set(
        body_background_fill="*neutral_100", body_background_fill_dark="*neutral_950",
        body_text_color="#22211f", body_text_color_dark="#ebe8e2",
        body_text_color_subdued="#625c52", body_text_color_subdued_dark="#a9a499",
        background_fill_primary="#fffdfa", background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50", background_fill_secondary_dark="#22232a",
        border_color_primary="*neutral_200", border_color_primary_dark="#34353e",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_width_dark="0px", block_shadow="none", block_shadow_dark="none",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color", block_label_text_color_dark="*body_text_color",
        block_title_text_color="*body_text_color", block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600", block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued", block_padding="0",
        input_background_fill="*neutral_50", input_background_fill_dark="#22232a",
        input_border_color="*neutral_300", input_border_color_dark="#454651", input_border_width="1px",
        input_border_color_focus="*secondary_500", input_border_color_focus_dark="*secondary_400",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_400", button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#1d1006",
        button_secondary_background_fill="*neutral_200", button_secondary_background_fill_hover="*neutral_300",
        button_secondary_background_fill_dark="#34353e", button_secondary_background_fill_hover_dark="#454651",
        slider_color="*secondary_600", slider_color_dark="*secondary_400",
        checkbox_background_color_selected="*secondary_600", checkbox_background_color_selected_dark="*secondary_600",
        checkbox_border_color_selected="*secondary_600", checkbox_border_color_selected_dark="*secondary_600",
        loader_color="*secondary_500", link_text_color="*secondary_600", link_text_color_dark="*secondary_300",
    )  # fmt: skip
