"""Facts that are tried, and what text and JSON make of them."""

from pathlib import Path

import pytest

from mixstyle.stages.doctor.findings import Failure, Section, as_json, as_text, public_text, section_of, tried


def test_what_fails_is_a_fact_of_one_line() -> None:
    found = tried(lambda: 1 // 0)
    assert isinstance(found, Failure)
    assert "ZeroDivisionError" in found.why
    assert "\n" not in tried(lambda: Path("a\nb").read_text()).why
    whole = section_of("disk", lambda: [][1])  # type: ignore[arg-type]
    assert whole.name == "disk"
    assert len(as_text(whole)) == 2


def test_the_home_folder_is_told_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "anna"
    monkeypatch.setenv("HOME", str(home))
    facts = {"file": home / "x", "words": [f"{home}/y"], "deep": {"why": Failure(f"{home}/z: gone")}}
    text, data = as_text(Section("s", facts)), as_json(facts)
    assert data == {"file": "~/x", "words": ["~/y"], "deep": {"why": {"error": "~/z: gone"}}}
    assert "anna" not in "\n".join(text)
    assert public_text(f"{home}bel/x") == f"{home}bel/x"
    assert public_text("/etc", Path("/")) == "/etc"


def test_units_are_taken_from_the_names() -> None:
    facts = {"free_bytes": 2_500_000_000, "small_bytes": 64_000_000, "write_mb_per_s": 12.4, "locks_work": False}
    facts |= {"tiny_bytes": 64_000, "round_trip_ms": 1.26}
    assert as_text(Section("disk", facts)) == [
        "disk",
        "  free: 2.5 GB",
        "  small: 64 MB",
        "  write: 12 MB/s",
        "  locks work: no",
        "  tiny: 64 kB",
        "  round trip: 1.3 ms",
    ]


def test_passwords_of_urls_are_told_nowhere() -> None:
    url = "https://anna:s3cret@host/stems?X-Amz-Signature=s3cret"
    section = Section("store", {url: {"round_trip_ms": 1.0}, "why": Failure(f"{url}: no answer")})
    for told in ("\n".join(as_text(section)), str(as_json(section.facts))):
        assert "s3cret" not in told
        assert told.count("@host/stems") == 2
