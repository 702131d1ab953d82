"""The studio in a real browser: Chromium from the system, driven by selenium.

The page is the one that ships; nets are those of `tests.live`, so that machines without a GPU show
several frames a second.
"""

import os
import re
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import uvicorn
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cbs_core.choose import registry
from cbs_core.choose.presets import defaults
from cbs_core.live import calling, server, watching
from cbs_core.live.reading import Reading
from cbs_core.live.shop import Limits, Opening, Shop
from cbs_core.live.studio import Studio
from cbs_core.run import settings
from cbs_core.run.workshop import Workshop
from cbs_core.words.vocabularies import colours
from tests import browser, live

STRANGER = "http://localhost"
"""A name that the server was not given."""

AWAY = re.compile(r"v1/(classes|styles)/\d+\.jpg\S* .* 404 ")
"""A thumbnail of a class or of a feed that had left when it was asked for."""

CUT = """
    return [...document.querySelectorAll('.panel span, .panel small, .panel button, .views span')]
        .filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline')
        .map((e) => e.textContent)
"""
"""Returns the words that their boxes do not hold."""

SMALL = """
    return [...document.querySelectorAll('button, select, summary, label, .button')].filter((e) => {
        const { width, height } = e.getBoundingClientRect();
        return width && !e.closest('.slider') && Math.min(width, height) < 39.9;
    }).map((e) => e.id || e.textContent)
"""
"""Returns what is pressed and has less than 40 pixels a side."""

COLOURS = """
    const context = new OffscreenCanvas(1, 1).getContext('2d');
    const layers = [];
    for (let e = document.querySelector(arguments[0]); e; e = e.parentElement) layers.unshift(e);
    const pixel = (colours) => {
        colours.forEach((one) => { context.fillStyle = one; context.fillRect(0, 0, 1, 1); });
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const grounds = layers.map((e) => getComputedStyle(e).backgroundColor);
    return [pixel(grounds), pixel([...grounds, getComputedStyle(layers.at(-1)).color])];
"""
"""Returns an element's ground and ink, as they are seen."""

LOST = ("ERR_CONNECTION", "ERR_ABORTED", "WebSocket", "Failed to fetch", "willReadFrequently")
"""What a page may say whose server is left, and of what the tests themselves read of a canvas."""

pytestmark = browser.needed

ADDRESSES = [
    one.address
    for each in psutil.net_if_addrs().values()
    for one in each
    if one.family == socket.AF_INET and one.address != "127.0.0.1"
]

called = pytest.mark.skipif(
    not (calling.THERE and ADDRESSES),
    reason="no address of this machine beside 127.0.0.1, which WebRTC needs"
    if calling.THERE
    else "no aiortc: the extra [webrtc]",
)


class Page:
    """A browser's page, and how a test looks at it."""

    def __init__(self, driver):
        self.driver = driver

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def script(self, text, *args):
        return self.driver.execute_script(text, *args)

    def until(self, true, seconds=60):
        live.until(true, seconds)

    def text(self, selector):
        return self.script(f"return document.querySelector('{selector}')?.textContent ?? ''")

    def click(self, selector):
        """Clicks as soon as it is there."""
        click = "const e = document.querySelector(arguments[0]); e?.click(); return Boolean(e)"
        self.until(lambda: self.script(click, selector))

    @property
    def frames(self):
        return int(self.script("return document.getElementById('picture').dataset.frames ?? 0"))

    def more_frames(self, count=3):
        before = self.frames
        self.until(lambda: self.frames >= before + count)

    def pixel(self, x, y):
        """Returns RGB of the canvas at shares of its sides."""
        return self.script(
            "const c = document.getElementById('picture');"
            "const [x, y] = [arguments[0] * c.width, arguments[1] * c.height].map(Math.floor);"
            "return [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)",
            x,
            y,
        )

    def contrast(self, selector):
        """Returns the ratio of ink and ground that WCAG defines."""
        light = []
        for colour in self.script(COLOURS, selector):
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                      for c in np.array(colour) / 255]  # fmt: skip
            light.append(0.05 + np.dot(linear, (0.2126, 0.7152, 0.0722)))
        return max(light) / min(light)

    @property
    def toast_is_gone(self):
        """Whether it has faded, too."""
        return float(self.script("return getComputedStyle(toast).opacity")) == 0

    def click_picture(self, x, y):
        """Clicks with a real pointer at shares of the picture's sides."""
        canvas = self.one("#picture")
        size = canvas.size
        moved = ActionChains(self.driver).move_to_element_with_offset(
            canvas, (x - 0.5) * size["width"], (y - 0.5) * size["height"]
        )
        moved.click().perform()

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def size(self, width, height, *, phone=False, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def plugins():
    with pytest.MonkeyPatch.context() as patch:
        live.install(patch)
        yield


@pytest.fixture(scope="module")
def shop(plugins, tmp_path_factory):
    """A studio whose source is a picture with a car that moves, ten times a second."""
    with live.studio(size=live.WIDTH, styles=["dark", "light", "late"]) as made:
        ended = threading.Event()

        def feeding():
            count = 0
            while not ended.wait(0.1):
                live.give(made, np.roll(live.picture(), 2 * (count % 4), axis=1))
                count += 1

        thread = threading.Thread(target=feeding)
        thread.start()
        yield Shop(made, tmp_path_factory.mktemp("recordings"), Limits(), live.inputs("car.mp4"))
        ended.set()
        thread.join()


@contextmanager
def served(shop, port=0, opening=None):
    """Serves it in a thread; yields the port."""
    app = server.application(opening or Opening(shop), hosts={"127.0.0.1"})
    config = uvicorn.Config(
        app, port=port, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    live.until(lambda: running.started)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    arguments = (
        "--disable-gpu",
        "--hide-scrollbars",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={live.clip(folder / 'camera.y4m')}",
    )
    with browser.chromium(folder, *arguments) as found:
        found.downloads = folder
        found.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )
        yield found


@pytest.fixture
def page(driver, shop):
    """The page, opened anew on a server of its own; its console must stay empty."""
    shop.studio.change(
        shop.studio.main,
        {"routes": {"car": {"style": "dark", "strength": 1.0, "keep_color": False}, "sky": None}},
    )
    with served(shop) as port:
        driver.port = port
        driver.get(f"http://127.0.0.1:{port}/")
        made = Page(driver)
        made.size(1280, 800)
        made.more_frames()
        yield made
        said = [entry["message"] for entry in driver.get_log("browser")]
        driver.get("about:blank")
    assert complaints(said, port) == []


def complaints(said, port):
    """Returns what a console says of this page.

    A browser tells late: of pages that were left, and of the icon that it asks of every name by
    itself, whenever it comes to it. Both have another origin.
    """
    own = f"http://127.0.0.1:{port}/"
    return [
        line
        for line in said
        if line.startswith(own) or not re.match(r"https?://", line)
        if not AWAY.search(line) and not any(word in line for word in LOST)
    ]


def test_the_console_is_read_for_what_is_wrong():
    wrong = [
        "http://127.0.0.1:80/main.js 12:3 Uncaught TypeError: no",
        "http://127.0.0.1:80/v1/look?feed=main - Failed to load resource: ... 400 (Bad Request)",
        "http://127.0.0.1:80/v1/classes/1.jpg?feed=main - Failed to load resource: ... 500 (Error)",
        "security - Refused to load",
    ]
    well = [
        "http://localhost:80/favicon.ico - Failed to load resource: ... 403 (Forbidden)",
        "http://127.0.0.1:81/main.js 12:3 Uncaught TypeError: of a page that was left",
        "http://127.0.0.1:80/v1/classes/1.jpg?feed=x - Failed to load: ... of 404 (Not Found)",
        "http://127.0.0.1:80/v1/stream - WebSocket connection failed",
    ]
    assert complaints(wrong + well, 80) == wrong


def near(pixel, level):
    return all(abs(one - level) < 12 for one in pixel)


def like(pixel, original, colour):
    """Tells whether it is a class' colour over the grey of the picture."""
    mixed = 0.35 * sum(original) / 3 + 0.65 * np.array(colour)
    return np.abs(pixel - mixed).max() < 12


def test_click_a_class_choose_a_style_and_move_its_strength(page, shop):
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))
    page.click_picture(0.5, 0.2)
    page.until(lambda: page.text("#chosen") == "sky")
    assert page.one("#classes [aria-pressed=true]").get_attribute("aria-label") == "sky, as it is"
    page.until(
        lambda: page.script(
            "return [...document.querySelectorAll('#gallery img')].every("
            "(i) => i.complete && i.naturalWidth > 0)"
        )
    )
    page.click("#gallery input[value=light]")
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    assert near(page.pixel(0.3, 0.75), 51)
    slider = page.one("#strength")
    slider.send_keys(Keys.HOME)
    page.until(lambda: page.pixel(0.5, 0.2)[2] > page.pixel(0.5, 0.2)[0] + 100)
    assert shop.studio.main.wish.routes["sky"].strength == 0
    slider.send_keys(Keys.END)
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    page.click("#gallery input[value='']")
    page.until(lambda: "sky" not in shop.studio.main.wish.routes)
    page.until(lambda: page.pixel(0.5, 0.2)[2] > 180)


def test_the_object_that_was_clicked_on_alone(page, shop):
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))
    page.click_picture(0.5, 0.2)
    page.until(lambda: page.text("#chosen") == "sky")
    assert not page.one("#only-row").is_displayed(), "what is not painted has none"
    page.click_picture(0.3, 0.75)
    page.until(lambda: page.text("#chosen") == "car")
    page.until(lambda: page.one("#only-row").is_displayed())
    page.click("#only")
    page.until(lambda: shop.studio.main.wish.only is not None)
    page.until(lambda: not shop.studio.main.building)
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))
    page.click_picture(0.5, 0.2)
    page.until(lambda: shop.studio.main.wish.only[1] < 0.3)
    page.until(lambda: not near(page.pixel(0.3, 0.75), 51))
    page.click("#classes li[data-index='1'] button")
    page.until(lambda: page.one("#only-row").is_displayed())
    page.click("#only")
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))
    assert shop.studio.main.wish.only is None


def test_a_click_is_the_point_where_the_segmenter_finds_what_lies_there(plugins, driver, tmp_path):
    with live.studio(look=live.at_a_point(), size=live.WIDTH, styles=["dark", "light"]) as made:
        live.shown(made)
        shop = Shop(made, tmp_path, Limits(), live.inputs("car.mp4"))
        with served(shop) as port:
            driver.get(f"http://127.0.0.1:{port}/")
            page = Page(driver)
            page.size(1280, 800)
            page.until(lambda: near(page.pixel(0.5, 0.5), 51))
            page.click_picture(0.25, 0.25)
            page.until(lambda: page.text("#chosen") == "object")

            def painted():
                live.shown(made)  # of these the first may still be by the plan before
                return near(page.pixel(0.25, 0.25), 51)

            page.until(painted)
            assert not near(page.pixel(0.5, 0.5), 51)
            assert not page.one("#only-row").is_displayed()
            page.click("#gallery input[value=light]")
            page.until(lambda: made.main.wish.routes["object"].style == "light")
            driver.get("about:blank")


def test_styles_of_a_class_that_left_are_shown_on_what_is_in_view(page, shop, monkeypatch):
    sky = np.full_like(live.picture(), (40, 60, 220))
    monkeypatch.setattr(live, "picture", lambda: sky)
    page.until(lambda: page.script("return document.querySelector('#classes .away')") is not None)
    shop.crops.clear()  # as of a camera that was never shown a car
    page.click("#classes .away button")
    assert page.text("#chosen") == "car"
    loaded = "[...document.querySelectorAll('#gallery img')].map((i) => i.naturalWidth)"
    page.until(lambda: 0 not in page.script(f"return {loaded}"))


def test_views_by_keys_and_the_split(page):
    page.press("4")
    _, car, sky = colours(live.CLASSES)
    page.until(lambda: like(page.pixel(0.3, 0.75), (220, 30, 40), car))
    page.until(lambda: like(page.pixel(0.5, 0.2), (40, 60, 220), sky))
    page.press("5")
    page.until(lambda: near(page.pixel(0.3, 0.75), 255) and near(page.pixel(0.5, 0.2), 0))
    page.press("3")
    page.until(lambda: page.pixel(0.3, 0.75)[0] > 180)
    page.press("2")
    assert page.one("#divider").is_displayed()
    page.one("#divider").send_keys(Keys.HOME)
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))
    page.one("#divider").send_keys(Keys.END)
    page.until(lambda: page.pixel(0.3, 0.75)[0] > 180)
    page.press("1")
    page.until(lambda: near(page.pixel(0.3, 0.75), 51))


def test_photo_recording_preset(page, shop, driver):
    page.click("#record")
    page.until(lambda: page.one("#record").get_attribute("aria-pressed") == "true")
    page.until(lambda: shop.recording.frames >= 5)
    page.click("#record")
    page.until(lambda: page.text("#recordings a").endswith(".mp4"))
    assert page.one("#record").get_attribute("aria-pressed") == "false"
    page.click("#recordings a")
    page.press("p")
    page.click("#export")
    for pattern in ("cbs-*.mp4", "cbs-*.png", "studio.yaml"):
        page.until(lambda pattern=pattern: [*driver.downloads.glob(pattern)])
    page.click("#keep-preset")
    assert page.text("#presets button") == "Look 1"
    page.click("#presets button + button")
    assert not page.text("#presets button")


def test_a_recording_shows_before_the_next_state_and_ends_by_the_next_click(
    page, shop, monkeypatch
):
    monkeypatch.setattr(watching, "EVERY", 3600)  # no state comes by itself
    pressed = "return [toast.textContent, record.getAttribute('aria-pressed')]"
    page.click("#record")
    page.until(lambda: page.script(pressed) == ["Recording", "true"], 20)
    page.until(lambda: shop.recording.frames)
    page.click("#record")
    page.until(lambda: page.script(pressed)[1] == "false", 20)
    assert shop.recording is None


def test_a_reload_finds_all_as_it_was(page, driver):
    page.click("#classes button[aria-label^=sky]")
    page.click("#gallery input[value=light]")
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    driver.refresh()
    page.more_frames()
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    page.until(
        lambda: page.script("return !!document.querySelector('[aria-label=\"sky, Light\"]')")
    )


def test_a_second_visitor_sees_and_says_the_same(page, driver):
    driver.switch_to.new_window("tab")
    driver.get(f"http://127.0.0.1:{driver.port}/")
    page.more_frames()
    page.click("#classes button[aria-label^=sky]")
    page.click("#gallery input[value=light]")
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    driver.close()
    driver.switch_to.window(driver.window_handles[0])
    page.more_frames()
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))


def test_a_connection_that_is_lost_is_regained(driver, shop):
    with socket.socket() as held:  # nobody else is given the port while no server has it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with served(shop, port):
            driver.get(f"http://127.0.0.1:{port}/")
            page = Page(driver)
            page.more_frames()
        page.until(lambda: "Trying again" in page.text("#note"))
        assert page.one("#note").is_displayed()
        with served(shop, port):
            page.more_frames()
            page.until(lambda: not page.one("#note").is_displayed())
            driver.get("about:blank")


def test_who_comes_too_soon_sees_that_nets_are_prepared(driver, shop):
    opening = Opening()
    with served(shop, opening=opening) as port:
        driver.get(f"http://127.0.0.1:{port}/")
        page = Page(driver)
        page.until(lambda: page.text("#note") == "The nets are being prepared…")
        assert page.one("#note").is_displayed()
        opening.shop = shop
        page.more_frames()
        page.until(lambda: not page.one("#note").is_displayed())
        page.until(lambda: page.text("#gallery").count("Light") == 1)
        driver.get("about:blank")


@pytest.mark.parametrize("way", ["WebSocket", pytest.param("WebRTC", marks=called)])
def test_the_visitors_own_camera(page, shop, monkeypatch, way):
    monkeypatch.setattr(watching, "THERE", way == "WebRTC")
    page.click("#camera")
    page.until(lambda: len(shop.studio.feeds) == 2)
    page.until(lambda: page.text("#source") == f"My camera · {way}")
    own = next(feed for name, feed in shop.studio.feeds.items() if name != "main")
    page.until(lambda: own.meter.frames_out > 5)
    page.more_frames()
    page.until(lambda: page.text("#latency").endswith("ms"))
    page.until(lambda: own.wish.routes["car"].style == "dark")
    page.click("#classes button[aria-label^=sky]")
    page.click("#gallery input[value=light]")
    page.until(lambda: near(page.pixel(0.5, 0.2), 204))
    assert "sky" not in shop.studio.main.wish.routes
    page.until(lambda: page.text("#device").endswith("camera.y4m"))
    page.script(
        "const s = document.getElementById('asked'); s.value = '640x480';"
        "s.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    before = own.meter.frames_out
    page.until(lambda: own.meter.frames_out > before + 3)
    for key, wide in (("2", "#divider"), ("1", None)):  # two pictures of a frame, and one again
        page.press(key)
        assert wide is None or page.one(wide).is_displayed()
        page.more_frames()
    assert page.text("#source") == f"My camera · {way}"
    page.click("#camera")
    page.until(lambda: len(shop.studio.feeds) == 1)
    page.until(lambda: page.text("#source") == "car.mp4")
    page.more_frames()
    page.until(lambda: page.pixel(0.5, 0.2)[2] > 180)


@called
def test_where_webrtc_finds_no_way_it_is_told_and_pictures_go_on(page, shop, monkeypatch):
    monkeypatch.setattr(watching, "THERE", True)
    monkeypatch.setattr(calling, "addressed", lambda offer, visitor: "no offer")
    page.click("#camera")
    page.until(lambda: "WebRTC is not to be had" in page.text("#toast"))
    page.until(lambda: page.text("#source") == "My camera · WebSocket")
    own = next(feed for name, feed in shop.studio.feeds.items() if name != "main")
    before = own.meter.frames_out
    page.until(lambda: own.meter.frames_out > before + 3)
    page.more_frames()
    page.click("#camera")
    page.until(lambda: len(shop.studio.feeds) == 1)


def test_a_stranger_page_reads_and_changes_nothing(page, driver, shop):
    """The page of another name, which the browser is made to find here: DNS rebinding."""
    before = shop.studio.main.wish
    driver.get(f"{STRANGER}:{driver.port}/")
    assert "not the server's" in driver.page_source
    assert shop.studio.main.wish == before


def test_every_control_has_a_name(page):
    page.click("#classes button")
    nameless = page.script(
        "return [...document.querySelectorAll('button, input, select, a, canvas, summary')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() "
        "|| [...(e.labels ?? [])].some((l) => l.textContent.trim())))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [("desktop", 1280, 800), ("phone", 390, 844), ("turned", 844, 390)],
    ids=["desktop", "phone", "turned"],
)
def test_it_fits_and_is_photographed(page, tmp_path, kind, width, height, dark):
    page.size(width, height, phone=kind != "desktop", dark=dark)
    page.click("#classes button[aria-label^=car]")
    page.more_frames()
    page.until(lambda: page.toast_is_gone)
    wide = page.script("return document.documentElement.scrollWidth")
    assert wide <= width, "the page is wider than the screen"
    outside = page.script(
        "const w = innerWidth; return [...document.querySelectorAll('button, select, output')]"
        ".filter((e) => { const b = e.getBoundingClientRect();"
        "return b.width && !e.closest('.classes') && (b.left < 0 || b.right > w + 1) })"
        ".map((e) => e.id || e.textContent)"
    )
    assert outside == []
    assert page.script(CUT) == [], "words are cut off"
    assert page.script(SMALL) == [], "too small for a finger"
    picture = page.one("#picture").rect
    assert picture["height"] > height / 2 or picture["width"] > width / 2
    page.script("record.setAttribute('aria-pressed', 'true')")
    for selector in ("#record", ".quiet", "#chosen", ".gallery span", ".classes small"):
        assert page.contrast(selector) > 4.5, f"{selector} is hard to read"
    page.script("record.setAttribute('aria-pressed', 'false')")
    ground = page.script("return getComputedStyle(document.body).backgroundColor")
    levels = [int(one) for one in ground.removeprefix("rgb(").rstrip(")").split(",")]
    assert (max(levels) < 60) if dark else (min(levels) > 220)
    name = f"studio-{kind}-{'dark' if dark else 'light'}.png"
    folder = Path(os.environ.get("CBS_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    assert page.driver.save_screenshot(str(folder / name))


def test_a_person_is_clicked_on_and_painted_by_the_packages_own_nets(driver, tmp_path):
    """From the default configuration to the page; the README's picture, by $CBS_SCREENSHOTS."""
    base = settings.look(
        defaults()
        | {"accelerator": {"name": "eager"}, "compositor": {"name": "feather", "radius": 4}}
        | {"routes": {"background": {"style": "wave", "strength": 0.5}}, "matte": "soft"}
        | {"segmenter": defaults("live")["segmenter"]}
    )
    studio = Studio(base, Workshop.on("cpu", "fp32"), size=512)
    reading = Reading(studio, lambda: registry.sources.create("sample", path="astronaut"))
    shop = Shop(studio, tmp_path, Limits(), live.inputs("sample:astronaut"))
    studio.start()
    reading.start()
    try:
        with served(shop) as port:
            driver.get(f"http://127.0.0.1:{port}/")
            page = Page(driver)
            page.size(1280, 800)
            page.more_frames(1)
            page.click_picture(0.45, 0.5)
            page.until(lambda: page.text("#chosen") == "person")
            before = page.pixel(0.45, 0.8)
            page.click("#gallery input[value=starry_night]")
            page.until(lambda: page.pixel(0.45, 0.8) != before)
            page.until(
                lambda: page.script(
                    "return [...document.images].every((i) => i.complete && i.naturalWidth)"
                )
            )
            page.until(lambda: page.toast_is_gone)
            folder = Path(os.environ.get("CBS_SCREENSHOTS", tmp_path))
            folder.mkdir(exist_ok=True)
            assert driver.save_screenshot(str(folder / "studio.png"))
            driver.get("about:blank")
    finally:
        reading.close()
        studio.close()
