"""What a node of ours rejects, on that node, in plain words: before the run and while it runs."""

from __future__ import annotations

from typing import Any

import skimage.data

from frontends import Frontend
from graphs import queue, redaction, set_widget, upload
from newest import NEWEST

PHOTO = skimage.data.astronaut()[:384, 96:352]
ERRORS = """() => {
    const said = {}
    const look = graph => graph.nodes.forEach(node => {
        const panel = node.widgets?.find(widget => widget.name === 'camouflage_error')
        if (panel && !panel.hidden) said[node.type] = panel.element.querySelector('.camouflage-error-words').textContent
        if (node.subgraph) look(node.subgraph)
    })
    look(app.graph)
    return said
}"""
TELL = "([type, detail]) => window.comfyAPI.api.api.dispatchEvent(new CustomEvent(type, {detail}))"
UNPLUG = """([type, input]) => {
    const node = app.graph.nodes.find(node => node.type === type)
    node.disconnectInput(node.findInputSlot(input))
}"""
PLUG = """([from, to, input]) => {
    const find = type => app.graph.nodes.find(node => node.type === type)
    find(from).connect(0, find(to), find(to).findInputSlot(input))
}"""
SIZES = "() => Object.fromEntries(app.graph.nodes.map(node => [node.type, Math.round(node.size[1])]))"
SUBGRAPH = """type => {
    const node = app.graph.nodes.find(node => node.type === type)
    app.graph.convertToSubgraph(new Set([node]))
}"""
MISSING = """Verify: Weights for 'sface' are missing. 'python run.py weights get', in the folder of this extension, \
fetches them; or download them by hand. Then try again:
- https://example.org/sface.onnx?download=true
  to /models/camouflage/faces/sface.onnx  (37 MB, licence: Apache-2.0)
"""
OURS = "my.pack.camouflage.errors.CamouflageError"


def said(frontend: Frontend, *nodes: str) -> dict[str, str]:
    """Waits until these nodes, and no others, have something to say; what each says."""
    frontend.page.wait_for_function(f"nodes => Object.keys(({ERRORS})()).sort().join() === nodes.sort().join()",
                                    arg=list(nodes))
    return frontend.page.evaluate(ERRORS)


def close_the_hosts_dialog(frontend: Frontend) -> None:
    """Older frontends show a dialog over the page, which takes the clicks."""
    frontend.page.wait_for_timeout(300)
    for _ in range(frontend.page.get_by_role("dialog").count()):
        frontend.page.keyboard.press("Escape")
    frontend.page.get_by_role("dialog").first.wait_for(state="detached")


def test_what_is_rejected_stands_on_the_node_until_it_runs(frontend: Frontend) -> None:
    page = frontend.page
    upload(page, "errors.png", PHOTO)
    frontend.load(redaction("errors.png"))
    sizes = page.evaluate(SIZES)
    set_widget(frontend, "CamouflageVerify", "threshold", 3)
    page.evaluate(UNPLUG, ["CamouflageRedact", "image"])
    queue(frontend)
    assert said(frontend, "CamouflageRedact", "CamouflageVerify") == {
        "CamouflageRedact": "Connect 'image'.",
        "CamouflageVerify": "'threshold' must lie between 0 and 2, but is 3."}
    close_the_hosts_dialog(frontend)

    page.evaluate(PLUG, ["LoadImage", "CamouflageRedact", "image"])
    page.evaluate(UNPLUG, ["CamouflageVerify", "redacted"])
    page.evaluate(PLUG, ["LoadImage", "CamouflageVerify", "anonymized"])
    set_widget(frontend, "CamouflageVerify", "threshold", 0)
    set_widget(frontend, "CamouflageVerify", "policy", "block")
    queue(frontend)
    page.wait_for_function(f"() => ({ERRORS})().CamouflageVerify?.startsWith('Not anonymized: person 0 (')")
    assert list(said(frontend, "CamouflageVerify")) == ["CamouflageVerify"], "what was connected is no error any more"
    close_the_hosts_dialog(frontend)
    page.get_by_role("button", name="Remove this message").click()
    assert page.evaluate(ERRORS) == {}
    assert page.evaluate(SIZES)["CamouflageRedact"] == sizes["CamouflageRedact"], "as high as it was"

    queue(frontend)
    assert "recognisable" in said(frontend, "CamouflageVerify")["CamouflageVerify"]
    close_the_hosts_dialog(frontend)
    set_widget(frontend, "CamouflageVerify", "policy", "report")
    queue(frontend)
    refused = said(frontend, "CamouflageSaveImage")["CamouflageSaveImage"]
    assert "recognisable" in refused and "Error" not in refused and not refused.startswith("Save Anonymized")
    assert frontend.ours() == []


@NEWEST
def test_a_message_about_weights_has_links_and_leads_to_them_also_in_a_subgraph(frontend: Frontend) -> None:
    page = frontend.page
    frontend.load(redaction("example.png"))
    page.evaluate(SUBGRAPH, "CamouflageVerify")
    node = page.evaluate("""() => {
        const holder = app.graph.nodes.find(node => node.subgraph)
        return `${holder.id}:${holder.subgraph.nodes[0].id}`
    }""")

    def fails(kind: str = "CamouflageVerify", error: str = OURS) -> dict[str, Any]:
        page.evaluate(TELL, ["execution_error", {"node_id": node, "node_type": kind, "exception_type": error,
                                                 "exception_message": MISSING, "traceback": []}])
        return page.evaluate(ERRORS)

    page.evaluate(TELL, ["execution_interrupted", {"node_id": node, "node_type": "CamouflageVerify"}])
    assert page.evaluate(ERRORS) == {} == fails("KSampler") == fails(error="torch.OutOfMemoryError")
    assert fails() == {"CamouflageVerify": MISSING.removeprefix("Verify: ").strip()}
    panel = """([]) => app.graph.nodes.find(node => node.subgraph).subgraph.nodes[0].widgets
        .find(widget => widget.name === 'camouflage_error').element"""
    box = page.evaluate_handle(panel, []).as_element()
    assert [(link.get_attribute("href"), link.get_attribute("rel")) for link in box.query_selector_all("a")] == [
        ("https://example.org/sface.onnx?download=true", "noopener noreferrer")]
    box.query_selector(".camouflage-button").evaluate("button => button.click()")
    page.locator(".camouflage-weights").wait_for()
    page.evaluate(TELL, ["execution_cached", {"nodes": [node]}])
    assert page.evaluate(ERRORS) == {}


def error(kind: str, config: object = None, value: object = None, **more: object) -> dict[str, Any]:
    return {"type": kind, "message": "M", "details": more.pop("details", "D"), "extra_info": {
        "input_name": "x", "input_config": config, "received_value": value, **more}}


WORDS = [
    (error("required_input_missing"), "Connect 'x'."),
    (error("bad_linked_input"), "Connect 'x' again: its link leads nowhere."),
    (error("return_type_mismatch", ["IMAGE", {}], received_type="MASK"),
     "'x' takes IMAGE, but MASK is connected. Connect another output."),
    (error("value_smaller_than_min", ["FLOAT", {"min": 0, "max": 2}], -1), "'x' must lie between 0 and 2, but is -1."),
    (error("value_smaller_than_min", ["INT", {"min": 1}], 0), "'x' must be at least 1, but is 0."),
    (error("value_bigger_than_max", ["INT", {"max": 9}], 10), "'x' must be at most 9, but is 10."),
    (error("invalid_input_type", ["INT", {}], "many"), "'x' must be a whole number, but is many."),
    (error("value_not_in_list", [["a", "b"], {}], "c"), "'x' is 'c', but must be one of: a, b."),
    (error("value_not_in_list", ["COMBO", {"options": ["a"]}], "c"), "'x' is 'c', but must be one of: a."),
    (error("value_not_in_list", None, "c"), "'x' is 'c', which is not in its list. Choose another one."),
    (error("value_not_in_list", [["a.json"], {}], "b.json"),
     "'x': there is no file 'b.json' any more. Choose another one, or put it back and press R."),
    (error("value_not_in_list", [[], {}], ""),
     "There is nothing to choose for 'x'. Put the file into its folder, then press R to look again."),
    (error("custom_validation_failed", details="x - Choose a folder."), "Choose a folder."),
    (error("something_new"), "M: D"),
]


@NEWEST
def test_the_hosts_words_become_plain(frontend: Frontend) -> None:
    told = frontend.page.evaluate("""async errors => {
        const file = performance.getEntriesByType('resource').find(entry => entry.name.endsWith('/error_words.js')).name
        const {plainWords} = await import(file)
        return errors.map(error => plainWords(error, {widgets: []}))
    }""", [one for one, _ in WORDS])
    assert told == [words for _, words in WORDS]
