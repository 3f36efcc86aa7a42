"""The routes of the panel about weights, in a real server: only ComfyUI's own page, only what the registry knows."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from camouflage.provision.digests import KnownDigests
from camouflage.provision.state import PIPELINES, states
from camouflage.weights import REGISTRY

ROUTE = "/camouflage/weights"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def ask(server):
    """Sends a request as it is, without the tidying of a browser; status and JSON, or text."""
    def send(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
             ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(server.address, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()
    return send


def test_the_facts_are_those_of_the_disk(ask, server, miniature_models, cache):
    status, facts = ask("GET", ROUTE)
    assert status == 200 and facts["work"] is None and facts["last"] is None, "nothing happens by itself"
    own = server.run_folder / "models"
    known = KnownDigests(cache / "digests")
    listed = states(REGISTRY, lambda key: [own / key, miniature_models / key], known)
    assert [(file["file"], file["state"], file["size_on_disk"]) for file in facts["files"]] == [
        (file.weight.path, file.state, file.size) for file in listed]
    assert {file["elsewhere"] for file in facts["files"] if file["size_on_disk"]} == {True}
    assert [entry["name"] for entry in facts["pipelines"]] == [*PIPELINES, "all"]
    assert all(entry["title"] for entry in facts["pipelines"][:-1]) and facts["free"] > 0
    told = json.dumps(facts)
    assert not any(str(folder) in told for folder in (own, miniature_models, cache, server.comfyui))
    assert ask("GET", f"/api{ROUTE}")[1]["files"] == facts["files"]


HUGE = b'{"pipelines": ["base"], "x": "' + b"x" * 5000 + b'"}'


@pytest.mark.parametrize(("what", "body", "headers", "status", "said"), [
    ("get", b"{}", JSON, 400, "'pipelines' must name what to download: base"),
    ("get", b'{"pipelines": []}', JSON, 400, "'pipelines' must name"),
    ("get", b'{"pipelines": "base"}', JSON, 400, "'pipelines' must be a list"),
    ("get", b'{"pipelines": ["../../etc"]}', JSON, 400, "There is no pipeline '../../etc'"),
    ("get", b'{"pipelines": ["base"], "models": "/tmp"}', JSON, 400, "models: not known here"),
    ("get", b'{"pipelines": ["base"], "mirror": "http://evil.example"}', JSON, 400, "mirror: not known here"),
    ("get", b'{"pipelines": ["base"], "commercial_safe": "no"}', JSON, 400, "must be true or false"),
    ("verify", b'["base"]', JSON, 400, "must be a JSON object"),
    ("verify", b"{", JSON, 400, "must be JSON"),
    ("verify", b"[" * 4000, JSON, 400, "must be"),
    ("stop", b'{"now": true}', JSON, 400, "now: not known here"),
    ("get", HUGE, JSON, 413, "at most 4096 bytes"),
    ("get", b'{"pipelines": ["base"]}', {"Content-Type": "text/plain"}, 415, "application/json"),
    ("get", b'{"pipelines": ["base"]}', {}, 415, "application/json"),
    ("get", b'{"pipelines": ["base"]}', {**JSON, "Sec-Fetch-Site": "cross-site"}, 403, "own page"),
    ("get", b'{"pipelines": ["base"]}', {**JSON, "Host": "comfy.example", "Origin": "http://evil.example"}, 403,
     "own page"),
    ("get", b'{"pipelines": ["base"]}', {**JSON, "Host": "comfy.example", "Origin": "null"}, 403, "own page")])
def test_what_is_refused(ask, what, body, headers, status, said):
    for prefix in ("", "/api"):
        answered, content = ask("POST", f"{prefix}{ROUTE}/{what}", body, headers)
        assert answered == status and said in content["error"], content
    assert ask("GET", ROUTE)[1]["work"] is None


def test_a_body_without_a_length_is_measured_too(server, ask):
    connection = http.client.HTTPConnection(server.address, timeout=30)
    connection.request("POST", f"{ROUTE}/get", iter([HUGE[:3000], HUGE[3000:]]), JSON, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("path", [
    "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/get/../../../etc/passwd",
    "/x", "/get/x", "/%00", "//etc/passwd"])
def test_nothing_lies_below_the_routes(ask, path):
    for method in ("GET", "POST"):
        status, content = ask(method, ROUTE + path, b"{}", JSON)
        assert status in (404, 405) and "root:" not in str(content)


def test_another_page_does_not_get_the_facts_either(ask):
    assert ask("GET", ROUTE, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask("GET", ROUTE, headers={"Host": "comfy.example", "Origin": "http://evil.example"})[0] == 403
    assert ask("GET", ROUTE, headers={"Origin": "http://evil.example"})[0] == 403, "the host's own refusal"
    assert ask("POST", ROUTE, b"{}", JSON)[0] == 405
    assert ask("GET", f"{ROUTE}?models=/etc")[0] == 400


def test_its_own_page_may_order(ask, server):
    own = {**JSON, "Origin": f"http://{server.address}", "Sec-Fetch-Site": "same-origin"}
    assert ask("POST", f"{ROUTE}/stop", b"{}", own) == (200, {"work": None, "last": None})
