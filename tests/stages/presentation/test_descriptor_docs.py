"""docs/descriptors.md is the table of descriptors."""

from helpers.paths import ROOT

from mixstyle.stages.presentation.descriptor_docs import markdown


def test_the_document_is_the_table() -> None:
    path = ROOT / "docs" / "descriptors.md"
    assert path.read_text(encoding="utf-8") == markdown(), (
        "run: python -m mixstyle.stages.presentation.descriptor_docs > docs/descriptors.md"
    )
