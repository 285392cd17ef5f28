"""The page of an audit in a browser: deciding by key and click, keeping, downloading, and what it never does."""

from __future__ import annotations

import time

import pytest
from audits import audit_of, noise
from PIL import Image
from representatives import slow_except

from sktl._audit.issues import Issue
from sktl.datasets import apply_decisions

pytestmark = pytest.mark.thorough

LABELS = ["cat", "dog", "cat", "dog", "cow", "cow"]
HOSTILE = [
    "<img src=x onerror=window.ran=1>.jpg",
    "</script><script>window.ran=1</script>.jpg",
    "=cmd|'/c calc'!A0.jpg",
    '-1,"quoted";\r\n\'.jpg',
    " spaces .jpg",
    "caf\udce9\u202e.jpg",
]


@pytest.fixture
def open_page(open_file, tmp_path):
    """Return a function that writes the page of an audit and opens it."""

    def open_page(audit, script=None, **options):
        audit.to_html(tmp_path / "audit.html")
        return open_file(tmp_path / "audit.html", script, **options)

    return open_page


def suspicious(names=None, suggested="dog"):
    names = names or [f"train/{i}.jpg" for i in range(6)]
    return [
        Issue(kind="suspicious_label", position=i, name=name, label=label, score=1 - i / 10, suggested_label=suggested)
        for i, (name, label) in enumerate(zip(names, LABELS, strict=True))
    ]


def copies():
    return Issue(kind="exact_copy", position=0, name="train/0.jpg", other_part="test", other_position=1, score=0.9,
                 other_name="test/1.jpg", label="cat", crosses="test", contradicts=True)  # fmt: skip


def downloaded(page, path):
    with page.expect_download() as waiting:
        page.click("text=Download decisions")
    waiting.value.save_as(path)
    return path


def rows(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_decisions_by_key_are_counted_undone_kept_and_downloaded(open_page, tmp_path):
    audit = audit_of([copies(), *suspicious(suggested="cow")], noise(6), ["cat", "cow", "dog"], noise(2))
    page = open_page(audit)
    press = page.keyboard.press
    press("j")
    press("e")  # the training image stays; the key moves on to its copy
    press("d")
    press("j")  # the first suspicious label is about the image that stays
    press("r")
    press("Enter")  # the suggested label is selected
    press("d")
    press("d")
    press("u")
    assert "4 of 7 decided: 1 keep, 2 drop, 1 relabel" in page.inner_text("#counter")
    expected = [
        "part,position,name,decision,label,n_images,content",
        "train,0,train/0.jpg,keep,,6,",
        "train,1,train/1.jpg,relabel,cow,6,",
        "train,2,train/2.jpg,drop,,6,",
        "test,1,test/1.jpg,drop,,2,",
    ]
    assert rows(downloaded(page, tmp_path / "d.csv")) == expected
    page.reload()
    assert "1 keep, 2 drop, 1 relabel" in page.inner_text("#counter")
    assert rows(downloaded(page, tmp_path / "again.csv")) == expected
    names = [f"train/{i}.jpg" for i in range(6)]
    X, y = apply_decisions(tmp_path / "d.csv", names, LABELS)
    assert list(X) == [*names[:2], *names[3:]]
    assert y == ["cat", "cow", "dog", "cow", "cow"]

    other = audit_of(suspicious(), noise(6), ["cat", "cow", "dog"])  # in the same browser, at the same place
    other.to_html(tmp_path / "audit.html")
    page.reload()
    assert "0 of 6 decided" in page.inner_text("#counter")


def test_decisions_by_click(open_page, tmp_path):
    page = open_page(audit_of(suspicious(), noise(6), ["cat", "cow", "dog"]))
    cards = page.locator(".card")
    cards.nth(0).get_by_text("Drop").click()
    cards.nth(1).get_by_text("Keep").click()
    cards.nth(4).get_by_text("Relabel").click()
    assert page.locator("dialog option").all_inner_texts() == ["dog (suggested)", "cat"]
    page.select_option("dialog select", label="cat")
    page.click("#dialog-ok")
    cards.nth(1).get_by_text("Keep", exact=True).last.click()  # once more: it is undecided again
    assert cards.nth(1).get_attribute("data-decision") is None
    assert rows(downloaded(page, tmp_path / "d.csv"))[1:] == [
        "train,0,train/0.jpg,drop,,6,", "train,4,train/4.jpg,relabel,cat,6,",
    ]  # fmt: skip
    page.check("#undecided")
    assert page.locator(".finding:visible").count() == 4
    page.fill("#search", "train/3")
    assert page.locator(".finding:visible").count() == 1
    page.keyboard.press("d")  # in the field, a letter is a letter
    assert page.locator("[data-decision]").count() == 2


def test_the_next_undecided_finding_may_be_an_earlier_one(open_page):
    page = open_page(audit_of(suspicious(), noise(6), ["cat", "cow", "dog"]))
    for key in "jjjejjne":  # the third is kept; from the last one, n goes to the first
        page.keyboard.press(key)
    cards = page.locator(".card").all()
    assert [card.get_attribute("data-decision") for card in cards] == ["keep", None, "keep", None, None, None]
    for key in "nenenene":
        page.keyboard.press(key)
    assert [card.get_attribute("data-decision") for card in cards] == ["keep"] * 6
    page.keyboard.press("n")  # none is left
    assert "6 of 6 decided" in page.inner_text("#counter")


def test_several_labels_are_chosen_by_boxes(open_page, tmp_path):
    names = ["red, dark", "blue", "old"]
    issue = Issue(kind="suspicious_label", position=0, name="X[0]", label="red, dark, old", suggested_label="red, dark")
    page = open_page(audit_of([issue], noise(1), names, kind="labels"))
    page.keyboard.press("j")
    page.keyboard.press("r")
    assert page.locator("dialog label").all_inner_texts() == [" old (suggested: no)", " red, dark", " blue"]
    page.check("dialog label:has-text('blue') input")
    page.keyboard.press("Enter")
    assert rows(downloaded(page, tmp_path / "d.csv"))[1:] == ['train,0,X[0],relabel,"red, dark, blue",1,']
    page.keyboard.press("r")  # once more: it shows what was chosen
    assert page.locator("dialog input:checked").count() == 2


def test_no_label_may_be_suggested(open_page, tmp_path):
    issue = Issue(kind="suspicious_label", position=0, name="X[0]", label="old", suggested_label="")
    page = open_page(audit_of([issue], noise(1), ["blue", "old"], kind="labels"))
    page.keyboard.press("j")
    page.keyboard.press("r")
    assert page.locator("dialog label").all_inner_texts() == [" old (suggested: no)", " blue"]
    assert page.locator("dialog input:checked").count() == 0
    page.keyboard.press("Enter")
    assert rows(downloaded(page, tmp_path / "d.csv"))[1:] == ["train,0,X[0],relabel,,1,"]


def test_numbers_are_typed(open_page, tmp_path):
    wrong = {"kind": "suspicious_label", "label": "95, 2", "suggested_label": "9.5, 2.1"}
    issues = [Issue(position=i, name=f"X[{i}]", score=1 - i / 10, **wrong) for i in range(2)]
    page = open_page(audit_of(issues, noise(2), kind="numbers"))
    page.keyboard.press("j")
    page.keyboard.press("r")
    fields = page.locator("dialog input")
    assert [fields.nth(i).input_value() for i in range(2)] == ["9.5", "2.1"]
    page.keyboard.type("-3.5")  # replaces the suggested number
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    fields.nth(1).fill("")
    page.keyboard.press("Enter")
    assert page.is_visible("dialog")  # until the number is there
    fields.nth(1).fill("4")
    page.keyboard.press("Enter")
    page.reload()
    assert "2 of 2 decided: 0 keep, 0 drop, 2 relabel" in page.inner_text("#counter")
    assert page.locator("text=Relabel: -3.5, 2.1").count() == 1
    X, y = apply_decisions(downloaded(page, tmp_path / "d.csv"), noise(2), [[95.0, 2.0], [95.0, 2.0]])
    assert (len(X), y) == (2, [[-3.5, 2.1], [9.5, 4.0]])


def test_names_of_strangers_do_nothing_and_are_applied_as_they_are(open_page, tmp_path):
    classes = sorted({*LABELS, HOSTILE[0], HOSTILE[2]})
    page = open_page(audit_of(suspicious(HOSTILE, HOSTILE[2]), noise(6), classes))
    page.keyboard.press("j")
    page.keyboard.press("r")
    page.keyboard.press("Enter")
    for _ in HOSTILE[1:]:
        page.keyboard.press("d")
    assert page.evaluate("window.ran") is None
    path = downloaded(page, tmp_path / "d.csv")
    assert not any(cell.startswith(tuple("=+-@")) for row in rows(path) for cell in row.replace('"', "").split(","))
    X, y = apply_decisions(path, HOSTILE, [*LABELS[:5], HOSTILE[2]])
    assert list(X) == HOSTILE[:1]
    assert y == [HOSTILE[2]]


def test_downloaded_decisions_are_about_files_and_not_about_positions(open_page, tmp_path):
    names = [str(tmp_path / f"{i}.png") for i in range(6)]
    for name, image in zip(names, noise(6), strict=True):
        Image.fromarray(image).save(name)
    page = open_page(audit_of(suspicious(names), names, ["cat", "cow", "dog"]))
    page.keyboard.press("j")
    page.keyboard.press("d")
    path = downloaded(page, tmp_path / "d.csv")
    assert apply_decisions(path, names[::-1])[0] == names[:0:-1]


@pytest.mark.parametrize(
    "script",
    [
        "Object.defineProperty(window, 'localStorage', {get() {throw new DOMException('x', 'SecurityError')}})",
        "Storage.prototype.setItem = () => {throw new DOMException('x', 'QuotaExceededError')}",
    ],
)
def test_a_browser_that_keeps_nothing_says_so(open_page, script, tmp_path):
    page = open_page(audit_of(suspicious(), noise(6), ["cat", "cow", "dog"]), script)
    page.keyboard.press("j")
    page.keyboard.press("d")
    assert page.is_visible("text=does not keep decisions")
    assert len(rows(downloaded(page, tmp_path / "d.csv"))) == 2


def test_what_others_have_kept_is_left_out(open_page):
    page = open_page(audit_of(suspicious(), noise(6), ["cat"]))
    key = page.evaluate("JSON.parse(document.getElementById('data').textContent).key")
    for kept in ("{", "null", "7", '[["length", "drop", ""], [99, "drop", ""], [0, "x", ""], 1]'):
        page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [key, kept])
        page.reload()
        assert "0 of 6 decided" in page.inner_text("#counter")


def test_another_tab_shows_the_same_decisions(open_page):
    page = open_page(audit_of(suspicious(), noise(6), ["cat"]))
    other = page.context.new_page()
    other.goto(page.url)
    page.keyboard.press("j")
    page.keyboard.press("d")
    other.wait_for_function("document.getElementById('counter').textContent.startsWith('1 of 6 decided')")
    assert other.locator("[data-decision=drop]").count() == 1


def test_without_scripts_the_page_is_a_list(open_page):
    page = open_page(audit_of([copies(), *suspicious()], noise(6), ["cat"], noise(2)), java_script_enabled=False)
    assert page.locator(".card img:visible").count() == 8
    assert page.locator("button:visible, input:visible").count() == 0
    assert page.is_visible("text=allow scripts")


def test_nothing_is_wider_than_a_phone(open_page):
    long = [f"train/{'x' * 300}{i}.jpg" for i in range(6)]
    audit = audit_of([copies(), *suspicious(long, "y" * 200)], noise(6), ["cat", "cow", "y" * 200], noise(2))
    page = open_page(audit, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("j")
    page.keyboard.press("r")
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    first, second = (page.locator(".card").nth(i).bounding_box() for i in range(2))
    assert first["y"] == second["y"]  # side by side


@pytest.mark.thorough
@pytest.mark.parametrize("n", slow_except([1_500, 5_000], 1_500))
def test_thousands_of_findings_load_and_answer(open_page, n):
    issues = [
        Issue(kind="suspicious_label", position=i, name=f"X[{i}]", label="cat", score=1 - i / n, suggested_label="dog")
        for i in range(n)
    ]
    started = time.monotonic()
    page = open_page(audit_of(issues, noise(n, side=4), ["cat", "dog"]))
    page.keyboard.press("j")
    page.keyboard.press("d")
    page.wait_for_function(f"document.getElementById('counter').textContent.startsWith('1 of {n:,}')")
    page.fill("#search", f"X[{n - 1}]")
    page.wait_for_function("[...document.querySelectorAll('.finding')].filter(one => !one.hidden).length === 1")
    assert time.monotonic() - started < 120
    assert page.locator("[data-do]").count() < 0.6 * n  # only those near the window have buttons
