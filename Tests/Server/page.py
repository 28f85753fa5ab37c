"""Uses the page of pdrop-serve in headless Chromium, as a person would.

    python3 Tests/Server/page.py PDROP_SERVE Models/samples/bike.png [--screenshots DIR]

Instead of the program, the address of a running server can be given. Requires selenium, Chromium and chromedriver. The image must be a PNG file: its first half serves as a damaged image,
which a browser shows and the server refuses. Every function in `CHECKS` starts with a newly loaded page.
"""
import argparse
import base64
import os
import shutil
import sys
import tempfile
import traceback

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from server import Server

QUESTION = "What is in this image?"
# Long enough for a prefill of a 7B model on a slow CPU.
TIMEOUT = 300
WIDE, PHONE = (1280, 900), (390, 844)

# The ratios of WCAG 2 between text and the first opaque background under it, lowest first.
CONTRASTS = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const background = (node) => {
  const color = channels(getComputedStyle(node).backgroundColor);
  return color[3] === 0 && node.parentElement ? background(node.parentElement) : color;
};
const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== "");
return [...document.body.querySelectorAll("*")]
  .filter((node) => hasText(node) && node.checkVisibility() && node.tagName !== "OPTION")
  .map((node) => {
    const [a, b] = [luminance(channels(getComputedStyle(node).color)), luminance(background(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 40)];
  })
  .sort((first, second) => first[0] - second[0]);
"""

# Counts in `window.lengths` how the last answer grows.
WATCH_ANSWER = """
window.lengths = new Set();
new MutationObserver(() => {
  const answer = [...document.querySelectorAll("#conversation .answer .text")].at(-1);
  if (answer && answer.textContent !== "") window.lengths.add(answer.textContent.length);
}).observe(document.getElementById("conversation"), { childList: true, subtree: true, characterData: true });
"""

CANVAS = "return document.getElementById('canvas').toDataURL()"
FOCUSED = "return document.activeElement.id"


class Page:
    def __init__(self, url, arguments):
        (self.url, self.arguments) = (url, arguments)
        options = webdriver.ChromeOptions()
        for option in ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=%d,%d" % WIDE]:
            options.add_argument(option)
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, size=WIDE, theme="light"):
        width, height = size
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": theme}]})
        self.driver.get(self.url)
        self.wait("the server's settings", lambda: self.find("policy").get_attribute("value"))

    def find(self, id):
        return self.driver.find_element(By.ID, id)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script):
        return self.driver.execute_script(script)

    def wait(self, goal, condition):
        WebDriverWait(self.driver, TIMEOUT, poll_frequency=0.1).until(lambda _: condition(), "no " + goal)

    def attach(self, path):
        self.find("files").send_keys(os.path.abspath(path))
        self.wait("thumbnail", lambda: self.all("#attached img") or self.find("problem").text)

    def wait_for_end(self):
        self.wait("end of the answer", lambda: not self.find("running").is_displayed())

    def ask(self, image, question=QUESTION):
        self.attach(image)
        self.find("question").send_keys(question)
        self.find("send").click()
        self.wait_for_end()
        problems = [element.text for element in self.all(".problem") if element.text]
        assert not problems, problems

    def press(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, id):
        """Reaches an element by Tab alone; every element on the way must show its focus."""
        for _ in range(60):
            self.press(Keys.TAB)
            if self.run("return document.activeElement === document.body"):
                continue
            outlined = """const node = document.activeElement.closest(".button") ?? document.activeElement;
                return getComputedStyle(node).outlineStyle !== "none";"""
            assert self.run(outlined), "no visible focus on " + self.run("return document.activeElement.outerHTML")
            if self.run(FOCUSED) == id:
                return
        raise AssertionError("Tab does not reach " + id)

    def number(self, name):
        """A cell of the numbers, as text."""
        for row in self.all("#numbers-table tbody tr"):
            if row.find_element(By.TAG_NAME, "th").text == name:
                return row.find_element(By.TAG_NAME, "td").text
        raise AssertionError("no row " + name)

    def errors(self):
        """The errors in the console since the last call. Chromium also lists there each status from 400 on."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and entry["source"] != "network"]

    def screenshot(self, name):
        folder = self.arguments.screenshots
        if not folder:
            return
        os.makedirs(folder, exist_ok=True)
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return innerWidth")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {
            "captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
        with open(os.path.join(folder, name + ".png"), "wb") as file:
            file.write(base64.b64decode(shot["data"]))


def an_answer_streams_in(page):
    page.run(WATCH_ANSWER)
    page.ask(page.arguments.image)
    answer = page.all("#conversation .answer .text")[-1].text
    assert answer, "the answer is empty"
    tokens, steps = int(page.number("answer tokens")), page.run("return window.lengths.size")
    assert tokens <= 3 or steps > 1, "%d tokens arrived in %d step" % (tokens, steps)
    assert int(page.number("Image tokens").replace(",", "")) > 0
    for name in ["kept per stage", "saved", "Time to first token", "vision encoder", "prefill", "ranking", "Decode"]:
        assert page.number(name) != "–", "no number for " + name


def a_second_turn_remembers_the_first(page):
    page.ask(page.arguments.image)
    first = int(page.number("Prompt tokens").replace(",", ""))
    page.find("question").send_keys("Is that all?", Keys.ENTER)
    page.wait("second answer", lambda: len(page.all("#conversation > li")) == 2)
    page.wait_for_end()
    assert int(page.number("Prompt tokens").replace(",", "")) > first
    page.find("new-chat").click()
    assert not page.all("#conversation > li") and not page.find("map").is_displayed()


def the_slider_changes_the_map(page):
    page.ask(page.arguments.image)
    page.wait("map", lambda: page.find("map").is_displayed())
    slider = page.find("stage")
    texts, images = [], []
    slider.send_keys(Keys.HOME)
    for _ in range(int(slider.get_attribute("max")) + 1):
        texts.append(page.find("stage-text").text)
        images.append(page.run(CANVAS))
        slider.send_keys(Keys.ARROW_RIGHT)
    assert len(texts) > 1 and len(set(texts)) == len(texts), texts
    assert len(set(images)) == len(images), "two stages look the same"
    page.driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", page.find("canvas"))
    webdriver.ActionChains(page.driver).move_to_element(page.find("canvas")).perform()
    assert page.find("readout").text.startswith("Row "), page.find("readout").text


def other_policies_are_compared(page):
    page.ask(page.arguments.image)
    for policy in ["none", "fastv"]:
        Select(page.find("compare-policy")).select_by_value(policy)
        page.find("compare-button").click()
        page.wait("comparison", lambda: page.all("#comparison-table table"))
        page.wait_for_end()
        answers = page.all("#comparison-answers .text")
        assert len(answers) == 2 and all(answer.text for answer in answers)
        differences = [row.find_elements(By.TAG_NAME, "td")[-1].text for row in page.all("#comparison-table tbody tr")]
        assert any(text.startswith(("+", "−")) for text in differences), differences
    page.screenshot("comparison")


def a_keyboard_is_enough(page):
    page.attach(page.arguments.image)
    page.run("document.activeElement.blur()")
    page.tab_to("question")
    page.press(QUESTION, Keys.ENTER)
    page.wait("answer", lambda: page.all("#conversation .answer .text"))
    page.wait_for_end()
    page.tab_to("canvas")
    readouts = set()
    for key in [Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.ARROW_RIGHT]:
        page.press(key)
        readouts.add(page.find("readout").text)
    assert len(readouts) == 4, readouts
    page.tab_to("stage")
    before = page.find("stage-text").text
    page.press(Keys.ARROW_LEFT)
    assert page.find("stage-text").text != before
    assert page.find("stage").get_attribute("aria-valuetext") == page.find("stage-text").text
    page.tab_to("compare-button")
    page.press(Keys.ENTER)
    page.wait("comparison", lambda: page.all("#comparison-table table"))


def escape_stops_an_answer(page):
    page.attach(page.arguments.image)
    page.find("question").send_keys(QUESTION, Keys.ENTER)
    page.press(Keys.ESCAPE)
    page.wait_for_end()
    # Either the question is back, or a part of the answer stays, or it was complete before the key arrived.
    assert page.find("question").get_attribute("value") == QUESTION or page.all("#conversation .answer .text")


def a_damaged_image_is_explained(page):
    with tempfile.TemporaryDirectory() as folder:
        damaged, other = os.path.join(folder, "damaged.png"), os.path.join(folder, "text.png")
        with open(page.arguments.image, "rb") as file:
            data = file.read()
        with open(damaged, "wb") as file:
            file.write(data[: len(data) // 2])
        with open(other, "w") as file:
            file.write("This is not an image.")
        page.attach(other)
        page.wait("message for a text file", lambda: "text.png" in page.find("problem").text)
        assert not page.all("#attached img"), "a text file was attached"
        page.attach(damaged)
        page.wait("thumbnail", lambda: page.all("#attached img"))
        page.find("question").send_keys(QUESTION, Keys.ENTER)
        page.wait("message for a damaged image", lambda: page.find("problem").text)
    page.screenshot("damaged-image")
    assert page.find("question").get_attribute("value") == QUESTION, "the question is lost"
    page.all("#attached button")[0].click()
    assert not page.all("#attached img")


def requests_can_be_copied(page):
    page.ask(page.arguments.image)
    name = os.path.basename(page.arguments.image)
    for button, start in [("copy-curl", "curl "), ("copy-python", "import ")]:
        page.find(button).click()
        page.wait("text to copy", lambda: page.find("snippet").get_attribute("value").startswith(start))
        text = page.find("snippet").get_attribute("value")
        assert name in text and QUESTION in text and len(text) < 5000, text[:5000]


def a_phone_needs_no_horizontal_scrolling(page):
    page.open(PHONE)
    page.ask(page.arguments.image)
    page.find("settings").find_element(By.TAG_NAME, "summary").click()
    page.find("copy-curl").click()
    page.find("compare-button").click()
    page.wait("comparison", lambda: page.all("#comparison-table table"))
    page.wait_for_end()
    page.screenshot("phone")
    width = page.run("return document.documentElement.scrollWidth")
    assert width <= PHONE[0], "the page is %d pixels wide" % width


def both_themes_are_legible(page):
    backgrounds = set()
    for theme in ["light", "dark"]:
        page.open(theme=theme)
        page.ask(page.arguments.image)
        page.find("settings").find_element(By.TAG_NAME, "summary").click()
        page.find("copy-curl").click()
        page.wait("text to copy", lambda: page.find("snippet").is_displayed())
        page.screenshot(theme)
        backgrounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
        ratio, text = page.run(CONTRASTS)[0]
        assert ratio >= 4.5, "contrast %.2f in %s: %s" % (ratio, theme, text)
    assert len(backgrounds) == 2, backgrounds


CHECKS = [
    an_answer_streams_in, a_second_turn_remembers_the_first, the_slider_changes_the_map, other_policies_are_compared,
    a_keyboard_is_enough, escape_stops_an_answer, a_damaged_image_is_explained, requests_can_be_copied,
    a_phone_needs_no_horizontal_scrolling, both_themes_are_legible,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("server", help="the program, or the address of a running server")
    parser.add_argument("image", help="PNG file")
    parser.add_argument("--screenshots", metavar="DIR", help="save screenshots there")
    parser.add_argument("--only", metavar="TEXT", default="", help="run the checks whose names contain this text")
    arguments = parser.parse_args()
    if arguments.server.startswith("http"):
        sys.exit(check_page(arguments.server, arguments))
    with Server(arguments.server) as server:
        sys.exit(check_page(server.url, arguments))


def check_page(url, arguments):
    """Runs the checks, and returns the number of those that fail."""
    page = Page(url, arguments)
    failures = 0
    try:
        for check in CHECKS:
            if page.arguments.only not in check.__name__:
                continue
            name = check.__name__.replace("_", " ")
            try:
                page.open()
                check(page)
                errors = page.errors()
                assert not errors, "errors in the console: " + "; ".join(errors)
                print("passed:", name, flush=True)
            except Exception:
                failures += 1
                print("FAILED:", name, flush=True)
                traceback.print_exc()
    finally:
        page.driver.quit()
    return failures


if __name__ == "__main__":
    main()
