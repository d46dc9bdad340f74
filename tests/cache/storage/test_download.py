"""Downloads from servers on loopback: whole, cut and gone on with, changed in between, refused, redirected."""

import datetime
import ipaddress
import json
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.file_server import Served, serve

from mixstyle.cache.storage import download as module
from mixstyle.cache.storage.download import download
from mixstyle.pipeline.core.errors import MixstyleError

DATA = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "WAIT_S", 0.001)
    monkeypatch.setattr(module, "TIMEOUT_S", 5.0)


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(DATA)) as served:
        yield served


def fetched(served: Served, path: Path, is_checked: bool = False) -> list[tuple[int, int | None]]:
    """What was told of the progress."""
    told: list[tuple[int, int | None]] = []
    download(served.url, path, lambda done, size: told.append((done, size)), is_checked=is_checked)
    return told


def test_all_of_it_comes_and_progress_is_told(server: Served, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model"
    told = fetched(server, path)
    assert path.read_bytes() == DATA
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    # whole, it is not asked for again
    assert fetched(server, path) == [(len(DATA), len(DATA))]
    assert len(server.asked) == 1


def test_a_cut_connection_is_gone_on_with(server: Served, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    told = fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA
    assert [one.get("Range") for one in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert [one.get("If-Range") for one in server.asked] == [None, '"one"', '"one"']
    assert (100_000, len(DATA)) in told


def given_up(served: Served, path: Path, is_checked: bool = False) -> None:
    """Cuts the connection until it is given up, with 120,000 bytes there."""
    served.cuts = [120_000] + [0] * module.TRIES
    with pytest.raises(MixstyleError) as caught:
        fetched(served, path, is_checked)
    assert caught.value.code == "remote"
    assert path.read_bytes() == served.data[:120_000]
    served.cuts, served.asked = [], []


def test_a_later_run_goes_on_from_there(server: Served, tmp_path: Path) -> None:
    given_up(server, tmp_path / "model")
    told = fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA
    assert told[0] == (120_000, len(DATA))
    assert [one.get("Range") for one in server.asked] == ["bytes=120000-"]


def test_what_has_changed_in_between_is_brought_anew(server: Served, tmp_path: Path) -> None:
    given_up(server, tmp_path / "model")
    server.data, server.tag = OTHER, '"two"'
    assert fetched(server, tmp_path / "model")[0] == (0, len(OTHER))
    assert (tmp_path / "model").read_bytes() == OTHER


def test_another_url_is_not_joined_to_it(server: Served, tmp_path: Path) -> None:
    given_up(server, tmp_path / "model")
    server.url += "?other"
    fetched(server, tmp_path / "model")
    assert "Range" not in server.asked[0]
    assert (tmp_path / "model").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_of_it(server: Served, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000]
    fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
@pytest.mark.parametrize("is_checked", [False, True])
def test_without_a_strong_tag_it_goes_on_only_where_the_hash_is_known(
    server: Served, tmp_path: Path, tag: str, is_checked: bool
) -> None:
    server.tag, server.cuts = tag, [100_000]
    fetched(server, tmp_path / "model", is_checked)
    assert (tmp_path / "model").read_bytes() == DATA
    assert [one.get("Range") for one in server.asked] == [None, "bytes=100000-" if is_checked else None]


def test_a_file_that_became_shorter_is_brought_anew(server: Served, tmp_path: Path) -> None:
    server.tag = ""
    given_up(server, tmp_path / "model", is_checked=True)
    server.data = OTHER[:50_000]
    fetched(server, tmp_path / "model", is_checked=True)
    assert (tmp_path / "model").read_bytes() == OTHER[:50_000]


def test_damaged_notes_are_no_notes(server: Served, tmp_path: Path) -> None:
    for damaged in ("{", "[]", json.dumps({"version": 9}), json.dumps({"version": 1, "url": server.url, "more": 1})):
        (tmp_path / "model").write_bytes(OTHER[:10])
        (tmp_path / "model.json").write_text(damaged)
        fetched(server, tmp_path / "model")
        assert (tmp_path / "model").read_bytes() == DATA


def test_a_slow_server_is_waited_for_and_a_dead_one_is_not(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks come every 20 ms, in all for longer than a read may take; then one read takes longer than that."""
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    server.data, server.block_s = DATA[: 40 * 4096], 0.02
    fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == server.data
    server.data, server.tag, server.block_s = DATA[: 2 * 4096], '"three"', 1.0
    monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(MixstyleError) as caught:
        download(server.url, tmp_path / "other", lambda *_: None)
    assert caught.value.code == "remote"


def test_errors_that_pass_are_tried_again_and_others_are_told(server: Served, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA
    for status, code, requests in ((404, "not-found", 1), (403, "remote", 1), (500, "remote", module.TRIES)):
        server.asked, server.statuses = [], [status] * module.TRIES
        with pytest.raises(MixstyleError) as caught:
            fetched(server, tmp_path / "other")
        assert (caught.value.code, str(status) in str(caught.value)) == (code, True)
        assert len(server.asked) == requests
        assert not (tmp_path / "other").exists()


def test_redirects_are_followed_with_the_range(server: Served, tmp_path: Path) -> None:
    place = server.url.removeprefix("http:/").partition("/")[2].partition("/")[2]
    server.redirects = {f"/{place}": "/elsewhere"}
    server.cuts = [100_000]
    fetched(server, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == DATA
    assert [(one["path"], one.get("Range")) for one in server.asked] == [
        (f"/{place}", None),
        ("/elsewhere", None),
        (f"/{place}", "bytes=100000-"),
        ("/elsewhere", "bytes=100000-"),
    ]
    for away in ("ftp://127.0.0.1/model", "file:///etc/hostname", server.url):
        server.redirects = {f"/{place}": away}
        with pytest.raises(MixstyleError) as caught:
            fetched(server, tmp_path / "other")
        assert caught.value.code == "remote"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "model.ckpt", "ftp://host/x.ckpt", "https://", "http://h:x/"])
def test_what_is_no_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        download(url, tmp_path / "model", lambda *_: None)
    assert caught.value.code == "bad-option"


def test_nobody_there(tmp_path: Path) -> None:
    with serve(Served(DATA)) as served:
        pass
    with pytest.raises(MixstyleError) as caught:
        fetched(served, tmp_path / "model")
    assert caught.value.code == "remote"


def test_a_folder_that_cannot_be_written(server: Served, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MixstyleError) as caught:
        fetched(server, tmp_path / "file" / "model")
    assert caught.value.code == "cannot-write"


def test_there_must_be_room_for_it(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Usage", (), {"free": len(DATA) - 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(MixstyleError) as caught:
        fetched(server, tmp_path / "model")
    assert caught.value.code == "cannot-write"


def test_certificates_are_checked_and_https_leads_to_https_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate := self_signed(tmp_path))
    with serve(Served(DATA), context=context) as served, serve(Served(OTHER)) as plain:
        with pytest.raises(MixstyleError) as caught:
            fetched(served, tmp_path / "model")
        assert caught.value.code == "remote"
        assert served.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetched(served, tmp_path / "model")
        assert (tmp_path / "model").read_bytes() == DATA
        served.redirects = {"/a%20folder/model.safetensors": plain.url}
        with pytest.raises(MixstyleError) as caught:
            fetched(served, tmp_path / "other")
        assert caught.value.code == "remote"
        assert plain.asked == []


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
