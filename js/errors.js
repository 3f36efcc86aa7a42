/** What a node of ours rejects, on that node, in plain words with the fix; the host's own dialog stays as it is. */

import { api, app, nodeOf } from "./host.js";
import { element } from "./elements.js";
import { plainWords } from "./error_words.js";
import { makePanel } from "./panel.js";
import { t } from "./texts.js";
import { openWeights } from "./weights.js";

const OURS = "Camouflage";
const WEIGHTS = /weights get/;  // the command, in every message about missing weights
const ADDRESS = /(https?:\/\/[^\s)]*[^\s).,;:])/;
const LOOK_EVERY = 200;  // ms, while the host is asked whether it takes a prompt
const LOOK_FOR = 20_000;

/** @typedef {"input" | "run"} When an input was refused before anything ran, or the node failed */

/** @type {Map<HostNode, {panel: import("./panel.js").Panel, when: When}>} */
const shown = new Map();
/** @type {WeakMap<HostNode, import("./panel.js").Panel>} */
const panels = new WeakMap();

/**
 * @param {HostNode} node
 * @param {string} text paragraphs, one a line
 * @param {When} when
 */
function show(node, text, when) {
    const panel = panels.get(node) ?? makePanel(node, "camouflage_error");
    panels.set(node, panel);
    shown.set(node, { panel, when });
    const words = element("div", { className: "camouflage-error-words" }, ...withLinks(text));
    for (const type of ["keydown", "copy", "pointerdown"]) {  // selecting and copying is not for the canvas
        words.addEventListener(type, event => event.stopPropagation());
    }
    words.addEventListener("wheel", event => {
        if (words.scrollHeight > words.clientHeight) event.stopPropagation();
    });
    const close = element("button", { className: "camouflage-close", "aria-label": t("Remove this message"),
        onclick: () => hide(node) }, "×");
    const box = element("div", { className: "camouflage-error", role: "alert" }, words, close);
    if (WEIGHTS.test(text)) {
        box.append(element("button", { className: "camouflage-button", onclick: openWeights }, t("Open weights")));
    }
    panel.show(box);
}

/** @param {HostNode} node */
function hide(node) {
    shown.get(node)?.panel.show();
    shown.delete(node);
}

/** @param {string} text */
const withLinks = text => text.split(ADDRESS).map((part, index) => (index % 2
    ? element("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part) : part));

/**
 * What an error of execution says: our nodes begin it with their name, which is above the panel anyway.
 *
 * @param {{exception_message: string, exception_type: string}} error
 */
function sentence({ exception_message: message, exception_type: type }) {
    return (type.includes("camouflage.") ? message.replace(/^[^:'".]+: /, "") : message).trim();
}

/** Shows what the host refused of the prompt, in place of what it refused before. */
function showRefused() {
    for (const [node, { when }] of shown) if (when === "input") hide(node);
    for (const [id, { class_type: type, errors }] of Object.entries(app.lastNodeErrors ?? {})) {
        const node = type.startsWith(OURS) && errors.length ? nodeOf(id) : null;
        if (node) show(node, errors.map((/** @type {any} */ error) => plainWords(error, node)).join("\n"), "input");
    }
}

/**
 * Newer frontends say that a prompt is on its way, and then nothing when it is refused.
 *
 * @param {number} until
 */
function lookForRefusal(until) {
    if (Object.keys(app.lastNodeErrors ?? {}).length) showRefused();
    else if (performance.now() < until && waiting) waiting = setTimeout(lookForRefusal, LOOK_EVERY, until);
}
let waiting = 0;

app.registerExtension({
    name: "camouflage.errors",
    setup() {
        api.addEventListener("promptQueueing", () => {
            clearTimeout(waiting);
            waiting = setTimeout(lookForRefusal, LOOK_EVERY, performance.now() + LOOK_FOR);
        });
        api.addEventListener("promptQueued", () => {
            clearTimeout(waiting);
            waiting = 0;
            showRefused();
        });
        api.addEventListener("execution_error", ({ detail }) => {
            const memory = /OutOfMemory/.test(detail.exception_type);  // the host explains that one
            const node = detail.node_type?.startsWith(OURS) && !memory ? nodeOf(detail.node_id) : null;
            if (node) show(node, sentence(detail), "run");
        });
        api.addEventListener("executing", ({ detail }) => clear(detail === null ? [] : [detail]));
        api.addEventListener("execution_cached", ({ detail }) => clear(detail.nodes));
    },
    afterConfigureGraph: () => shown.clear(),
});

/** @param {string[]} ids of nodes that run now, or need not */
function clear(ids) {
    for (const node of ids.map(nodeOf)) if (node) hide(node);
}
