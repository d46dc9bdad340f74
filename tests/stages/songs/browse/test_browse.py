"""The page of `browse`: in a real browser, and by requests that try to get more than it should give."""

import dataclasses
import io
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.small_encoder import embedding_profile
from helpers.small_separator import CLIP, CLIP_S, song, write_songs

from mixstyle.cache.music.cutting import clip_starts
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.server import HostCheck, Server
from mixstyle.stages.songs.browse.songs import Songs
from mixstyle.stages.songs.index import index

SONGS = 6
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("browse")
    chosen = embedding_profile(folder, write_songs(folder / "music", SONGS))
    (folder / "music" / "secret.txt").write_text("not for the page")
    index(chosen, folder / "music")
    return chosen


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[Server]:
    with Server(settings, port=0) as running:
        yield running


def fetch(url: str, **headers: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read(), answer.headers["content-type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read(), ""


def test_it_plays_a_clip_of_the_song_and_its_stems(settings: Settings, server: Server) -> None:
    place = server.songs.names.index("song 4.flac")
    whole = song(4).T
    start = clip_starts(whole.shape[1], CLIP, 3, 0)[1]
    assert start is not None
    parts = {}
    for part in ("mix", *STEMS):
        status, data, kind = fetch(f"{server.url}audio/{place}/{part}")
        assert (status, kind) == (200, "audio/wav")
        parts[part], rate = soundfile.read(io.BytesIO(data))
        assert rate == 44_100
    # twice rounded to 16 bits: in the FLAC and in the WAV
    np.testing.assert_allclose(parts["mix"].T, whole[:, start : start + CLIP], atol=2 / 32768)
    with_separator = server.player._embedder.separator.separate([torch.from_numpy(whole.copy())])[0]
    for stem, expected in zip(STEMS, with_separator[..., start : start + CLIP].numpy(), strict=True):
        np.testing.assert_allclose(parts[stem].T, np.clip(expected, -1, 1), atol=1e-3)
    status, data, _ = fetch(f"{server.url}audio/{place}/mix", Range="bytes=0-43")
    assert (status, len(data)) == (206, 44), "browsers seek by ranges"


@pytest.mark.parametrize(
    "path",
    [
        "audio/0/secret.txt",
        "audio/99/mix",
        "audio/-1/mix",
        "audio/0/..%2f..%2fsecret.txt",
        "audio/..%2fsecret.txt/mix",
        "../secret.txt",
        "secret.txt",
        "assets/secret.txt",
        "assets/..%2fsecret.txt",
        "song%200.flac",
        "_dash-component-suites/dash/..%2f..%2f..%2fsecret.txt",
        "_dash-component-suites/../secret.txt",
        "etc/passwd",
    ],
)
def test_nothing_else_can_be_read_through_it(server: Server, path: str) -> None:
    status, data, kind = fetch(server.url + path)
    # Unknown addresses give the page itself, as single-page applications do, or an error
    assert status >= 400 or (kind.startswith("text/html") and b"_dash-config" in data)
    assert b"not for the page" not in data
    assert b"root:" not in data
    assert not data.startswith((b"fLaC", b"RIFF"))


def test_it_listens_on_loopback_and_to_its_own_name_alone(settings: Settings, server: Server) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    assert server._server.server_address[0] == "127.0.0.1"
    assert fetch(server.url)[0] == 200
    assert fetch(server.url, Host="elsewhere.example")[0] == 400
    with pytest.raises(MixstyleError) as caught:
        Server(settings, port=server._server.server_port)
    assert (caught.value.code, f"--port {server._server.server_port}" in str(caught.value)) == ("in-use", True)


def test_neighbours_are_the_nearest_with_reasons(server: Server) -> None:
    songs = server.songs
    near = songs.nearest(2, 3)
    cosines = songs.embeddings @ songs.embeddings[2]
    assert [n.song for n in near] == [int(i) for i in np.argsort(-cosines) if i != 2][:3]
    assert all(len(n.alike) == len(n.apart) == 3 for n in near)
    ranks = [songs.percentile(song, 5) for song in range(SONGS)]
    assert sorted(ranks) == pytest.approx([100 * (i + 0.5) / SONGS for i in range(SONGS)])


def test_an_index_without_songs_is_told_of(settings: Settings, tmp_path: Path) -> None:
    nothing = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path))
    with pytest.raises(MixstyleError) as caught:
        Server(nothing, port=0)
    assert (caught.value.code, str(tmp_path) in str(caught.value)) == ("step-missing", True)


def test_two_songs_have_a_map(settings: Settings, tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 2)
    chosen = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, index_dir=tmp_path / "index"))
    songs = Songs(index(chosen, music))
    points, _ = songs.map
    assert points.shape == (2, 2)
    assert np.isfinite(points).all()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the machine")
def test_a_person_clicks_listens_and_compares(server: Server) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        page.wait_for_selector("#listen audio")
        page.wait_for_selector("#map .points path")
        assert page.locator("#listen h2").inner_text().startswith(server.songs.names[0])
        # the dots of the first trace are the songs, in their order
        page.locator("#map .scatterlayer .trace").first.locator("path.point").nth(3).click(force=True)
        page.wait_for_function(f"document.querySelector('#listen h2').innerText.startsWith('{server.songs.names[3]}')")
        nearest = server.songs.nearest(3)
        names = page.locator("#nearest button.name").all_inner_texts()
        assert names == [server.songs.names[n.song] for n in nearest]
        seconds = page.evaluate(
            "new Promise((done, failed) => { const audio = document.querySelector('#vocals-0');"
            "audio.oncanplaythrough = () => done(audio.duration); audio.onerror = () => failed(audio.error.message);"
            "audio.preload = 'auto'; audio.load() })"
        )
        assert seconds == pytest.approx(CLIP_S, abs=0.01)
        page.locator("#nearest button", has_text="beside").first.click()
        page.wait_for_function("document.querySelectorAll('#listen audio').length === 10")
        assert f"cosine {nearest[0].score:.3f}" in page.locator("#values h2").inner_text()
        value = f"{server.songs.descriptors[3, 0]:.1f} / {server.songs.descriptors[nearest[0].song, 0]:.1f}"
        assert value in page.locator("#descriptors").inner_text()
        page.locator("#listen button", has_text="close").click()
        page.wait_for_function("document.querySelectorAll('#listen audio').length === 5")
        page.locator("#nearest button.name").first.click()
        page.wait_for_function(f"document.querySelector('#listen h2').innerText.startsWith('{names[0]}')")
        browser.close()
    assert not errors
    assert all(url.startswith((server.url, "data:", "blob:")) for url in asked), "it should load nothing from elsewhere"


@pytest.mark.parametrize(
    ("host", "allowed", "refused"),
    [
        ("127.0.0.1", ["127.0.0.1:8050", "localhost", "[::1]:1"], ["10.0.0.5:8050", "evil.example", "", "127.0.0.1.x"]),
        ("::1", ["[::1]:8050", "localhost:8050"], ["[fe80::1]:8050", "evil.example"]),
        ("0.0.0.0", ["10.0.0.5:8050", "[fe80::1]:8050", "localhost", socket.gethostname()], ["evil.example:8050"]),
        ("::", ["10.0.0.5", f"{socket.gethostname()}:8050"], ["evil.example", "10.0.0.5.evil.example"]),
        ("studio.local", ["studio.local:8050", "STUDIO.local", "10.0.0.5:8050"], ["evil.example"]),
    ],
)
def test_hosts_that_may_be_asked_for(host: str, allowed: list[str], refused: list[str]) -> None:
    """Names of elsewhere are refused (a page there could have its name point here), addresses are not."""
    check = HostCheck(host)
    assert [asked for asked in (*allowed, *refused) if check.allows(asked)] == allowed


def test_other_machines_are_answered_where_all_addresses_are_listened_on(settings: Settings) -> None:
    with Server(settings, host="0.0.0.0", port=0) as everywhere:
        for asked, expected in (("192.0.2.7", 200), (socket.gethostname(), 200), ("evil.example", 400)):
            assert fetch(everywhere.url, Host=f"{asked}:{everywhere.port}")[0] == expected, asked


def test_an_address_of_version_6_is_one_that_browsers_take(settings: Settings) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no address of version 6")
    with Server(settings, host="::1", port=0) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        assert fetch(server.url)[0] == 200
