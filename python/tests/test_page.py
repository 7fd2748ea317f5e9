"""The live page in a real browser, against the real program."""

import os
import re
import shutil
import signal
import socket
import time
from itertools import pairwise

import pytest
from page_run import PATIENCE, running

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if BROWSER is None:
    pytest.skip("no Chromium; `make chromium` installs it", allow_module_level=True)

STEPS = range(1, 9)
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 320, "height": 640}
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="module")
def browser():
    # As root there is no sandbox, as in a container.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Steps are only added to it, so that the tests may come in any order."""
    with running(tmp_path_factory.mktemp("page"), *STEPS) as run:
        yield run


@pytest.fixture
def open_page(browser, run):
    """Opens the page; what the console says or another host is asked for fails the test."""
    complaints, contexts = [], []

    def complain(message):
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_page(path="/", url=run.url, viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((url, "data:")) or complaints.append(asked.url),
        )
        page.goto(url + path)
        if options.get("java_script_enabled", True):
            expect(page.locator("#connection")).to_have_text("Live")
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def last_step(run):
    return run.json("/api/v1/status")["step"]


def test_it_says_where_the_run_stands(open_page, run):
    page = open_page()
    expect(page).to_have_title("bars – convergd")
    expect(page.locator("#state .state")).to_have_text("At work")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"step\s\d+"))
    for name, value in (("Phase", "regularized"), ("Device", "CPU"), ("Evaluation lag", "none")):
        tile = page.locator(".tiles div", has=page.locator("dt", has_text=name))
        expect(tile.locator(".value")).to_have_text(value)
    expect(page.locator(".tiles")).to_contain_text("of 40 checks")
    decisions = page.get_by_role("region", name="Decisions")
    expect(decisions.get_by_role("row")).to_have_count(2)
    expect(decisions).to_contain_text("phase")
    expect(page.get_by_role("region", name="Notices")).to_contain_text("two steps")
    assert page.locator("svg[role=img]:visible").count() >= 8


def test_without_a_script_all_of_it_is_there(open_page):
    page = open_page(java_script_enabled=False)
    expect(page.locator("#state .state")).to_have_text("At work")
    page.get_by_label("Monitor", exact=True).select_option("probe_loss")
    page.locator("#monitors button").click()
    expect(page.locator("#monitor-figure")).to_have_attribute("data-monitor", "probe_loss")
    page.locator("#pair-choice").focus()
    page.keyboard.press("Home")
    page.locator("#strength button").click()
    expect(page.locator("#pair-shown")).to_have_text("step 1")
    page.get_by_role("link", name="Show samples").click()
    page.get_by_role("link", name="Sample 3").click()
    expect(page.get_by_role("heading", name=re.compile("^Sample 3 at step"))).to_be_visible()
    assert page.locator("svg.explanation").count() == 1
    assert "monitor=probe_loss" in page.url and "pair=0" in page.url, "one choice keeps the others"


def test_what_is_new_appears_while_it_is_open(open_page, run):
    page = open_page()
    step = last_step(run) + 1
    expect(page.locator("#strength-figure")).to_have_attribute("data-step", f"step {step - 1}")
    page.locator("#pair-list .scroll").focus()
    run.save(step)
    expect(page.locator(".tiles")).to_contain_text(f"step {step}")
    expect(page.locator("#pair-list")).to_contain_text(str(step))
    expect(page.locator("#pair-shown")).to_have_text(f"step {step}")
    assert page.locator("#pair-choice").get_attribute("max") == str(step - 1)
    assert page.evaluate("document.activeElement.id") == "pairs-heading-scroll", "the focus stays"
    expect(page.locator("#announcement")).to_have_text(re.compile("^At work\\. "))


def test_the_slider_shows_any_step_and_the_end_follows_the_run(open_page, run):
    page = open_page()
    last = last_step(run)
    slider = page.get_by_role("slider", name="Pair")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#pair-shown")).to_have_text(f"step {last - 1}")
    expect(slider).to_have_attribute("aria-valuetext", f"step {last - 1}")
    expect(page.locator("#strength-figure svg title").first).to_have_text(
        f"Target, step {last - 1}"
    )
    page.keyboard.press("Home")
    expect(page.locator("#pair-shown")).to_have_text("step 1")
    assert "pair=0" in page.url
    run.save(last + 1)
    expect(page.locator(".tiles")).to_contain_text(f"step {last + 1}")
    expect(page.locator("#pair-shown")).to_have_text("step 1")
    page.keyboard.press("End")
    expect(page.locator("#pair-shown")).to_have_text(f"step {last + 1}")
    assert "pair=" not in page.url
    assert page.evaluate("document.activeElement.id") == "pair-choice"


def test_any_monitor_is_shown_large(open_page):
    page = open_page()
    page.get_by_label("Monitor", exact=True).select_option("output_scale_target")
    title = page.locator("#monitor-figure svg title").first
    expect(title).to_have_text("output_scale_target over training steps")
    page.get_by_role("link", name="Disagreement").click()
    expect(title).to_have_text("disagreement over training steps")
    expect(page.get_by_label("Monitor", exact=True)).to_have_value("disagreement")
    page.reload()
    expect(title).to_have_text("disagreement over training steps")


def test_samples_are_listed_when_they_are_looked_at_and_one_is_explained(open_page, run):
    page = open_page()
    page.locator("#samples").scroll_into_view_if_needed()
    listed = page.locator("ol.samples > li")
    expect(listed).to_have_count(8)
    assert listed.locator("img").count() == 8
    expect(listed.first).to_contain_text(re.compile(r"(AND|OR) .*(convergent|only|opposite signs)"))
    page.get_by_role("link", name="after").click()
    expect(page.get_by_role("link", name="Sample 9")).to_be_visible()
    page.get_by_role("link", name="Sample 9").focus()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", name=re.compile("^Sample 9 at step"))
    expect(heading).to_be_focused()
    picture = page.locator("svg.explanation")
    expect(picture).to_be_visible()
    explained = run.json(f"/api/v1/samples/{page.url.split('step=')[1].split('&')[0]}/9")
    assert (
        f"{len(explained['interactions'])} salient interactions."
        in picture.locator("desc").text_content()
    )
    expect(page.get_by_role("link", name="Sample 9")).to_have_attribute("aria-current", "true")
    page.get_by_label("Step", exact=True).fill("2")
    page.get_by_role("button", name="Show its samples").click()
    expect(page.locator("#sample-list")).to_contain_text("Step 2, samples 0 to 7")
    page.get_by_label("Step", exact=True).fill("77")
    page.keyboard.press("Enter")
    expect(page.locator("#sample-list .refusal")).to_contain_text("there is no pair of step 77")
    # The browser itself tells of an answer that is an error.
    open_page.complaints[:] = [said for said in open_page.complaints if "404" not in said]


def test_the_page_of_a_sample_has_its_own_style(open_page):
    page = open_page("/?samples=0")
    page.get_by_role("link", name="Sample 2").click()
    page.get_by_role("link", name="All its interactions and numbers").click()
    expect(page.get_by_role("heading", name="Certificates")).to_be_visible()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.state')).borderRadius") == "16px"
    )


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_is_accessible(open_page, colours, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page("/?samples=0&sample=3", viewport=viewport, color_scheme=colours)
    expect(page.locator("svg.explanation")).to_be_attached()
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = axe.Axe().run(page, options=rules)
    assert not found.response["violations"], found.generate_report()


def test_dark_is_dark(open_page):
    grounds = {}
    for colours in ("light", "dark"):
        page = open_page(color_scheme=colours)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds[colours] = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert grounds["light"] > 700 and grounds["dark"] < 120, grounds


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page("/?samples=0&sample=3", viewport={"width": width, "height": 800})
    expect(page.locator("svg.explanation")).to_be_attached()
    assert page.evaluate("document.scrollingElement.scrollWidth") == width


FOCUS = """(() => {
    const at = document.activeElement, top = at.getBoundingClientRect().top + scrollY;
    const name = at.id || at.textContent.slice(0, 20);
    return [name, top, getComputedStyle(at).outlineStyle, at === document.body];
})()"""
"""Name, place, outline, and whether nothing has the focus any more."""


def test_the_keyboard_comes_everywhere_in_the_order_of_the_page(open_page):
    page = open_page("/?samples=0")
    expect(page.locator("ol.samples > li")).to_have_count(8)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    heights, passed = [], set()
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        if at[3]:
            break
        passed.add(at[0])
        heights.append(at[1])
        assert at[2] != "none", f"the focus on {at[0]} is not seen"
    assert {
        "monitor-choice",
        "pair-choice",
        "step-choice",
        "sample-0",
        "pairs-heading-scroll",
    } <= passed
    assert all(after >= before - 400 for before, after in pairwise(heights))


def test_a_lost_connection_is_said_and_found_again(browser, tmp_path):
    with running(tmp_path, 1, 2) as run:
        page = browser.new_page(viewport=WIDE)
        page.goto(run.url)
        connection = page.locator("#connection")
        expect(connection).to_have_text("Live")
        run.end(signal.SIGKILL)
        expect(connection).to_have_text(re.compile(r"^Connection lost; this is the state of \d"))
        assert connection.get_attribute("role") == "status"
        run.save(3)
        run.start()
        expect(connection).to_have_text("Live")
        expect(page.locator("#pair-shown")).to_have_text("step 3")
        run.end()
        ended = re.compile(r"^convergd has ended; this is its last state, of \d")
        expect(connection).to_have_text(ended)
        # Also when nobody has answered a try to connect again.
        with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
            pass
        expect(connection).to_have_text(ended)
        page.close()


def test_many_pages_and_one_that_does_not_listen_slow_nothing_down(run):
    silent = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", run.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent.append(connection)
    assert silent[0].recv(200).startswith(b"HTTP/1.1 200")
    step = last_step(run) + 1
    run.save(step)
    run.evaluated(step)
    started = time.monotonic()
    assert "convergd_pair_step" in run.get("/metrics")
    assert time.monotonic() - started < 1
    for connection in silent:
        connection.close()
    run.save(step + 1)
    run.evaluated(step + 1)


def test_a_page_that_was_opened_before_the_first_pair_gets_all_of_it(open_page, tmp_path):
    with running(tmp_path) as run:
        page = open_page(url=run.url)
        expect(page.locator("#sample-list")).to_contain_text("No pair has been evaluated yet")
        page.locator("#samples").scroll_into_view_if_needed()
        run.save(1, 2)
        expect(page.locator("#sample-list li").first).to_be_visible()
        # The list is of the best step, whichever that is by now.
        for step in (3, 4):
            run.save(step)
            run.evaluated(step)
        best = run.json("/api/v1/status")["best"]["step"]
        expect(page.locator("#step-choice")).to_have_value(str(best))
        expect(page.locator("#sample-list > .note")).to_contain_text(f"Step {best},")
        assert "samples=" not in page.url, "nobody has chosen it"
        expect(page.locator("#step-choice")).to_be_visible()
        expect(page.locator("#monitor-choice option[disabled]")).to_have_count(0)
        page.close()


def test_a_late_answer_does_not_take_a_choice_back(open_page, run):
    page = open_page()
    held = []

    def hold(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/parts/live?*", hold)
    run.save(last_step(run) + 1)
    page.wait_for_timeout(0)
    ends = time.monotonic() + PATIENCE
    while not held:
        assert time.monotonic() < ends
        page.wait_for_timeout(20)
    page.get_by_label("Monitor", exact=True).select_option("probe_loss")
    expect(page.locator("#monitor-figure")).to_have_attribute("data-monitor", "probe_loss")
    with page.expect_response(lambda answer: "/parts/live" in answer.url and "probe" in answer.url):
        held[0].continue_()
    expect(page.locator("#monitor-figure")).to_have_attribute("data-monitor", "probe_loss")
    expect(page.get_by_label("Monitor", exact=True)).to_have_value("probe_loss")


def test_an_unreadable_choice_is_none_and_the_page_goes_on(open_page, run):
    page = open_page("/?samples=0&step=")
    before = last_step(run)
    run.save(before + 1)
    expect(page.locator(".tiles")).to_contain_text(f"step {before + 1}")
    page.locator("#step-choice").fill("")
    page.get_by_role("button", name="Show its samples").click()
    expect(page.locator("#step-choice:invalid")).to_be_visible()


def test_the_best_is_that_of_the_rules_that_run(open_page, tmp_path):
    with running(tmp_path, 1, 2, 3) as run:
        file = run.directory / "run.yaml"
        file.write_text(file.read_text().replace("metric: convergent_ratio", "metric: probe_loss"))
        run.process.send_signal(signal.SIGHUP)
        run.until(lambda: "is reloaded" in (run.directory / "log").read_text())
        step = last_step(run) + 1
        run.save(step)
        run.evaluated(step)
        page = open_page(url=run.url)
        expect(page.locator("#state")).to_contain_text("probe_loss")
        expect(page.locator("#monitor-figure")).to_have_attribute("data-monitor", "probe_loss")
        page.close()


def test_a_page_that_nobody_sees_holds_no_connection(browser, run):
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.goto(run.url)
    expect(page.locator("#connection")).to_have_text("Live")
    hide = (
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.evaluate(hide % "true")
    step = last_step(run) + 1
    run.save(step)
    run.evaluated(step)
    expect(page.locator(".tiles")).not_to_contain_text(f"step {step}")
    page.evaluate(hide % "false")
    expect(page.locator(".tiles")).to_contain_text(f"step {step}")
    expect(page.locator("#connection")).to_have_text("Live")
    context.close()
