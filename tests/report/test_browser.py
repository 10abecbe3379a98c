"""The report in a headless Chromium with the network off: it is seen, clicked, typed into and measured."""

import itertools

import matplotlib.image
import pytest

from mcsp.report import page
from tests.browser import Browser
from tests.report import made_up

PHONE = (390, 844)
DESK = (1280, 900)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def written(root, values, **how):
    r = made_up.results(root, values, **how)
    out = root / "report.html"
    page.run(study=r.study, results=r.root, figures=r.stems, out=out)
    return out.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with hostile words in its title, exclusions, captions, licence and model card."""
    return written(tmp_path_factory.mktemp("report"), made_up.study(title=f"Made up {made_up.HOSTILE}"))


@pytest.fixture(scope="module")
def many_sites(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sites"), made_up.study(tasks=("asd", "mdd")), sites=20, left_out=60)


def shown(browser, table, column):
    """Texts of a column of the table with this title, as its rows stand; those hidden are left out."""
    return browser.run(
        f"""(() => {{ const t = [...document.querySelectorAll('.scroll')].find(s => s.ariaLabel === 'Table: {table}')
        .querySelector('table'); const i = [...t.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith('{column}'));
        return [...t.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[i].textContent) }})()"""
    )


def head(table, column):
    """Script: the button of a column."""
    return f"""[...[...document.querySelectorAll('.scroll')].find(s => s.ariaLabel === 'Table: {table}')
        .querySelectorAll('th')].find(c => c.textContent.startsWith('{column}')).querySelector('button')"""


def test_it_opens_at_once_without_network_or_complaint(browser, address):
    assert browser.open(address, *DESK) < 3
    assert browser.run("document.querySelector('h1').getBoundingClientRect().bottom < innerHeight / 2")
    assert browser.run("document.querySelector('.conclusion').getBoundingClientRect().bottom < innerHeight")
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    browser.run("scrollTo(0, document.body.scrollHeight)")
    assert browser.requests == []
    assert browser.console == []
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 1)")


def test_a_request_or_an_error_would_be_seen(browser, tmp_path):
    """The watchmen of the test above are awake."""
    (tmp_path / "bad.html").write_text("<img src='http://example.org/a.png'><script>undefinedFunction()</script>")
    browser.open((tmp_path / "bad.html").as_uri())
    assert browser.requests == ["http://example.org/a.png"]
    assert any("undefinedFunction" in line for line in browser.console)


def test_hostile_text_runs_nothing(browser, address):
    browser.open(address)
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.run("window.pwned") is None
    assert "<img src=x" in browser.run("document.querySelector('h1').textContent")
    assert browser.run("[...document.querySelectorAll('td')].filter(c => c.textContent.includes('<img src=x')).length") > 30
    assert "<img src=x" in browser.run("document.querySelector('.markdown').textContent")
    assert browser.run("document.querySelectorAll('.markdown table').length") == 1


def test_every_link_of_the_contents_reaches_its_section(browser, address):
    browser.open(address, *DESK)
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    links = browser.run("[...document.querySelectorAll('#contents a')].map(a => a.hash)")
    assert len(links) == len(set(links)) > 15
    for link in links:
        browser.run(f"document.querySelector('#contents a[href=\"{link}\"]').click()")
        top, end = browser.run(
            f"(() => {{ const r = document.querySelector('{link}').getBoundingClientRect(); "
            "return [r.top, document.documentElement.scrollHeight - innerHeight - scrollY] })()"
        )
        assert -5 < top < 60 or end < 2, link
    other = browser.run("[...document.querySelectorAll('main a[href^=\"#\"]')].map(a => a.hash)")
    assert browser.run(f"{other}.every(h => document.querySelector(h))")
    browser.run("scrollTo(0, 0)")
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))", wait=True)
    assert browser.run("document.querySelector('[aria-current]').hash") == "#summary"


def test_tables_sort_by_click_and_by_key(browser, address):
    browser.open(address, *DESK)
    table, column = "Methods on the same test subjects", "AUROC"
    button = head(table, column)
    browser.run(f"{button}.click()")
    values = [float(text.split()[0]) for text in shown(browser, table, column)]
    assert values == sorted(values)
    assert len(set(values)) == 3
    assert browser.run(f"{button}.parentNode.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{button}.focus()")
    browser.key("Enter", 13, "\r")
    assert [float(text.split()[0]) for text in shown(browser, table, column)] == values[::-1]
    browser.run(f"{head(table, 'method')}.click()")
    names = shown(browser, table, "method")
    assert names == sorted(names, key=str.lower)
    assert browser.run(f"{button}.parentNode.getAttribute('aria-sort')") is None


def test_empty_cells_sort_last_either_way(browser, address):
    browser.open(address, *DESK)
    table, column = "The model within subgroups", "AUROC"
    for _ in range(2):
        browser.run(f"{head(table, column)}.click()")
        texts = shown(browser, table, column)
        assert "" in texts
        assert texts.index("") == len([t for t in texts if t])


def test_tables_are_filtered_by_all_words(browser, address):
    browser.open(address, *DESK)
    table = "Who or what was left out, and why"
    assert len(shown(browser, table, "subject")) == 30
    script = f"""(() => {{ const box = [...document.querySelectorAll('.scroll')].find(s => s.ariaLabel === 'Table: {table}');
        const input = box.previousElementSibling.querySelector('input'); input.value = 'X7 short';
        input.dispatchEvent(new Event('input')); return box.previousElementSibling.querySelector('.count').textContent }})()"""
    assert browser.run(script) == "1 of 30 rows"
    assert shown(browser, table, "subject") == ["d-1/sub-x7"]


def drawn(browser, picture):
    """Waits until the brain in the open frame is seen; False where none is drawn."""
    box = "const r = document.querySelector('iframe').getBoundingClientRect()"
    place = f"(() => {{ {box}; return [r.top, r.bottom, r.left, r.right] }})()"
    for _ in range(60):
        browser.run("new Promise(done => setTimeout(done, 300))", wait=True)
        top, bottom, left, right = (max(0, round(value)) for value in browser.run(place))
        browser.picture(picture)
        inner = matplotlib.image.imread(picture)[top:bottom, left:right, :3]
        if inner.size and (abs(inner - 1).max(axis=2) > 0.05).mean() > 0.05:  # the cortex; an empty frame is white
            return True
    return False


@pytest.mark.parametrize(
    ("number", "plot", "size"), [(0, "#connectome-plot", DESK), (1, "#surface-plot", DESK), (1, "#surface-plot", PHONE)]
)
def test_brains_open_on_demand_and_are_drawn(browser, address, tmp_path, number, plot, size):
    browser.open(address, *size)
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    assert browser.run("document.querySelectorAll('iframe').length") == 0
    assert browser.run("document.querySelectorAll('.load').length") == 3  # regions, cortex, connections
    load = f"document.querySelectorAll('.load')[{number}]"
    browser.run(f"{load}.click()")
    assert browser.run("document.querySelector('iframe').sandbox.value") == "allow-scripts"
    browser.run("document.querySelector('.frame:not([hidden])').scrollIntoView()")
    assert "@@shared" not in browser.run("document.querySelector('iframe').srcdoc")
    assert drawn(browser, tmp_path / "view.png"), "nothing is drawn"
    assert len(browser.frames) == 1
    assert browser.run(f"document.querySelectorAll('{plot} canvas').length", frame=browser.frames[0]) > 0
    assert browser.run(OVERFLOW) <= 0
    assert browser.requests == []
    assert [line for line in browser.console if "Canvas2D" not in line and "GPU stall" not in line] == []
    browser.run(f"{load}.click()")
    assert browser.run("document.querySelectorAll('iframe').length") == 0


def test_bibtex_and_methods_are_copied(browser, address):
    browser.open(address, *DESK)
    for number in range(browser.run("document.querySelectorAll('.copier').length")):
        browser.run(f"document.querySelectorAll('.copier')[{number}].click()")
        browser.run("new Promise(done => setTimeout(done, 100))", wait=True)
        assert browser.run(f"document.querySelectorAll('.copier')[{number}].nextElementSibling.textContent") == "copied"
    assert "@article{wei2025mcsp" in browser.run("[...document.querySelectorAll('pre')].map(p => p.textContent).join()")


def test_on_a_phone_nothing_is_wider_than_the_window_and_the_contents_are_a_menu(browser, many_sites):
    browser.open(many_sites, *PHONE)
    assert browser.run(OVERFLOW) <= 0
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.run(OVERFLOW) <= 0
    visible = "getComputedStyle(document.getElementById('contents')).display !== 'none'"
    assert not browser.run(visible)
    browser.run("document.querySelector('.menu').click()")
    assert browser.run(visible)
    assert browser.run("document.querySelector('.menu').getAttribute('aria-expanded')") == "true"
    assert browser.run(OVERFLOW) <= 0
    browser.run("document.querySelector('#contents a[href=\"#biomarkers\"]').click()")
    assert not browser.run(visible)
    browser.run("document.querySelector('.menu').click()")
    browser.key("Escape", 27)
    assert not browser.run(visible)
    assert browser.run("document.activeElement.className") == "menu"
    assert browser.console == []


def test_structure_is_sound_for_those_who_listen(browser, many_sites):
    browser.open(many_sites, *DESK)
    assert browser.run("document.documentElement.lang") == "en"
    levels = browser.run(
        "[...document.querySelectorAll('h1, h2, h3, h4')].filter(h => !h.closest('.markdown')).map(h => +h.tagName[1])"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 or (before, after) == (2, 4) for before, after in itertools.pairwise(levels))
    ids = browser.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.run("[...document.images].every(i => i.alt.length > 10)")
    named = "s => document.getElementById(s.getAttribute('aria-labelledby'))"
    assert browser.run(f"[...document.querySelectorAll('main > section')].every({named})")
    assert browser.run("[...document.querySelectorAll('th')].every(h => h.scope === 'col' || h.closest('.markdown'))")


def test_print_shows_what_is_open_and_no_navigation(browser, address):
    browser.open(address, *DESK)
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector('{}')).display"
    assert browser.run(shown.format("#contents")) == "none"
    assert browser.run(shown.format("details.fold")) == "none"
    browser.run("document.querySelector('details.fold').open = true")
    assert browser.run(shown.format("details.fold")) == "block"
    assert browser.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_a_link_into_a_fold_opens_it(browser, tmp_path):
    address = written(tmp_path, made_up.study(), figures=("cohort", "fmri-map-asd"))
    browser.open(f"{address}#figure-fmri-map-asd", *DESK)
    assert browser.run("document.getElementById('figure-fmri-map-asd').closest('details').open")
