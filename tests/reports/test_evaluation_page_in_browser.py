"""The page of an evaluation in a browser: readable on any screen and on paper, and nothing leaves it."""

from __future__ import annotations

import numpy as np
import pytest
from evaluations import of_classes, of_labels, of_numbers, report_of

pytestmark = pytest.mark.thorough

IMAGES = [np.full((120, 160, 3), 4 * i, np.uint8) for i in range(60)]
HOSTILE = ["<img src=x onerror=window.ran=1>", "</title><script>window.ran=1</script>", "a\u202eb", "long " + "x" * 300]
KINDS = {"classes": of_classes, "labels": of_labels, "numbers": of_numbers}


@pytest.fixture
def open_report(open_file, tmp_path):
    def open_report(figures, names=None, **options):
        report_of(figures, IMAGES, names).to_html(tmp_path / "report.html", title=HOSTILE[1])
        return open_file(tmp_path / "report.html", **options)

    return open_report


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
@pytest.mark.parametrize("kind", KINDS)
def test_pages_fit_the_screen_and_run_nothing(kind, width, scheme, open_report):
    names = [HOSTILE[i % 4] for i in range(60)]
    figures = KINDS[kind](HOSTILE, groups=np.arange(60) // 6)
    page = open_report(figures, names, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.ran") is None
    assert page.title() == HOSTILE[1]
    broken = "[...document.images].filter(image => image.loading !== 'lazy' && !image.complete).length"
    assert page.evaluate(broken) == 0


def test_a_count_opens_its_images(open_report):
    figures = of_classes([f"class {i}" for i in range(12)])
    page = open_report(figures)
    true, predicted = max(figures.cells)  # in the second level
    place = page.locator(f"#cell-{true}-{predicted}")
    assert not place.is_visible()
    page.click(f'a[href="#cell-{true}-{predicted}"]')
    assert place.is_visible()
    assert place.locator("img").count() == min(6, figures.cells[true, predicted])


def test_the_keyboard_reaches_links_images_and_wide_tables(open_report):
    page = open_report(of_classes(["a", "b", "c"]))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"A.", "SUMMARY.", "DIV.wide"} <= reached


def test_on_paper_all_images_are_there(open_report):
    page = open_report(of_classes(["a", "b", "c"]))
    shown = "[...document.querySelectorAll('.card.small')].filter(card => card.checkVisibility()).length"
    assert page.evaluate(shown) == 0
    page.emulate_media(media="print")
    assert page.evaluate(shown) == page.locator(".card.small").count() > 0
    assert len(page.pdf()) > 10_000


@pytest.mark.thorough
def test_letters_stand_out_from_their_background(open_report):
    """WCAG asks for a contrast of 4.5, also within the cells of the matrix."""
    contrast = """cell => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        const luminance = color => {
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(value => {
                value /= 255;
                return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const light = luminance(getComputedStyle(cell.querySelector("a")).color);
        const ground = luminance(getComputedStyle(cell).backgroundColor);
        return (Math.max(light, ground) + 0.05) / (Math.min(light, ground) + 0.05);
    }"""
    for scheme in ("light", "dark"):
        page = open_report(of_classes(["a", "b", "c"]), color_scheme=scheme)
        for cell in page.locator("td.right, td.wrong").all():
            assert cell.evaluate(contrast) >= 4.5
