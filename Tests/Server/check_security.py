"""Files, networks, keys, origins and the page of pdrop-serve."""
import contextlib
import pathlib
import re
import tempfile

from checks import BIKE, check, equal, expect_error, expect_works, short
from server import Server, question


@contextlib.contextmanager
def media_folder():
    """A folder of images with links in and out of it, next to things that must stay secret."""
    with tempfile.TemporaryDirectory() as name:
        # Resolved, as a temporary folder may be behind a link itself.
        outside = pathlib.Path(name).resolve()
        media = outside / "media"
        (media / "sub").mkdir(parents=True)
        (outside / "media2").mkdir()
        for path in (media / "a b.png", media / "sub/b.png", outside / "secret.png", outside / "media2/c.png"):
            path.write_bytes(BIKE.read_bytes())
        (media / "inner.png").symlink_to(media / "sub/b.png")
        (media / "link.png").symlink_to(outside / "secret.png")
        (media / "up").symlink_to(outside)
        (media / "broken.png").symlink_to(media / "nothing")
        (media / "text.png").write_text("root:x:0:0")
        yield outside, media


@check()
def files_below_the_media_folder(server):
    with media_folder() as (outside, media), \
            Server(server.program, "--media-path", media, "--metrics") as other:
        expected = other.chat(short()).json["choices"]
        for reference in (f"file://{media}/a%20b.png", f"file://{media}/sub/b.png", "file://sub/b.png",
                          f"FILE://{media}/sub/../sub/b.png", f"file://{media}/inner.png"):
            body = short()
            body["messages"][0]["content"][0]["image_url"]["url"] = reference
            equal(other.chat(body).json.get("choices"), expected, reference)
        refused = [
            f"file://{media}/../secret.png", f"file://{media}/%2e%2e/secret.png", "file://../secret.png",
            "file://%2e%2e/secret.png", f"file://{media}/sub/../../secret.png", f"file://{media}/link.png",
            f"file://{media}/up/secret.png", f"file://{outside}/secret.png", f"file://{outside}/media2/c.png",
            "file:///etc/passwd", "file:///proc/self/environ", "file:///dev/zero", f"file://{media}/nothing.png",
            f"file://{media}/broken.png", "file:///etc/nothing"]
        messages = set()
        for reference in refused:
            error = expect_error(other.chat(question("What?", reference)), 400, param="messages")
            messages.add(error["message"].split(": ")[-1])
        # One text, so that it does not tell which files exist outside.
        equal(len(messages), 1, messages)
        for reference in (f"file://{media}", f"file://{media}/", f"file://{media}/sub", "file://", "file:",
                          f"file://{media}/a%00b.png", f"file://{media}/%zz.png", f"file://{media}/text.png",
                          str(media / "sub/b.png"), "sub/b.png", f"file://{media}/" + "a" * 5000):
            expect_error(other.chat(question("What?", reference)), 400, param="messages")
        error = other.chat(question("What?", "file://text.png")).error
        assert str(outside) not in error["message"], f"shows where the folder is: {error}"
        expect_works(other)


@check()
def images_on_private_networks(server):
    with Server(server.program, "--allow-remote-images", "--metrics") as other:
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.0.0.1", "192.168.0.1", "172.16.0.1", "127.1",
                     "169.254.169.254", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]", "[fd00::1]", "[fe80::1]",
                     "100.64.0.1", "user@127.0.0.1", "127.0.0.1#@8.8.8.8", "127.0.0.1\r\nX: a"):
            expect_error(
                other.chat(question("What?", f"http://{host}:{other.port}/health")), 400, "cannot be fetched",
                param="messages")
        expect_works(other)


@check()
def keys(server):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "keys")
        file.write_text("\n  first key \n\nsecond\r\n")
        with Server(server.program, "--api-key-file", file, "--api-key", "third") as other:
            for key in ("first key", "second", "third"):
                answer = other.chat(short(), headers={"Authorization": "Bearer " + key})
                equal(answer.status, 200, answer)
                equal(other.get("/v1/models", headers={"Authorization": "bearer " + key}).status, 200)
            wrong = [{}, {"X-Api-Key": "third"}, *(
                {"Authorization": value} for value in (
                    "", "third", "Bearer", "Bearer ", "Bearer thir", "Bearer thirdd", "Bearer THIRD", "Basic third",
                    "Bearer third third", "Bearer \u00fc", "Bearer " + "a" * 5000))]
            for headers in wrong:
                answer = other.chat(short(), headers=headers)
                expect_error(answer, 401, code="invalid_api_key")
                equal(answer.headers["www-authenticate"], "Bearer")
            for path in ("/v1/models", "/props", "/slots", "/metrics", "/nothing", "//", "/./health", "/health/x"):
                equal(other.get(path).status, 401, path)
            for path in ("/tokenize", "/detokenize", "/apply-template"):
                equal(other.post(path, {}).status, 401, path)
            for path in ("/", "/health", "/v1/health"):
                equal(other.get(path).status, 200, path)
            equal(other.chat(short(), headers={"Authorization": "Bearer third"}).status, 200)


ALLOW_ORIGIN = "access-control-allow-origin"


@check("--metrics")
def other_sites_are_refused(server):
    own = f"http://{server.host}:{server.port}"
    equal(server.get("/v1/models", headers={"Origin": own}).status, 200)
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", own + ".example.org", "", "file://"):
        for method, path, body in (("GET", "/props", None), ("GET", "/", None),
                                   ("POST", "/v1/chat/completions", short()),
                                   ("OPTIONS", "/v1/chat/completions", None)):
            answer = server.request(method, path, body, headers={"Origin": origin})
            expect_error(answer, 403)
            assert ALLOW_ORIGIN not in answer.headers, answer.headers
    # A name of another site that was made to point to this machine.
    headers = {"Origin": "http://evil.example", "Host": "evil.example"}
    expect_error(server.chat(short(), headers=headers), 403)
    # Browsers send no origin with requests of such a page for data.
    expect_error(server.get("/props", headers={"Host": "evil.example"}), 403)
    expect_error(server.get("/props", headers={"Host": "localhost.evil.example:80"}), 403)
    for host in ("localhost", f"LOCALHOST:{server.port}", "[::1]:1"):
        equal(server.get("/props", headers={"Host": host}).status, 200)


@check("--cors", "https://good.example", "--cors", "http://also.example:8000", "--api-key", "a")
def listed_origins(server):
    for origin in ("https://good.example", "http://also.example:8000"):
        answer = server.request("OPTIONS", "/v1/chat/completions", headers={
            "Origin": origin, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"})
        assert answer.status in (200, 204), answer
        equal(answer.headers[ALLOW_ORIGIN], origin)
        assert "POST" in answer.headers["access-control-allow-methods"], answer.headers
        allowed = answer.headers["access-control-allow-headers"].lower()
        # The OpenAI client in a browser sends headers of its own.
        for name in ("authorization", "content-type", "x-stainless-os"):
            assert name in allowed, f"{name} is not allowed by {allowed}"
        # Errors, too, are shown to the page.
        for headers, path, status in (({}, "/v1/models", 401), ({"Authorization": "Bearer a"}, "/nothing", 404),
                                      ({"Authorization": "Bearer a"}, "/v1/models", 200)):
            answer = server.get(path, headers={"Origin": origin, **headers})
            equal(answer.status, status)
            equal(answer.headers.get(ALLOW_ORIGIN), origin, f"{status} {path}")
            equal(answer.headers["vary"], "Origin")
    for origin in ("https://good.example.evil.example", "http://good.example", "https://evil.example"):
        answer = server.get("/v1/models", headers={"Origin": origin, "Authorization": "Bearer a"})
        expect_error(answer, 403)
        assert ALLOW_ORIGIN not in answer.headers


@check("--metrics")
def page_has_a_strict_policy(server):
    page, again = server.get("/"), server.get("/")
    policy = page.headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    equal(rules["default-src"], "'none'")
    nonce = re.fullmatch("'nonce-([0-9a-f]{16,})'", rules["script-src"]).group(1)
    equal(rules["base-uri"], "'none'")
    equal(rules["frame-ancestors"], "'none'")
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy, policy
    assert nonce not in again.headers["content-security-policy"], "the nonce does not change"
    equal(page.headers["x-content-type-options"], "nosniff")
    html = page.body.decode()
    for tag in re.findall(r"<(?:script|style)\b[^>]*>", html):
        assert f'nonce="{nonce}"' in tag, tag
    assert not re.search(r"<[^>]+\s(on\w+|style)=", html), "an inline handler or style"
    assert not re.search(r"(src|href)=\"https?:", html), "a reference to a network"


@check("--metrics")
def headers_cannot_be_injected(server):
    for path in ("/%0d%0aX-Injected:%20a", "/v1/models/%0d%0aX-Injected:%20a", "/v1/models/a%00b", "/slots?a=%0d%0ab"):
        answer = server.get(path)
        assert "x-injected" not in answer.headers, answer.headers
    for origin in ("http://a\tX-Injected: b", "http://a%0d%0aX-Injected: b"):
        answer = server.get("/v1/models", headers={"Origin": origin})
        assert "x-injected" not in answer.headers and ALLOW_ORIGIN not in answer.headers, answer.headers
    answer = server.chat({**short(), "model": "a\r\nX-Injected: b"})
    equal(answer.status, 200)
    assert "x-injected" not in answer.headers
