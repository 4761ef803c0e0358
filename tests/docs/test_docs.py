"""What README.md and docs/ say is so: their blocks run, their links lead somewhere."""

import re

import pytest
from pages import PAGES, ROOT, RUN, blocks, fit, form, read

MOST_SKIPPED = 8
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
names = [str(path.relative_to(ROOT)) for path in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=names)


def prose(page):
    """Return a page without its code."""
    return _FENCED.sub("", page.read_text())


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page))]
    return {heading.replace(" ", "-") for heading in kept}


@every_page
def test_links_lead_somewhere(page):
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "index.md"
    listed = set(_LINK.findall(index.read_text()))
    assert listed >= {p.name for p in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@every_page
def test_blocks_are_well_formed(page):
    for block in blocks(page):
        assert block.language in RUN, f"{block.place}: no test runs {block.language or 'this'}"
        assert bool(block.reason) == (block.mark == "skip"), f"{block.place}: skip says why"


def test_few_blocks_are_skipped(record_property):
    skipped = [f"{b.place}: {b.reason}" for page in PAGES for b in blocks(page) if b.mark == "skip"]
    record_property("skipped", skipped)
    assert len(skipped) <= MOST_SKIPPED, "\n".join(skipped)


def test_figures_come_from_one_run_of_the_benchmark():
    tables = pytest.importorskip("benchmarks.tables")
    results = tables.Results()
    assert results.missing() == []
    for page in tables.PAGES:
        content = page.read_text()
        assert content == tables.filled(content, results), f"{page}: python -m benchmarks.tables"
    written = (ROOT / "benchmarks" / "results.md").read_text()
    assert written == tables.markdown(results.whole), "results.md: python -m benchmarks.tables"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_page
def test_blocks_run_and_print_what_is_shown(page):
    read(page)


def test_form_hides_numbers_and_keeps_words():
    assert form(" *8  1.60e-01  0.5") == form("9  1.6e-01   0.703")
    assert form("run  a8cd1487d4d24dde981d0be322e5cbb6") == form("run 0123456789abcdef" + "0" * 16)
    assert form("val/accuracy 0.7") != form("val/recall 0.7")


def test_fit_finds_the_lines_that_are_shown():
    printed = ["a 1", "b 2", "c 3", "d 4"]
    assert fit(["a 9", "...", "d 0"], printed) == ["a 1", "...", "d 4"]
    assert fit(["b 1", "c..."], printed) == ["b 2", "c..."]
    assert fit(["...", "b 7", "c 7", "...", "b 7"], [*printed, "b 5"])[-1] == "b 5"
    for wrong in (["a 1", "c 3"], ["...", "e 1"], ["b 2", "...", "a 1"]):
        with pytest.raises(AssertionError, match="shown, but not printed"):
            fit(wrong, printed)
