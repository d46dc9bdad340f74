"""What is sent to the page's server: your own songs and matches, and what may not be sent."""

import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.page_client import PageClient
from helpers.small_separator import RATE, song

from mixstyle.cache.match_chain import read_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, columns
from mixstyle.stages.common.progress import Told, tell
from mixstyle.stages.presentation.audible_differences import heard_differences
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse import jobs as jobs_module
from mixstyle.stages.songs.browse import matching, words
from mixstyle.stages.songs.browse.jobs import MOST_WAITING, Job, Jobs, StoppedError
from mixstyle.stages.songs.browse.server import Server

pytestmark = pytest.mark.usefixtures("one_thread")


def flac(seed: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, song(seed), RATE, format="FLAC")
    return data.getvalue()


def kept(page_server: Server) -> set[str]:
    """Names of the files in the server's folder."""
    return {path.name for path in page_server.folder.iterdir()}


def test_a_dropped_song_is_embedded_as_the_index_embeds_and_is_forgotten(page_server: Server) -> None:
    page, before = PageClient(page_server), kept(page_server)
    job = page.finished(page.send("/api/dropped?name=C:\\tmp\\my+song.flac", flac(4)))
    assert job["state"] == "done", job
    key = job["result"]["key"]
    found = page.json(f"/api/songs/{key}")
    assert found["name"] == "my song.flac"
    twin = page_server.songs.names.index("song 4.flac")
    # the index keeps 32-bit numbers; equal audio and settings give equal ones
    assert found["near"][0]["song"] == twin
    np.testing.assert_array_equal(page_server.library.track(key).embedding, page_server.songs.embeddings[twin])
    np.testing.assert_array_equal(page_server.library.track(key).values, page_server.songs.descriptors[twin])
    own, theirs = page.json(f"/api/songs/{key}/audio"), page.json(f"/api/songs/{twin}/audio")
    assert own["heard"] == theirs["heard"]
    assert own["waveform"] == theirs["waveform"]
    assert page.get(f"/api/songs/{key}/stems/0").status_code == 200
    assert kept(page_server) > before
    assert page.delete(f"/api/songs/{key}").status_code == 200
    assert page.get(f"/api/songs/{key}").status_code == page.get(f"/audio/{key}/mix").status_code == 404
    assert kept(page_server) - {str(twin)} == before - {str(twin)}


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
    page_server: Server, name: str, size: int | None, status: int
) -> None:
    before = kept(page_server)
    length = {"HTTP_TRANSFER_ENCODING": "chunked"} if size is None else {"CONTENT_LENGTH": str(size)}
    environ = {**length, "wsgi.input": _Unread()}
    page = PageClient(page_server)
    answer = page._client.post(
        f"/api/dropped?name={name}",
        base_url=page.base,
        content_type="application/octet-stream",
        environ_overrides=environ,
    )
    assert answer.status_code == status
    assert answer.headers["Connection"] == "close", "what was not read is not taken for the next request"
    assert kept(page_server) == before


class _Unread(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise AssertionError("it was read")


@pytest.mark.parametrize("data", [b"-", b"RIFF and no music", bytes(2000)])
def test_what_is_no_music_is_told_and_removed(page_server: Server, data: bytes) -> None:
    page, before = PageClient(page_server), kept(page_server)
    job = page.finished(page.send("/api/dropped?name=mine.wav", data))
    assert job["state"] == "failed"
    assert job["error"].startswith("mine.wav: ")
    assert str(page_server.folder) not in job["error"]
    assert kept(page_server) == before


def test_a_song_that_breaks_off_on_its_way_is_not_kept(page_server: Server) -> None:
    page, before = PageClient(page_server), kept(page_server)
    answer = page._client.post(
        "/api/dropped?name=mine.wav",
        base_url=page.base,
        content_type="application/octet-stream",
        data=bytes(100),
        environ_overrides={"CONTENT_LENGTH": "200"},
    )
    assert answer.status_code == 400
    assert kept(page_server) == before


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
def test_other_pages_can_send_nothing(page_server: Server, kind: str, headers: dict[str, str]) -> None:
    page = PageClient(page_server)
    assert page.send("/api/dropped?name=mine.wav", b"x", kind, **headers).status_code == 403
    assert page.send("/api/matches", b"{}", kind, **headers).status_code == 403
    if headers:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        assert page.delete("/api/songs/dropped-1", **told).status_code == 403
    assert page.get("/api/dropped?name=mine.wav").status_code == 405


def test_a_server_for_other_machines_takes_songs_only_where_it_is_told_to(page_settings: Settings) -> None:
    for take, status in ((False, 403), (True, 415)):
        with Server(page_settings, "0.0.0.0", 0, take_songs=take) as server:
            page = PageClient(server, "192.0.2.7")
            assert page.send("/api/dropped?name=mine.txt", b"x").status_code == status
            assert bool(page.json("/api/about")["why_not"]) == (not take)


@pytest.mark.slow
def test_a_match_is_what_the_python_api_makes(
    page_server: Server, page_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PageClient(page_server)
    asked = {"song": "0", "references": ["3", "1"], "amount": 0.5, "keep": ["drums"]}
    job = page.finished(page.send("/api/matches", json.dumps(asked).encode(), "application/json"))
    assert job["state"] == "done", job
    key = job["result"]["key"]
    music = page_settings.separate.data_path
    references = [music / "song 3.flac", music / "song 1.flac"]
    matched = page_server._embedder.match(music / "song 0.flac", references, amount=0.5, keep=["drums"])
    matched.write(tmp_path / "matched.wav", stems=tmp_path / "stems")
    answer = page.get(f"/matches/{key}/matched.wav")
    assert answer.data == (tmp_path / "matched.wav").read_bytes()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="song 0 matched.wav"'
    (tmp_path / "chain.json").write_bytes(page.get(f"/matches/{key}/chain.json").data)
    chain = read_chain(tmp_path / "chain.json")
    assert (chain.strips, chain.level_db) == (matched.chain.strips, matched.chain.level_db)
    assert (chain.made["song"], chain.made["references"]) == ("song 0.flac", ["song 3.flac", "song 1.flac"])
    assert page.json(f"/api/songs/{key}")["embedded"] is False
    assert page.json(f"/api/matches/{key}") == job["result"], "a page that is loaded again shows it"
    for stem in (*STEMS, "rest"):
        assert page.get(f"/matches/{key}/{stem}.wav").data == (tmp_path / "stems" / f"{stem}.wav").read_bytes()
    before = page.json("/api/songs/0/audio")
    after = page.json(f"/api/songs/{key}/audio")
    assert after["heard"] == before["heard"], "its stems are compared with the song's where those are"
    told = page.json(f"/api/songs/{key}/stems/1")
    assert (told["start"], told["frames"], told["bytes"]) == (0, after["frames"], 3)
    data = page.get(told["urls"]["bass"]).data[told["header"] :]
    whole, _ = soundfile.read(tmp_path / "stems" / "bass.wav", dtype="int32")
    low, middle, high = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32).T
    read = low | middle << 8 | ((high + 128) % 256 - 128) << 16
    np.testing.assert_array_equal(read, (np.asarray(whole, np.int32) >> 8).ravel())
    monkeypatch.setattr(matching, "KEPT_STEM_BYTES", 1)  # the stems of old matches go first
    asked = {"song": "0", "references": ["0"], "keep": [*STEMS]}
    later = page.finished(page.send("/api/matches", json.dumps(asked).encode(), "application/json"))["result"]["key"]
    assert [page.get(f"/matches/{one}/bass.wav").status_code for one in (key, later)] == [410, 200]
    assert [page.get(f"/api/songs/{one}/stems/0").status_code for one in (key, later)] == [410, 200]
    assert page.get(f"/matches/{key}/matched.wav").status_code == 200
    for one in (key, later):
        page.delete(f"/api/songs/{one}")
    assert page.get(f"/matches/{key}/chain.json").status_code == 404
    assert page.get(f"/api/matches/{key}").status_code == 404
    assert not [name for name in kept(page_server) if name.startswith("match")]


@pytest.mark.parametrize(
    "asked",
    [
        {"song": "0", "references": ["3"], "amount": 2},
        {"song": "0", "references": ["3"], "amount": "much"},
        {"song": "0", "references": ["3"], "amount": 10**400},  # more than a float holds
        {"song": "0", "references": ["3"], "amount": float("nan")},
        {"song": "0", "references": ["3"], "keep": ["guitar"]},
        {"song": "0", "references": ["3"], "keep": "drums"},
        {"song": "0", "references": ["3"], "search": "yes"},
        {"song": "0"},
        {"song": "0", "references": []},
        {"song": "0", "references": ["1"] * 9},
        {"song": "0", "references": ["3", "../3"]},
        [],
    ],
)
def test_a_match_of_nothing_is_refused(page_server: Server, asked: object) -> None:
    answer = PageClient(page_server).send("/api/matches", json.dumps(asked).encode(), "application/json")
    assert answer.status_code in (400, 404)
    assert PageClient(page_server).send("/api/matches", b"{", "application/json").status_code == 400


def test_a_match_is_stopped_and_leaves_nothing(page_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the whole song is changed: the last of the long steps."""
    page, before = PageClient(page_server), kept(page_server)
    reached, gate = threading.Event(), threading.Event()
    watch = Job.watch

    def held(job: Job, told: Told) -> None:
        if told.what == "match":
            reached.set()
            assert gate.wait(60)
        watch(job, told)

    monkeypatch.setattr(Job, "watch", held)
    body = json.dumps({"song": "0", "references": ["3"]}).encode()
    job = page.send("/api/matches", body, "application/json").json
    assert job is not None
    waits = page.send("/api/dropped?name=mine.flac", flac(7)).json
    assert waits is not None
    assert reached.wait(60)
    assert page.delete(f"/api/jobs/{job['id']}", Origin="http://evil.example").status_code == 403
    stopped = page.delete(f"/api/jobs/{waits['id']}").json
    assert stopped is not None
    assert stopped["state"] == "stopped"
    assert page.delete(f"/api/jobs/{job['id']}").status_code == 200
    gate.set()
    while (now := page.json(f"/api/jobs/{job['id']}"))["state"] == "running":
        pass
    assert now["state"] == "stopped"
    assert kept(page_server) - {"0", "3"} == before - {"0", "3"}


def test_what_was_sent_is_removed_with_the_server(page_settings: Settings) -> None:
    with Server(page_settings, port=0) as server:
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


def test_a_job_tells_how_far_it_is_and_ends_where_no_page_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    seen = list[dict[str, Any]]()

    def work(job: Job) -> dict[str, Any]:
        tell("clips", 0.5)
        clock[0] += 10
        tell("something else", 0.9)
        seen.append(job.as_json())
        tell("match", 0.0)
        clock[0] += 30
        job.watch(Told("match", 0.25, 4.04, "s"))
        seen.append(job.as_json())
        clock[0] += jobs_module.ABANDONED_S - 41
        tell("match", 0.5)
        clock[0] += 2
        tell("match", 0.6)
        raise AssertionError("it went on")

    job = Job("a match", work, {"clips": "clips are read", "match": "the song is changed"})
    with pytest.raises(StoppedError):
        job.run()
    wanted = ("phase", "step", "steps", "done", "left_s", "rate")
    assert [[one[name] for name in wanted] for one in seen] == [
        ["clips are read", 1, 2, 0.5, 10, None],
        ["the song is changed", 2, 2, 0.25, 90, 4.0],
    ]


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
