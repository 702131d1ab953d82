"""`cbs-run` from the command line to the files it leaves."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from cbs_plugins.segmenters.dabnet import DABNetSegmenter
from cbs_plugins.sources.video import VideoSource
from cbs_plugins.stylers.johnson import JohnsonStyler
from PIL import Image

from cbs_core.words import vocabularies
from tests.integration.command import ROUTES, WAVE, Ran
from tests.media import damage, make_clip, picture, sound_packets

Command = Callable[..., Ran]

QUICK = ("quiet=true", "report=null", "sheet=null", WAVE, ROUTES)

CITYSCAPES = list(vocabularies.get("cityscapes"))


@pytest.fixture
def photo(place: Path) -> Path:
    """A small picture in the working folder."""
    Image.fromarray(picture(0)).save(place / "photo.png")
    return place / "photo.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def mask_of(image: np.ndarray, weights: Path, *classes: str) -> np.ndarray:
    """bool (H,W): where the segmenter sees the classes, by argmax at the picture's own size."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    net = DABNetSegmenter(str(weights / "dabnet/cityscapes.pth")).eval()
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(net(tensor), image.shape[:2], mode="bilinear")
    return np.isin(logits.argmax(1)[0].numpy(), [CITYSCAPES.index(c) for c in classes])


def test_the_picture_is_the_equation(command: Command, photo: Path, weights: Path) -> None:
    ran = command("input=photo.png", "output=out.png", WAVE, ROUTES)
    assert (ran.code, ran.err) == (0, "")
    source, out = pixels(photo), pixels(photo.with_name("out.png"))
    matte = mask_of(source, weights, "building", "wall")
    assert 0.2 < matte.mean() < 0.8
    assert np.array_equal(out[~matte], source[~matte])

    styler = JohnsonStyler(weights=str(weights / "johnson/wave.pth")).eval().double()
    image = torch.from_numpy(source).permute(2, 0, 1)[None].double() / 255
    with torch.inference_mode():
        styled = styler(image)[0].permute(1, 2, 0).numpy()
    blend = matte[..., None] * styled + (1 - matte[..., None]) * source / 255
    assert np.abs(out - 255 * blend).max() <= 1
    assert np.abs(out[matte].astype(int) - source[matte]).mean() > 5


def test_a_style_a_class_with_strength_and_own_colours(
    command: Command, photo: Path, weights: Path
) -> None:
    routes = (
        "routes={building: starry_night, wall: {style: wave, strength: 0.6, keep_color: true}, "
        "person: none}"
    )
    assert command("input=photo.png", "output=out.png", routes).code == 0
    source, out = pixels(photo), pixels(photo.with_name("out.png"))
    changed = np.abs(out.astype(int) - source).max(-1) > 0
    mattes = [mask_of(source, weights, name) for name in ("building", "wall")]
    assert not changed[~(mattes[0] | mattes[1])].any()
    assert all(changed[matte].mean() > 0.8 for matte in mattes)
    report = json.loads((photo.parent / "out.report.json").read_text())
    assert [(r["classes"], r["strength"], r["keep_color"]) for r in report["routes"]] == [
        (["building"], 1.0, False),
        (["wall"], 0.6, True),
    ]


def test_report_sheet_and_what_is_printed(command: Command, photo: Path, weights: Path) -> None:
    ran = command("input=photo.png", "output=done/out.png", WAVE, ROUTES)
    done = photo.parent / "done"
    assert sorted(p.name for p in done.iterdir()) == ["out.png", "out.report.json", "out.sheet.png"]
    report = json.loads((done / "out.report.json").read_text())
    assert report["frames"] == {"in": 1, "out": 1, "dropped": 0, "damaged": 0}
    assert report["fps"] > 0
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert report["input"] == {"path": "photo.png", "sha256": digest}
    assert report["device"]["type"] in ("cpu", "cuda")
    assert report["dtype"] in ("fp32", "fp16", "bf16")
    by = {one["plugin"].split()[0]: one["by"] for one in report["accelerated"]}
    assert by.keys() == {"segmenter", "styler"}
    assert all(by.values()), "each net's accelerator is named"
    assert {"python", "torch", "class-based-styling"} <= report["versions"].keys()
    assert {"decode", "segment", "style", "composite", "encode"} <= report["stages_ms"].keys()
    for times in report["stages_ms"].values():
        assert times.keys() == {"p50", "p95", "max"}
        assert times["p50"] <= times["p95"] <= times["max"]
    digests = {w["sha256"] for w in report["weights"]}
    files = [weights / "dabnet/cityscapes.pth", weights / "johnson/wave.pth"]
    assert digests == {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert report["config"]["styler"] == {
        "name": "johnson",
        "style": "wave",
        "weights": None,
        "halo": None,
        "grid": None,
        "where": "frame",
        "statistics": None,
    }
    with Image.open(done / "out.sheet.png") as sheet:
        assert sheet.width > 4 * 160
    lines = ran.out.splitlines()
    assert "building+wall: wave" in lines[0]
    assert [Path(line).name for line in lines[-3:]] == [
        "out.png",
        "out.report.json",
        "out.sheet.png",
    ]
    assert "1 frame ·" in ran.out
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    ("given", "output"),
    [
        (["input=photo.png"], "photo.png"),
        (["input=photo.png", "output=null"], "photo.png"),
        (["input=frames"], "frames"),
        (["input=clip.mp4"], "clip.mp4"),
        (["input=pan:photo.png", "source.frames=3"], "photo_pan.mp4"),
        (["input=photo.png", "sink=video"], "photo.mp4"),
    ],
)
def test_without_an_output_it_lies_in_the_run_folder(
    command: Command, photo: Path, given: list[str], output: str
) -> None:
    frames = photo.parent / "frames"
    frames.mkdir()
    for name in ("img2.png", "img10.png"):
        shutil.copy(photo, frames / name)
    make_clip(photo.parent / "clip.mp4", frames=3)
    ran = command(*given, "hydra.run.dir=run", WAVE, ROUTES)
    assert ran.code == 0, ran.err
    made = photo.parent / "run" / output
    assert made.exists()
    assert str(made) in ran.out.splitlines()
    if made.is_dir():
        assert sorted(p.name for p in made.iterdir()) == ["img10.png", "img2.png"]


def test_without_an_input_it_is_the_sample(command: Command, place: Path) -> None:
    assert command("output=out.jpg", *QUICK).code == 0
    assert pixels(place / "out.jpg").shape == (512, 512, 3)


def test_other_outputs(command: Command, photo: Path) -> None:
    make_clip(photo.parent / "clip.mp4", frames=3)
    assert command("input=clip.mp4", "output=frames/", *QUICK).code == 0
    assert sorted(p.name for p in (photo.parent / "frames").iterdir()) == [
        f"{i:06d}.png" for i in range(3)
    ]
    assert command("input=photo.png", "output=one.mp4", *QUICK).code == 0
    with VideoSource(str(photo.parent / "one.mp4")) as video:
        assert len(list(video)) == 1
    before = sorted(photo.parent.rglob("*.png"))
    assert command("input=photo.png", "sink=null", *QUICK).code == 0
    assert sorted(photo.parent.rglob("*.png")) == before


def test_quiet_prints_nothing(process: Command, photo: Path) -> None:
    ran = process("input=photo.png", WAVE, ROUTES, "quiet=true")
    assert ran == Ran(0, "", "")


@pytest.mark.parametrize(
    "option", ["matte=soft", "precision=bf16", "compositor=feather", "compositor=guided"]
)
def test_options_change_the_picture_but_a_little(
    command: Command, photo: Path, option: str
) -> None:
    plain = ("input=photo.png", "accelerator=eager", *QUICK)
    assert command(*plain, "output=a.png", "precision=fp32").code == 0
    changed = (option,) if option.startswith("precision") else (option, "precision=fp32")
    assert command(*plain, "output=b.png", *changed).code == 0
    a, b = (pixels(photo.with_name(name)).astype(int) for name in ("a.png", "b.png"))
    assert 0 < np.abs(a - b).mean() < 40


@pytest.mark.parametrize(
    "sweep",
    [
        ["styler.style=wave,starry_night", "input=photo.png"],
        [WAVE, "input=photo.png,other (1).png"],
    ],
)
def test_a_sweep_runs_each(command: Command, photo: Path, sweep: list[str]) -> None:
    shutil.copy(photo, photo.with_name("other (1).png"))
    ran = command("-m", "hydra.sweep.dir=sweep", "quiet=true", ROUTES, *sweep)
    assert ran == Ran(0, "", "")
    folders = [photo.parent / "sweep" / number for number in "01"]
    assert all(len(list(folder.glob("*.png"))) == 2 for folder in folders)


def test_a_route_may_name_a_weight_file(command: Command, photo: Path, weights: Path) -> None:
    shutil.copy(weights / "johnson/wave.pth", photo.with_name("my style.pth"))
    assert command("input=photo.png", "output=a.png", *QUICK).code == 0
    assert (
        command(
            "input=photo.png",
            "output=b.png",
            "routes={building: {weights: my style.pth}, wall: {weights: my style.pth}}",
        ).code
        == 0
    )
    a, b = (pixels(photo.with_name(name)).astype(int) for name in ("a.png", "b.png"))
    assert np.abs(a - b).max() <= 1


# File names ------------------------------------------------------------------------------------

ODD = """ -we ird's "q" (1) [2],{x}=$a ${b} #%d\\ é雪~"""


@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_odd_file_names_in_and_out(
    command: Command, photo: Path, weights: Path, suffix: str
) -> None:
    place = photo.parent
    if suffix == ".png":
        shutil.copy(photo, place / f"{ODD}.png")
    else:
        make_clip(place / f"{ODD}.mp4", frames=2, sound=0.1)
    style = place / f"{ODD}.pth"
    shutil.copy(weights / "johnson/wave.pth", style)
    ran = command(
        f"input={ODD}{suffix}", f"output=out/{ODD}{suffix}", f"styler.weights={style}", ROUTES
    )
    assert (ran.code, ran.err) == (0, "")
    assert sorted(p.name for p in (place / "out").iterdir()) == sorted(
        [f"{ODD}{suffix}", f"{ODD}.report.json", f"{ODD}.sheet.png"]
    )


def test_a_file_name_that_is_no_text(process: Command, photo: Path) -> None:
    name = "caf\udce9.png"
    shutil.copy(photo, photo.with_name(name))
    ran = process(f"input={name}", f"output=out/{name}", WAVE, ROUTES, "quiet=true")
    assert ran == Ran(0, "", "")
    assert (photo.parent / "out" / name).is_file()


# Pictures of every kind ------------------------------------------------------------------------


def _grayscale(path: Path) -> None:
    Image.fromarray(picture(0)).convert("L").save(path)


def _palette(path: Path) -> None:
    Image.fromarray(picture(0)).quantize(32).save(path)


def _alpha(path: Path) -> None:
    image = Image.fromarray(picture(0)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path)


def _sixteen_bit(path: Path) -> None:
    Image.fromarray(picture(0)[..., 0].astype(np.uint16) * 257).save(path)


def _one_pixel(path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(path)


@pytest.mark.parametrize("make", [_grayscale, _palette, _alpha, _sixteen_bit, _one_pixel])
def test_pictures_of_every_kind(
    command: Command, photo: Path, make: Callable[[Path], None]
) -> None:
    make(photo)
    ran = command("input=photo.png", "output=out.png", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    with Image.open(photo) as source, Image.open(photo.with_name("out.png")) as out:
        assert out.size == source.size
        assert out.mode == ("RGBA" if source.has_transparency_data else "RGB")
        if source.mode == "RGBA":
            assert out.getchannel("A").tobytes() == source.getchannel("A").tobytes()


def test_an_exif_rotated_and_a_cmyk_photo(command: Command, place: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(0)).save(place / "turned.jpg", exif=exif)
    Image.fromarray(picture(0)).convert("CMYK").save(place / "print.jpg")
    for name, shape in (("turned", (64, 48, 3)), ("print", (48, 64, 3))):
        assert command(f"input={name}.jpg", f"output={name}.png", *QUICK).code == 0
        assert pixels(place / f"{name}.png").shape == shape


# Video -----------------------------------------------------------------------------------------

CLIPS = {
    "with sound": {"frames": 12, "sound": 0.6},
    "variable rate": {"ticks": [0, 40, 50, 170, 400], "time_base": Fraction(1, 1000)},
    "rotated": {"frames": 3, "rotation": 90},
    "odd size": {"frames": 3, "width": 65, "height": 131},
    "one frame": {"frames": 1},
}


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_keeps_frames_times_size_and_sound(command: Command, place: Path, kind: str) -> None:
    source = make_clip(place / "clip.mp4", **CLIPS[kind])
    ran = command("input=clip.mp4", "output=out.mp4", WAVE, ROUTES)
    assert (ran.code, ran.err) == (0, "")
    with VideoSource(str(source)) as a, VideoSource(str(place / "out.mp4")) as b:
        assert (b.info.width, b.info.height) == (a.info.width, a.info.height)
        if kind != "variable rate":  # there the average depends on how long the last frame lasts
            assert b.info.rate == a.info.rate
        before, after = list(a), list(b)
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert sound_packets(place / "out.mp4") == sound_packets(source)
    report = json.loads((place / "out.report.json").read_text())
    assert report["frames"]["in"] == report["frames"]["out"] == len(before)
    moved = [
        (x.pixels.float() - y.pixels.float()).abs().mean()
        for x, y in zip(before, after, strict=True)
    ]
    assert min(moved) > 2


def test_a_damaged_packet_is_passed_over_and_counted(command: Command, place: Path) -> None:
    make_clip(place / "whole.mp4", frames=24, gop=4)
    damage(place / "whole.mp4", 9, place / "clip.mp4")
    ran = command("input=clip.mp4", "output=out.mp4", WAVE, ROUTES)
    assert ran.code == 0
    frames = json.loads((place / "out.report.json").read_text())["frames"]
    assert frames["damaged"] >= 1
    assert frames["out"] >= 20
    assert f"{frames['damaged']} damaged" in ran.out


# Hydra's own ------------------------------------------------------------------------------------


def test_the_composed_configuration_is_shown(process: Command) -> None:
    ran = process("--cfg", "job", "input=a b.png", "styler=none")
    assert (ran.code, ran.err) == (0, "")
    assert "input: a b.png" in ran.out
    assert "name: none" in ran.out
    ran = process("styler=none", "--info", "searchpath")
    assert (ran.code, ran.err) == (0, "")
    assert "cbs://entry-points" in ran.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cbs-run segmenter=", "segmenter=dabnet"),
        ("cbs-run styler=jo", "styler=johnson"),
        ("cbs-run mat", "matte="),
    ],
)
def test_completion(process: Command, monkeypatch, line: str, offered: str) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    ran = process("-sc", "query=bash")
    assert (ran.code, ran.err) == (0, "")
    assert offered in ran.out.split()


def test_completion_can_be_installed(process: Command) -> None:
    ran = process("-sc", "install=bash")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"complete .* cbs-run", ran.out)


# The main job, with real weights ----------------------------------------------------------------


def _first_packets(source: Path, target: Path, frames: int) -> Path:
    """Copies the first packets of every stream, with about as much sound as picture."""
    with av.open(str(source)) as media, av.open(str(target), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in media.streams}
        rate = media.streams.video[0].average_rate
        taken = 0
        for packet in media.demux():
            if packet.dts is None:
                continue
            is_video = packet.stream.type == "video"
            if is_video and taken == frames:
                continue
            if not is_video and packet.pts * packet.time_base > frames / rate:
                continue
            taken += is_video
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return target


@pytest.mark.shared
@pytest.mark.slow
def test_the_cars_of_a_dashcam_become_mosaic(process: Command, shared: Path, place: Path) -> None:
    clip = _first_packets(shared / "data/video/solidWhiteRight.mp4", place / "clip.mp4", 12)
    net = shared / "weights/dabnet/dabnet_cityscapes.pth"
    ran = process(
        "input=clip.mp4",
        "output=out.mp4",
        "segmenter=dabnet",
        f"segmenter.weights={net}",
        "styler=johnson",
        f"styler.weights={shared / 'weights/johnson/mosaic_width16.pth'}",
        "routes=[car]",
    )
    assert (ran.code, ran.err) == (0, "")
    with VideoSource(str(clip)) as a, VideoSource(str(place / "out.mp4")) as b:
        assert (b.info.width, b.info.height) == (a.info.width, a.info.height)
        assert b.info.rate == a.info.rate
        before, after = list(a), list(b)
    assert len(before) >= 10
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert sound_packets(place / "out.mp4") == sound_packets(clip)

    source, out = before[0].pixels.numpy(), after[0].pixels.numpy().astype(float)
    segmenter = DABNetSegmenter(str(net)).eval()
    with torch.inference_mode():
        logits = segmenter(torch.from_numpy(source).permute(2, 0, 1)[None] / 255)
    logits = torch.nn.functional.interpolate(logits, source.shape[:2], mode="bilinear")
    car = (logits.argmax(1)[0] == CITYSCAPES.index("car")).numpy()
    # Codec blocks of 16 pixels at the edge hold both.
    near = torch.nn.functional.max_pool2d(torch.from_numpy(car)[None].float(), 33, 1, 16)[0] > 0
    assert 50 < car.sum() < 0.2 * car.size
    error = (out - source) ** 2
    assert 10 * np.log10(255**2 / error[~near.numpy()].mean()) > 35
    assert np.sqrt(error[car].mean()) > 20


def test_weights_for_non_commercial_use_say_so_when_chosen(command: Command, photo: Path) -> None:
    ran = command("input=photo.png", WAVE, "routes=[car]", "segmenter.vocabulary=camvid")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^dabnet/camvid: CC BY-NC 4\.0 \(non-commercial\)", ran.out, re.MULTILINE)
    usual = command("input=photo.png", WAVE, ROUTES)
    assert "non-commercial" not in usual.out
