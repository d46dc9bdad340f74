"""The server of `browse`: what it gives, and requests that try to get more than it should give."""

import dataclasses
import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.page_client import PageClient
from helpers.small_separator import CLIP, song, write_songs

from mixstyle.cache.music.clip_positions import clip_starts
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.presentation.html import page as document
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.guard import HostCheck
from mixstyle.stages.songs.browse.listening import waveform_of
from mixstyle.stages.songs.browse.server import Server
from mixstyle.stages.songs.browse.songs import Songs
from mixstyle.stages.songs.index.stage import index

pytestmark = pytest.mark.usefixtures("one_thread")


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def samples(data: bytes) -> np.ndarray:
    """[2, T] of a WAV file at 44.1 kHz."""
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 44_100
    return audio.T


def test_it_plays_the_song_and_the_stems_of_the_seconds_that_are_embedded(page_server: Server) -> None:
    page, place = PageClient(page_server), page_server.songs.names.index("song 4.flac")
    whole = song(4).T
    opened = page.json(f"/api/songs/{place}/audio")
    starts = [start for start in clip_starts(whole.shape[1], CLIP, 3, 0) if start is not None]
    assert opened["heard"] == [[start, start + CLIP] for start in starts]
    assert opened["frames"] == whole.shape[1]
    answer = page.get(opened["url"])
    assert (answer.status_code, answer.content_type) == (200, "audio/wav")
    # rounded to 16 bits in the FLAC file, and not again
    np.testing.assert_allclose(samples(answer.data), whole, atol=0.51 / 32768)
    assert max(opened["waveform"]) == round(100 * float(np.abs(whole).max()))
    stems = page.json(f"/api/songs/{place}/stems/1")
    assert (stems["start"], stems["frames"]) == (starts[1], CLIP)
    separated = page_server._embedder.separator.separate([torch.from_numpy(whole.copy())])[0]
    for stem, expected in zip(STEMS, separated[..., starts[1] : starts[1] + CLIP].numpy(), strict=True):
        own = samples(page.get(stems["urls"][stem]).data)
        # the song and then its stems are rounded to 16 bits, half a step each; 1e-5 for sums in another order
        np.testing.assert_allclose(own, np.clip(expected, -1, 1), atol=1.01 / 32_768 + 1e-5)


def test_a_player_reads_pieces(page_server: Server) -> None:
    page = PageClient(page_server)
    url = page.json("/api/songs/2/audio")["url"]
    whole = page.get(url).data
    piece = page.get(url, Range="bytes=1044-2043")
    assert (piece.status_code, piece.data) == (206, whole[1044:2044])
    assert page.get(url, Range="bytes=99999999-").status_code == 416
    assert len(whole) == 44 + 4 * page.json("/api/songs/2/audio")["frames"], "the player counts on a header of 44 bytes"


@pytest.mark.parametrize(
    "path",
    [
        "audio/0/secret.txt",
        "audio/0/0/vocals/../../../secret.txt",
        "audio/99/mix",
        "audio/-1/mix",
        "audio/\u0663/mix",
        "audio/0/..%2f..%2fsecret.txt",
        "audio/..%2fsecret.txt/mix",
        "api/songs/..%2fsecret/audio",
        "api/songs/0/stems/3",
        "api/songs/0/stems/-1",
        "../secret.txt",
        "secret.txt",
        "assets/secret.txt",
        "assets/..%2fapp.py",
        "assets/../app.py",
        "assets//etc/passwd",
        "pages/..%2f..%2fetc%2fpasswd",
        "matches/0/matched.wav",
        "matches/dropped-1/chain.json",
        "song%200.flac",
        "etc/passwd",
    ],
)
def test_nothing_else_can_be_read_through_it(page_server: Server, path: str) -> None:
    answer = PageClient(page_server).get("/" + path)
    assert answer.status_code in (400, 404, 405)
    assert answer.json is not None
    assert list(answer.json) == ["error"]


def test_it_listens_on_loopback_and_to_its_own_name_alone(page_settings: Settings, page_server: Server) -> None:
    assert page_server.url.startswith("http://127.0.0.1:")
    assert page_server._server.server_address[0] == "127.0.0.1"
    assert fetch(page_server.url)[0] == 200
    assert fetch(page_server.url, Host="elsewhere.example")[0] == 400
    with pytest.raises(MixstyleError) as caught:
        Server(page_settings, port=page_server.port)
    assert (caught.value.code, f"--port {page_server.port}" in str(caught.value)) == ("in-use", True)


def test_every_answer_keeps_other_pages_out(page_server: Server) -> None:
    page = PageClient(page_server)
    for path in ("/", "/assets/main.js", "/api/songs", "/audio/0/mix", "/nothing"):
        headers = page.get(path).headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        assert "default-src 'self'" in headers["Content-Security-Policy"], path
        assert "Access-Control-Allow-Origin" not in headers, path
    etag = page.get("/api/songs").headers["ETag"]
    assert page.get("/api/songs", **{"If-None-Match": etag}).status_code == 304


def test_neighbours_are_the_nearest_with_reasons(page_server: Server) -> None:
    songs, page = page_server.songs, PageClient(page_server)
    near = page.json("/api/songs/2")["near"]
    cosines = songs.embeddings @ songs.embeddings[2]
    assert [one["song"] for one in near] == [int(i) for i in np.argsort(-cosines) if i != 2]
    assert all(len(one["alike"]) == 3 and one["heard"] for one in near)
    own = sorted(songs.percentile(values, 5) for values in songs.descriptors)
    assert own == pytest.approx([100 * (i + 0.5) / len(own) for i in range(len(own))])
    pair = page.json("/api/songs/2/beside/0")
    assert pair["cosine"] == pytest.approx(float(cosines[0]), abs=5.01e-4)  # three decimals


def test_a_song_that_is_gone_is_told_of_and_a_report_is_linked(page_settings: Settings, tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 2)
    chosen = dataclasses.replace(
        page_settings, embed=dataclasses.replace(page_settings.embed, index_dir=tmp_path / "index")
    )
    songs = Songs(index(chosen, music), music)
    points, _ = songs.map
    assert points.shape == (2, 2)
    assert np.isfinite(points).all()
    report = dataclasses.replace(chosen.report, report_dir=tmp_path / "report")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text(
        document("A report", "", [], [("evaluation", "../evaluation.html")])
    )
    with Server(dataclasses.replace(chosen, report=report), port=0) as server:
        page = PageClient(server)
        assert list(page.json("/api/about")["pages"]) == ["report"]
        text = page.get("/pages/report").text
        assert "A report" in text
        assert re.findall('href="([^"]*)"', text) == ["#", "/"], "links lead to what is served here"
        assert page.get("/pages/evaluation").status_code == 404
        (music / "song 1.flac").unlink()
        assert page.get("/api/songs/1/audio").status_code == 410
        (music / "song 0.flac").write_bytes(b"fLaC and no more")
        assert page.get("/api/songs/0/audio").status_code == 410
        assert page.get("/api/songs/0").status_code == 200, "what the index knows of it stays"


def test_an_index_without_songs_is_told_of(page_settings: Settings, tmp_path: Path) -> None:
    nothing = dataclasses.replace(page_settings, embed=dataclasses.replace(page_settings.embed, index_dir=tmp_path))
    with pytest.raises(MixstyleError) as caught:
        Server(nothing, port=0)
    assert (caught.value.code, str(tmp_path) in str(caught.value)) == ("step-missing", True)


def test_a_waveform_keeps_every_peak() -> None:
    peaks = np.zeros(5_003, np.float32)
    peaks[[0, 2_500, 5_002]] = 0.5, 1.0, 0.75
    found = waveform_of(peaks, most=100)
    assert len(found) <= 100
    assert found[found > 0].tolist() == [0.5, 1.0, 0.75]


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


def test_other_machines_are_answered_where_all_addresses_are_listened_on(page_settings: Settings) -> None:
    with Server(page_settings, host="0.0.0.0", port=0) as everywhere:
        for asked, expected in (("192.0.2.7", 200), (socket.gethostname(), 200), ("evil.example", 400)):
            assert fetch(everywhere.url, Host=f"{asked}:{everywhere.port}")[0] == expected, asked


def test_an_address_of_version_6_is_one_that_browsers_take(page_settings: Settings) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no address of version 6")
    with Server(page_settings, host="::1", port=0) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        assert fetch(server.url)[0] == 200


@pytest.mark.slow
def test_it_ends_on_sigterm_where_a_script_has_it_ignore_sigint(page_settings: Settings, tmp_path: Path) -> None:
    """Background jobs of a script ignore SIGINT, and so do the processes that they start."""
    folder = page_settings.embed.index_dir.parent
    options = ["--config", str(folder / "profile.yaml"), "--index", str(page_settings.embed.index_dir)]
    options += ["--encoder", str(page_settings.embed.encoder), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "mixstyle.stages", "browse", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("http://" in line for line in lines)
    assert list(tmp_path.glob("mixstyle-browse-*"))
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert not list(tmp_path.glob("mixstyle-browse-*"))
