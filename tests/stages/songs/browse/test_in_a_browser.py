"""The page of `browse` in a real browser: by mouse and by keyboard, wide and narrow."""

import io
import os
import shutil
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from helpers.page_client import PageClient
from helpers.small_separator import RATE, song

from mixstyle.stages.common.progress import Told
from mixstyle.stages.presentation.html import page as document
from mixstyle.stages.songs.browse.jobs import Job
from mixstyle.stages.songs.browse.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the machine"),
    pytest.mark.usefixtures("one_thread"),
]
MOST_MS = 30_000  # on a machine that has other work


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield running
        running.close()


@pytest.fixture(params=[1400, pytest.param(390, marks=pytest.mark.slow)])
def page(browser: "Browser", page_server: Server, request: pytest.FixtureRequest) -> "Iterator[Page]":
    """A page that has loaded its first song; it fails for errors of scripts, and for requests elsewhere."""
    found = browser.new_page(viewport={"width": request.param, "height": 900})
    errors: list[str] = []
    asked: list[str] = []
    found.set_default_timeout(MOST_MS)
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    found.on("request", lambda sent: asked.append(sent.url))
    found.goto(page_server.url)
    found.wait_for_selector("#near li")
    yield found
    found.close()
    assert not errors
    assert all(url.startswith((page_server.url, "data:", "blob:")) for url in asked)


def told(page: "Page", selector: str, text: str) -> None:
    """Waits until the first such element has this text."""
    from playwright.sync_api import expect

    expect(page.locator(selector).first).to_have_text(text, timeout=MOST_MS)


def test_by_mouse(page: "Page", page_server: Server) -> None:
    names = page_server.songs.names
    told(page, "#player-title", names[0])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than its window"
    page.locator("#list .song", has_text="song 3").click()
    told(page, "#player-title", names[3])
    near = page_server.songs.nearest(3)
    told(page, "#near button.name", names[near[0].song])
    page.locator("#near button", has_text="Hear beside").first.click()
    page.wait_for_selector("#beside:not([hidden])")
    page.locator("#sides button").nth(1).wait_for()
    assert "song=song+3.flac" in page.url
    page.reload()
    page.wait_for_selector("#beside:not([hidden])")
    told(page, "#player-title", names[3])
    box = page.locator("#wave").bounding_box()
    assert box is not None
    page.locator("#wave").click(position={"x": box["width"] / 2, "y": 40})
    assert page.locator("#wave").get_attribute("aria-valuetext") == "0:01 of 0:03"
    page.locator("#play").click()
    told(page, "#play", "Pause")
    page.locator("#sides button").nth(1).click()
    assert page.locator("#sides [aria-checked=true]").inner_text().startswith("B")
    page.locator("#stems button", has_text="solo").nth(1).click()
    page.wait_for_selector("#loop[aria-pressed=true]")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#amount").fill("50")
    page.locator("#match [value=drums]").check()
    page.reload()
    page.locator("#sides [aria-checked=true]", has_text="B").wait_for()
    assert page.locator("#stems [aria-pressed=true]").get_attribute("aria-label") == "solo bass"
    assert (page.locator("#amount").input_value(), page.locator("#match output").inner_text()) == ("50", "50%")
    assert page.locator("#match [value=drums]").is_checked()


def test_by_keyboard(page: "Page", page_server: Server) -> None:
    names = page_server.songs.names
    page.keyboard.press("/")
    page.keyboard.type("SONG 2")
    assert page.locator("#list .song").count() == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    told(page, "#player-title", names[2])
    page.locator("#query").fill("")
    page.locator("#list").focus()
    for key in ("Home", "ArrowDown", "r"):
        page.keyboard.press(key)
    page.wait_for_selector("#beside:not([hidden])")
    assert page.locator("#list [role=option]").nth(1).locator(".side").inner_text() == "B"
    page.wait_for_selector("#transport:not([inert])")  # what is not open yet takes no focus
    page.locator("#play").focus()
    page.keyboard.press("Enter")
    told(page, "#time", "0:01 / 0:03")
    for key, side in (("b", "B"), ("x", "A"), ("x", "B")):
        page.keyboard.press(key)
        assert page.locator("#sides [aria-checked=true]").inner_text().startswith(side)
    page.locator("#sides [aria-checked=true]").focus()
    for key, side in (("ArrowLeft", "A"), ("ArrowRight", "B")):
        page.keyboard.press(key)
        assert page.locator("#sides :focus").inner_text().startswith(side), "the focus stays in the group"
    page.locator("#clips button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#clips button:focus").get_attribute("aria-pressed") == "true"
    page.keyboard.press("2")
    page.wait_for_selector("#stems [aria-label='solo bass'][aria-pressed=true]")
    page.keyboard.press("Shift+Digit3")
    assert page.locator("#stems [aria-label='mute drums']").get_attribute("aria-pressed") == "true"
    page.keyboard.press("0")
    assert page.locator("#stems [aria-pressed=true]").count() == 0
    page.locator("#keys summary").click()
    page.locator("#keys-on").uncheck()
    page.keyboard.press("a")
    assert page.locator("#sides [aria-checked=true]").inner_text().startswith("B"), "single keys are off"


def test_a_song_is_not_played_under_the_name_of_the_next(page: "Page", page_server: Server) -> None:
    """While the next one is opened, which may take seconds, neither buttons nor keys play the one before."""
    held: list[Route] = []
    page.route("**/api/songs/*/audio", lambda route: held.append(route))
    page.locator("#list .song", has_text="song 2").click()
    told(page, "#player-title", page_server.songs.names[2])
    page.wait_for_selector("#transport[inert]")
    page.locator("#player-title").click()
    for key in ("Space", "1"):
        page.keyboard.press(key)
    assert page.locator("#play").inner_text() == "Play"
    assert page.locator("#stems [aria-pressed=true]").count() == 0
    held.pop().continue_()
    page.wait_for_selector("#transport:not([inert])")
    page.keyboard.press("Space")
    told(page, "#play", "Pause")


def test_pieces_follow_each_other_without_a_seam(page: "Page", page_server: Server) -> None:
    """Two pieces of a file, set on the clock by the player's own function, give its samples back."""
    client = PageClient(page_server)
    url = client.json("/api/songs/1/audio")["url"]
    played = page.evaluate(
        """async (url) => {
          const { decoded, place } = await import('/assets/transport.js');
          const context = new OfflineAudioContext(2, 30000, 44100);
          const piece = async (first, last) => decoded(context, await (await fetch(url, { headers: {
            Range: `bytes=${44 + 4 * first}-${44 + 4 * last - 1}` } })).arrayBuffer());
          const [one, two] = [await piece(0, 10007), await piece(10007, 30000)];
          place(context, one, context.destination, 1234567 - 1234567, 5, 10002);
          place(context, two, context.destination, 10002, 0, 19993);
          return [...(await context.startRendering()).getChannelData(1)];
        }""",
        url,
    )
    whole = np.frombuffer(client.get(url).data[44:], "<i2").reshape(-1, 2)[:, 1] / 32768
    samples24 = [0, 1, -1, 8_388_607, -8_388_608, 123_456]
    found = page.evaluate(
        """async (bytes) => {
          const { decoded } = await import('/assets/transport.js');
          const buffer = decoded(new OfflineAudioContext(2, 1, 44100), new Uint8Array(bytes).buffer, 3);
          return [...buffer.getChannelData(0)].flatMap((left, place) => [left, buffer.getChannelData(1)[place]]);
        }""",
        [byte for value in samples24 for byte in value.to_bytes(3, "little", signed=True)],
    )
    assert found == [value / 2**23 for value in samples24], "stems of a match have 24 bits"
    # samples are floats: what is read back is what was sent, to the last bit
    np.testing.assert_array_equal(np.asarray(played)[:29_995], whole[5:30_000].astype(np.float32))


def test_ten_thousand_songs_cost_a_screenful(browser: "Browser", page_server: Server) -> None:
    paths = [f"Artist {i % 40}/Album/Song {i}.mp3" for i in range(10_000)]
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.route("**/api/songs", lambda route: route.fulfill(json=[[path, 60.0, -20.0] for path in paths]))
    page.goto(page_server.url)
    page.wait_for_selector("#near li")
    page.locator("#list").focus()
    page.keyboard.press("End")
    page.wait_for_selector(f"#list .song[title='{paths[-1]}']")
    assert page.locator("#list .song").count() < 40
    page.locator("#query").fill("song 77 artist")
    found = sum("77" in path for path in paths)
    assert page.locator("#count").inner_text().startswith(f"{found} of ")
    page.locator("#query").fill("nothing like it")
    assert page.locator("#list .song").count() == 0
    assert "folder" not in page.locator("#count").inner_text(), "none is chosen"
    page.locator("#folder").select_option("Artist 1/Album")
    assert "folder" in page.locator("#count").inner_text()
    page.close()


def test_track_numbers_are_no_artists_and_accents_are_found(browser: "Browser", page_server: Server) -> None:
    """The second path is as macOS stores it, with its accent as a letter of its own."""
    paths = ["Prince/01 - Kiss.mp3", "Beyonce\u0301/1-02. Halo.mp3", "03 - Blur - Song 2.mp3", "311 - Amber.mp3"]
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.route("**/api/songs", lambda route: route.fulfill(json=[[path, 60.0, -20.0] for path in paths]))
    page.goto(page_server.url)
    page.wait_for_selector("#near li")
    found = page.evaluate(
        "async (paths) => { const { parts } = await import('/assets/list.js'); return paths.map(parts); }", paths
    )
    assert [(one["artist"], one["title"]) for one in found] == [
        ("Prince", "Kiss"),
        ("Beyonce\u0301", "Halo"),
        ("Blur", "Song 2"),
        ("311", "Amber"),
    ]
    for query in ("beyonc\u00e9", "BEYONCE", "beyonce\u0301 halo"):
        page.locator("#query").fill(query)
        assert page.locator("#list .song").all_inner_texts()[0].startswith("Halo")
        assert page.locator("#list .song").count() == 1
    page.close()


def test_a_match_goes_on_after_a_reload_and_is_stopped(
    browser: "Browser", page_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, watch = threading.Event(), Job.watch

    def held(job: Job, told: Told) -> None:
        watch(job, told)
        while told.what == "match" and not gate.wait(0.05):
            watch(job, told)

    monkeypatch.setattr(Job, "watch", held)
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(2 * MOST_MS)
    page.goto(f"{page_server.url}#song=song+3.flac&reference=song+1.flac")
    page.wait_for_selector("#beside:not([hidden])")
    page.locator("#match button", has_text="add another reference").click()
    page.locator("#query").fill("song 2")
    page.locator("#list").focus()
    page.keyboard.press("r")
    page.locator("#match .chip").nth(1).wait_for()
    assert [chip.split("\n")[0] for chip in page.locator("#match .chip").all_inner_texts()] == [
        "song 1.flac",
        "song 2.flac",
    ]
    page.locator("#match button.main").focus()
    page.keyboard.press("Enter")
    page.locator("#match .job", has_text="step 3 of 5").wait_for()
    page.reload()
    page.locator("#match .job", has_text="step 3 of 5").wait_for()
    assert page.locator("#match .job").inner_text().startswith("song 3.flac, brought to song 1.flac and 1 other")
    assert page.locator("#match button.main").is_disabled()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than its window"
    page.locator("#match .job button").focus()
    page.keyboard.press("Enter")
    page.locator("#match .job", has_text="stopped").wait_for()
    assert page.locator("#match button.main:focus").is_enabled(), "the focus is not lost with the button that stops"
    gate.set()
    page.close()


@pytest.mark.slow
def test_a_song_of_ones_own_is_dropped_matched_and_removed(browser: "Browser", page_server: Server) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(10 * MOST_MS)
    page.goto(page_server.url)
    page.wait_for_selector("#near li")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"not music"})
    assert page.locator("#drop-state [role=alert]").inner_text().startswith("notes.txt")
    page.locator("#drop-state button").click()
    data = io.BytesIO()
    soundfile.write(data, song(9), RATE, format="FLAC")
    page.set_input_files("#file", {"name": "my song.flac", "mimeType": "audio/flac", "buffer": data.getvalue()})
    told(page, "#player-title", "my song.flac")
    assert page.locator("#list .song").first.get_attribute("title") == "my song.flac"
    page.wait_for_selector("#near:not([inert]) li")
    page.locator("#near button", has_text="Hear beside").first.click()
    page.wait_for_selector("#beside:not([hidden])")
    page.locator("#match button.main").click()
    page.wait_for_selector("#match .result a")
    page.reload()
    page.wait_for_selector("#match .result a")
    assert page.locator("#sides button").all_inner_texts() == ["A before", "B after", "C reference"]
    with page.expect_response(lambda answer: answer.url.endswith("/whole/bass")) as played:
        page.locator("#stems [aria-label='solo bass']").click()
        page.locator("#play").click()
    assert played.value.status == 206, "the bass as it was changed"
    for name, title in (("matched.wav", "my song matched.wav"), ("bass.wav", "my song matched bass.wav")):
        with page.expect_download() as saved:
            page.locator(f"#match .result a[href$='/{name}']").click()
        assert saved.value.suggested_filename == title
        matched = soundfile.info(saved.value.path())
        assert (matched.samplerate, matched.subtype) == (RATE, "PCM_24")
    page.locator("#match button", has_text="Copy what was set").click()
    page.locator("#match [role=status]", has_text="Copied.").wait_for()
    page.context.grant_permissions(["clipboard-read"])
    assert page.evaluate("navigator.clipboard.readText()").startswith("my song.flac, brought to ")
    for name in ("my song.flac, matched", "my song.flac"):
        page.locator(f"#drop-state [aria-label='Remove {name}']").click()
        page.locator(f"#drop-state [aria-label='Remove {name}']").wait_for(state="detached")
    told(page, "#player-title", page_server.songs.names[0])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#alert").inner_text() == ""
    page.close()


def test_a_page_that_is_opened_as_a_file_tells_when_it_was_written(browser: "Browser", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(document("a title", "", []))
    noon = datetime(2026, 2, 3, 12).timestamp()
    os.utime(path, (noon, noon))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("footer").inner_text().endswith("written on 2026-02-03")
    page.close()
