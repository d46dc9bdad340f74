"""What is sent to the page's server: songs of one's own and matches, and what may not be sent."""

import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.page_client import PageClient
from helpers.small_separator import RATE, song

from mixstyle.cache.match_chain import read_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, columns
from mixstyle.stages.presentation.heard import heard_differences
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse import words
from mixstyle.stages.songs.browse.jobs import MOST_WAITING, Job, Jobs
from mixstyle.stages.songs.browse.server import Server

pytestmark = pytest.mark.usefixtures("one_thread")


def flac(seed: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, song(seed), RATE, format="FLAC")
    return data.getvalue()


def kept(server: Server) -> set[str]:
    """Names of the files in the server's folder."""
    return {path.name for path in server.folder.iterdir()}


def test_a_dropped_song_is_embedded_as_the_index_embeds_and_is_forgotten(server: Server) -> None:
    page, before = PageClient(server), kept(server)
    job = page.finished(page.send("/api/dropped?name=C:\\tmp\\my+song.flac", flac(4)))
    assert job["state"] == "done", job
    key = job["result"]["key"]
    found = page.json(f"/api/songs/{key}")
    assert found["name"] == "my song.flac"
    twin = server.songs.names.index("song 4.flac")
    # the index keeps 32-bit numbers; equal audio and settings give equal ones
    assert found["near"][0]["song"] == twin
    np.testing.assert_array_equal(server.library.track(key).embedding, server.songs.embeddings[twin])
    np.testing.assert_array_equal(server.library.track(key).values, server.songs.descriptors[twin])
    own, theirs = page.json(f"/api/songs/{key}/audio"), page.json(f"/api/songs/{twin}/audio")
    assert own["heard"] == theirs["heard"]
    assert own["waveform"] == theirs["waveform"]
    assert page.get(f"/api/songs/{key}/stems/0").status_code == 200
    assert kept(server) > before
    assert page.delete(f"/api/songs/{key}").status_code == 200
    assert page.get(f"/api/songs/{key}").status_code == page.get(f"/audio/{key}/mix").status_code == 404
    assert kept(server) - {str(twin)} == before - {str(twin)}


@pytest.mark.parametrize(
    ("name", "size", "status"),
    [
        ("song.txt", 10, 415),
        ("song", 10, 415),
        ("", 10, 415),
        ("..", 10, 415),
        ("song.wav", 300_000_000, 413),
        ("song.wav", None, 411),
    ],
)
def test_types_and_sizes_are_looked_at_before_anything_is_read(
    server: Server, name: str, size: int | None, status: int
) -> None:
    before = kept(server)
    length = {"HTTP_TRANSFER_ENCODING": "chunked"} if size is None else {"CONTENT_LENGTH": str(size)}
    environ = {**length, "wsgi.input": _Unread()}
    page = PageClient(server)
    answer = page._client.post(
        f"/api/dropped?name={name}",
        base_url=page.base,
        content_type="application/octet-stream",
        environ_overrides=environ,
    )
    assert answer.status_code == status
    assert answer.headers["Connection"] == "close", "what was not read is not taken for the next request"
    assert kept(server) == before


class _Unread(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise AssertionError("it was read")


@pytest.mark.parametrize("data", [b"-", b"RIFF and no music", bytes(2000)])
def test_what_is_no_music_is_told_and_removed(server: Server, data: bytes) -> None:
    page, before = PageClient(server), kept(server)
    job = page.finished(page.send("/api/dropped?name=mine.wav", data))
    assert job["state"] == "failed"
    assert job["error"].startswith("mine.wav: ")
    assert str(server.folder) not in job["error"]
    assert kept(server) == before


def test_a_song_that_breaks_off_on_its_way_is_not_kept(server: Server) -> None:
    page, before = PageClient(server), kept(server)
    answer = page._client.post(
        "/api/dropped?name=mine.wav",
        base_url=page.base,
        content_type="application/octet-stream",
        data=bytes(100),
        environ_overrides={"CONTENT_LENGTH": "200"},
    )
    assert answer.status_code == 400
    assert kept(server) == before


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("application/octet-stream", {"Origin": "http://evil.example"}),
        ("application/octet-stream", {"Origin": "null"}),
        ("application/octet-stream", {"Origin": "http://127.0.0.1:1"}),
        ("application/octet-stream", {"Sec_Fetch_Site": "cross-site"}),
        ("application/octet-stream", {"Sec_Fetch_Site": "same-site"}),
        ("text/plain", {}),
        ("multipart/form-data", {}),
        ("application/x-www-form-urlencoded", {}),
    ],
)
def test_other_pages_can_send_nothing(server: Server, kind: str, headers: dict[str, str]) -> None:
    page = PageClient(server)
    assert page.send("/api/dropped?name=mine.wav", b"x", kind, **headers).status_code == 403
    assert page.send("/api/matches", b"{}", kind, **headers).status_code == 403
    if headers:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        assert page.delete("/api/songs/dropped-1", **told).status_code == 403
    assert page.get("/api/dropped?name=mine.wav").status_code == 405


def test_a_server_for_other_machines_takes_songs_only_where_it_is_told_to(settings: Settings) -> None:
    for take, status in ((False, 403), (True, 415)):
        with Server(settings, "0.0.0.0", 0, take_songs=take) as server:
            page = PageClient(server, "192.0.2.7")
            assert page.send("/api/dropped?name=mine.txt", b"x").status_code == status
            assert bool(page.json("/api/about")["why_not"]) == (not take)


def test_a_match_is_what_the_python_api_makes(server: Server, settings: Settings, tmp_path: Path) -> None:
    page = PageClient(server)
    asked = {"song": "0", "reference": "3", "amount": 0.5, "keep": ["drums"]}
    job = page.finished(page.send("/api/matches", json.dumps(asked).encode(), "application/json"))
    assert job["state"] == "done", job
    key = job["result"]["key"]
    music = settings.separate.data_path
    plan = server._embedder.match(music / "song 0.flac", music / "song 3.flac", amount=0.5, keep=["drums"])
    plan.write(tmp_path / "matched.wav")
    answer = page.get(f"/matches/{key}/matched.wav")
    assert answer.data == (tmp_path / "matched.wav").read_bytes()
    assert "attachment" in answer.headers["Content-Disposition"]
    (tmp_path / "chain.json").write_bytes(page.get(f"/matches/{key}/chain.json").data)
    chain = read_chain(tmp_path / "chain.json")
    assert (chain.strips, chain.level_db) == (plan.chain.strips, plan.chain.level_db)
    assert chain.made["song"] == "song 0.flac"
    assert page.json(f"/api/songs/{key}/audio")["heard"] == []
    assert page.json(f"/api/songs/{key}")["embedded"] is False
    page.delete(f"/api/songs/{key}")
    assert page.get(f"/matches/{key}/chain.json").status_code == 404


@pytest.mark.parametrize(
    "asked",
    [
        {"song": "0", "reference": "3", "amount": 2},
        {"song": "0", "reference": "3", "amount": "much"},
        {"song": "0", "reference": "3", "keep": ["guitar"]},
        {"song": "0", "reference": "3", "keep": "drums"},
        {"song": "0"},
        {"song": "0", "reference": "../3"},
        [],
    ],
)
def test_a_match_of_nothing_is_refused(server: Server, asked: object) -> None:
    answer = PageClient(server).send("/api/matches", json.dumps(asked).encode(), "application/json")
    assert answer.status_code in (400, 404)
    assert PageClient(server).send("/api/matches", b"{", "application/json").status_code == 400


def test_what_was_sent_is_removed_with_the_server(settings: Settings) -> None:
    with Server(settings, port=0) as server:
        page = PageClient(server)
        page.finished(page.send("/api/dropped?name=mine.flac", flac(7)))
        assert any(path.suffix == ".flac" for path in server.folder.iterdir())
    assert not server.folder.exists()


def test_jobs_run_one_after_the_other() -> None:
    jobs, gate, seen = Jobs(threading.Lock()), threading.Event(), list[str]()

    def work(name: str, gated: bool = False) -> Job:
        def run(job: Job) -> dict[str, str]:
            if gated:
                gate.wait(10)
            seen.append(name)
            if name == "bad":
                raise MixstyleError("it is bad", code="no-music")
            return {"name": name}

        return jobs.start(name, run)

    first = work("first", gated=True)
    while first.waits:
        pass
    others = [work(name) for name in ("bad", "third", "fourth", "fifth")]
    assert len(others) == MOST_WAITING
    with pytest.raises(MixstyleError) as caught:
        work("sixth")
    assert caught.value.code == "in-use"
    assert [job.as_json()["state"] for job in (first, others[0])] == ["running", "waiting"]
    gate.set()
    assert others[-1].future.result(10) == {"name": "fifth"}
    assert seen == ["first", "bad", "third", "fourth", "fifth"]
    assert (others[0].as_json()["state"], others[0].as_json()["error"]) == ("failed", "it is bad")
    jobs.close()


def test_one_stem_that_is_far_off_is_the_exception() -> None:
    own = np.zeros(len(DESCRIPTORS), np.float32)

    def told(closer_than: float = 1.0, **levels_lu: float) -> str:
        other = own.copy()
        for stem, level_lu in levels_lu.items():
            other[columns(stem=stem, kind="relative_loudness_lu")] = level_lu
        return words.exception(heard_differences(own, other), closer_than)

    assert told() == ""
    for stem in STEMS:
        assert stem in told(**{stem: -12.0})
        assert told(**{stem: -2.0}) == "", "one step is a detail"
    assert told(vocals=-12.0, drums=-12.0) == "", "two are far off: neither is the exception"
    assert "drums" in told(vocals=-3.0, drums=-12.0)
    assert "bass" in told(bass=-40.0), "it has none"
    assert told(0.4, bass=-12.0) == "", "songs that are far apart are not alike"
