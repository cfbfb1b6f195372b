import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from recsys.records import Action, Refusal
from retune import report
from retune.report import plots
from retune.report.svg import DARK, INK

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & {{ 7 * 7 }}'
FORMULA = "$\\frac{1}{2}$"


class Reader(HTMLParser):
    """Collects elements and texts, and fails on an element that is not closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(line, store) -> str:
    story = report.tell(line, store)
    return report.render(story, report.summary(story) | {"seconds": 412.3, "tracebacks": 0})


@pytest.fixture(scope="module")
def page(line, months):
    return render(line, months.store)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_the_page_is_small(page):
    assert 50_000 < len(page.encode()) < 1_000_000


def test_the_page_loads_nothing(page, read):
    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "image"})
    for tag, attributes in read.elements:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert "@import" not in page
    assert "://" not in page
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", page))


def test_every_reference_within_the_page_finds_its_one_target(page, read):
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    wanted = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted
    assert wanted == set(ids)


def test_pictures_take_every_colour_from_the_page(page):
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", pictures)
    assert {"var(--accent)", "var(--bad)", "var(--ink)"} <= set(re.findall(r"var\(--\w+\)", pictures))


def test_pictures_are_said_in_words_and_tables_have_headings(read):
    said = [attributes["aria-label"] for attributes in read.all("div") if attributes.get("role") == "img"]
    assert len(said) == 4
    assert all(attributes["aria-hidden"] == "true" for attributes in read.all("svg"))
    assert "SASRec, released, holdout 21 Mar to 4 Apr 1998: popularity 0.069 (0.058 to 0.080)" in said[0]
    assert "age 3, gender 3, occupation 3, genre 1" in said[1]
    assert "10 Jan 1998: screen 10, refine 4, confirm 4; 2 pruned, 1 over budget, 1 failed." in said[2]
    assert "model.int8.onnx: p50 6.78 ms (6.55 to 7.01), p99 11.3 ms (10.5 to 12.7)" in said[3]
    assert all(attributes["scope"] in {"row", "col"} for attributes in read.all("th"))


def test_the_page_tells_the_verdict_what_was_refused_and_what_was_held(read):
    text = " ".join(" ".join(read.texts).split())
    assert re.search(
        r"SASRec is in production: its NDCG@10 is 71\s% \(\d\d to \d\d\) above popularity "
        r"and 33\s% \(\d\d to \d\d\) above a tuned Markov model\.",
        text,
    )
    assert "97,514 events in all, and 6 decisions followed" in text
    assert "landing/broken-week-19.jsonl.gz it must be gzip" in text
    assert "p99 is 11.3 [10.5, 12.7] ms at batch 1, and the budget is 8 ms." in text
    assert "Everything took 6 min 52 s. 0 tracebacks in the logs." in text


def test_the_page_shows_what_every_graph_that_was_tried_was_worth(page):
    rows = [
        re.findall(r"<td[^>]*>([^<]*)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", page[page.index("Graphs that were tried of each bundle") :], re.DOTALL)
    ]
    fp32, rowwise, spoilt = [[cell for at, cell in enumerate(row) if at != 1] for row in rows[1:4]]  # sizes apart
    assert fp32 == ["fp32", "0.400 ms", "0.1000", "–", "–", "–"]
    assert rowwise == [
        "int8-rows, serves",
        "0.300 ms",
        "0.0999",
        "+0.10 (-0.20 to +0.40)",
        "97.5 %",
        "0.9987",
    ]
    assert spoilt == ["int8", "–", "not finite", "–", "–", "–"]


def test_the_same_story_is_drawn_alike(line, months):
    story = report.tell(line, months.store)
    assert plots.drift(story) == plots.drift(story)


def test_hostile_strings_are_only_ever_text(line, books):
    line = line.model_copy(update={"description": HOSTILE})
    refusal = Refusal(source=HOSTILE, kept_at="quarantine/x", reasons=(HOSTILE,), rows=3)
    as_of = books.when(0)
    books.arrive(as_of, 50_000, refused=[refusal])
    dataset = books.freeze(as_of, 50_000)
    books.baseline(dataset)
    verdict = books.judge(dataset, (0.3, 0.2))
    hostile = tuple(replace(c, column=name) for c, name in zip(verdict.columns, (HOSTILE, FORMULA), strict=True))
    books.put(
        f"drift/{dataset.dataset_id}/{verdict.release_id}/settings/verdict.json", replace(verdict, columns=hostile)
    )
    plan = books.decide(verdict, Action.RETUNE, HOSTILE, family=HOSTILE)
    trials = [replace(trial, reason=HOSTILE, stage=HOSTILE, infeasible=(HOSTILE,)) for trial in books.trials(plan)[:3]]
    books.search(plan, trials, ended=HOSTILE)
    books.move("popularity-again", HOSTILE, by=HOSTILE, bundle_of=dataset)
    read = Reader(render(line, books.store))
    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "img"})
    assert "".join(read.texts).count(HOSTILE) >= 12
    assert read.texts.count(FORMULA) == 2, "the wide and the narrow picture name the column as it is"


def test_a_page_without_anything_says_so(line, books):
    text = "".join(Reader(render(line, books.store)).texts)
    for said in (
        "Nothing is in production yet.",
        "No candidate has been measured yet.",
        "Nothing was refused.",
        "No candidate was held.",
    ):
        assert said in text


def test_a_page_of_the_baseline_alone_has_no_pictures(line, books):
    as_of = books.when(0)
    books.arrive(as_of, 50_000)
    dataset = books.freeze(as_of, 50_000)
    books.baseline(dataset)
    books.judge(dataset)
    page = render(line, books.store)
    assert "<svg" not in page
    assert "The popularity baseline is in production; no candidate has replaced it." in page


@pytest.mark.parametrize("palette", [INK, DARK], ids=["light", "dark"])
def test_text_can_be_read_in_both_schemes(palette):
    """Contrast of at least 4.5, as WCAG 2.2 asks of text (success criterion 1.4.3)."""
    for name in ("ink", "muted", "accent", "amber", "bad"):
        dark, light = sorted((luminance(palette[name]), luminance(palette["card"])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def test_both_palettes_name_the_same_colours_and_no_two_light_ones_are_equal():
    assert INK.keys() == DARK.keys()
    assert len(set(INK.values())) == len(INK)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
