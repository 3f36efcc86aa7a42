/** 'Edit Attributes': a button on the node that opens the editor, once it is known who is in the pictures. */

import { AttributeModel } from "./attribute_model.js";
import { missing, scopeOf } from "./attribute_edits.js";
import { openEditor } from "./attribute_dialog.js";
import { read } from "./attribute_text.js";
import { whoIs } from "./attribute_words.js";
import { element, loadStyle } from "./elements.js";
import {
    addPanel, after, api, app, asOneStep, follow, grow, nodeOf, setWidget, sourcePictures, widgetOf,
} from "./host.js";
import { t } from "./texts.js";

/** @typedef {import("./attribute_pictures.js").Picture} Picture */
/** @typedef {{camouflage_faces: Picture[], camouflage_presets: Record<string, string[]>[]}} Facts of the node */

const NODE = "CamouflageEditAttributes";
const FRAME = 26, BUTTON_HEIGHT = 36, LINE_HEIGHT = 18, LETTER_WIDTH = 6.5;
const RUNS = 50;  // of the server's history, the newest

loadStyle("attributes.css");

/** @param {HostNode} node @param {string} name */
const slotOf = (node, name) => node.inputs?.find(slot => slot.name === name);

/**
 * What nodes gave last, and from which pictures, by graph and id: the frontend's undo makes nodes anew.
 *
 * @type {Map<string, {facts: Facts, addresses: string[] | null}>}
 */
const known = new Map();

/** @type {Map<HostNode, EditAttributes>} */
const shown = new Map();

class EditAttributes {
    /** @type {HTMLDialogElement | null} */
    #dialog = null;

    /** @param {HostNode} node */
    constructor(node) {
        this.node = node;
        this.edits = /** @type {HostWidget} */ (widgetOf(node, "edits"));
        this.preset = /** @type {HostWidget} */ (widgetOf(node, "preset"));
        this.button = element("button", { className: "camouflage-button", onclick: () => this.open(), hidden: true });
        this.note = element("p", { className: "camouflage-attribute-note", role: "status" });
        addPanel(node, "camouflage_attributes",
            element("div", { className: "camouflage-node-panel camouflage-attribute-panel" }, this.button, this.note), () => this.height());
        for (const widget of [this.edits, this.preset]) follow(widget, () => this.refresh());
        after(node, "onExecuted", output => this.learn(output));
        after(node, "onConfigure", () => this.refresh());
        after(node, "onConnectionsChange", () => this.refresh());
        after(node, "onRemoved", () => this.remove());
        shown.set(node, this);
        this.refresh();
    }

    height() {
        const letters = Math.max(20, (this.node.size[0] - 40) / LETTER_WIDTH);
        const lines = Math.ceil((this.note.textContent ?? "").length / letters);
        return FRAME + (this.button.hidden ? 0 : BUTTON_HEIGHT) + lines * LINE_HEIGHT;
    }

    /** @param {any} output of the node */
    learn(output) {
        if (!output?.camouflage_faces) return;
        known.set(this.#key, { facts: output, addresses: sourcePictures(this.node) });
        this.#show();
    }

    get #key() {
        return `${this.node.graph?.id}:${this.node.id}`;
    }

    get facts() {
        return known.get(this.#key)?.facts;
    }

    /** Shows the node as it is now; what it gave is known only after everything has been loaded. */
    refresh() {
        setTimeout(() => this.#show(), 0);
    }

    #show() {
        if (!shown.has(this.node)) return;
        const { facts } = this;
        const count = facts?.camouflage_faces.reduce((sum, { persons }) => sum + persons.length, 0) ?? 0;
        this.button.hidden = !facts;
        this.button.textContent = count === 1 ? t("Edit 1 person") : t("Edit {count} persons", { count });
        const note = facts ? this.#problems(facts) : t("Run the workflow once: then every face has a card here.");
        if (note === this.note.textContent) return;
        this.note.textContent = note;
        grow(this.node);
    }

    /** @param {Facts} facts */
    #problems({ camouflage_faces: pictures, camouflage_presets: [presets] }) {
        const { edits, problem } = read(this.edits.value, Object.keys(presets));
        if (problem !== null) return problem;
        const gone = missing(edits, pictures.map(({ persons }) => persons.length))
            .map(name => whoIs(scopeOf(name), pictures.length > 1 || name.includes(":")));
        return gone.length ? t("Not found now: {persons}.", { persons: gone.join("; ") }) : "";
    }

    open() {
        const last = known.get(this.#key);
        if (!last) return;
        const { camouflage_faces: pictures, camouflage_presets: [presets] } = last.facts;
        const linked = ["edits", "preset"].filter(name => (slotOf(this.node, name)?.link ?? null) !== null);
        const model = new AttributeModel({ text: this.edits.value, preset: this.preset.value }, presets,
            pictures.map(({ persons }) => persons.length), linked.length ? null : kept => this.#keep(kept));
        const addresses = sourcePictures(this.node);
        const same = JSON.stringify(addresses) === JSON.stringify(last.addresses);
        const notices = linked.map(name => t("'{name}' is connected: what comes from there counts, and nothing can be "
            + "changed here.", { name }));
        if (!same) notices.push(t("There is another picture now. Run the workflow to see its persons."));
        this.#dialog = openEditor(model, pictures, same && addresses?.length === pictures.length ? addresses : null,
            this.preset.options.values, notices);
        this.#dialog.addEventListener("close", () => this.button.focus());
    }

    /** @param {import("./attribute_model.js").Kept} kept */
    #keep({ text, preset }) {
        asOneStep(() => {
            if (text !== this.edits.value) setWidget(this.edits, text);
            if (preset !== this.preset.value) setWidget(this.preset, preset);
        });
    }

    remove() {
        shown.delete(this.node);
        this.#dialog?.close();
    }
}

/**
 * What a node gave in its last run: the host does not tell it again to a page that was opened later, where all that
 * needs the node is still in its cache.
 *
 * @param {string} id as the server calls the node
 * @returns {Promise<Facts | undefined>}
 */
async function lastOutput(id) {
    const history = await (await api.fetchApi(`/history?max_items=${RUNS}`)).json();
    return Object.values(history).reverse().filter(({ prompt }) => prompt[2][id]?.class_type === NODE)
        .map(({ outputs }) => outputs[id]).find(output => output?.camouflage_faces);
}

/** @param {string[]} ids of nodes that are not run again, as nothing has changed for them */
function recall(ids) {
    for (const id of ids) {
        const node = nodeOf(id);
        const panel = node && shown.get(node);
        if (panel && !panel.facts) lastOutput(id).then(output => panel.learn(output));
    }
}

const refreshAll = () => shown.forEach(panel => panel.refresh());

app.registerExtension({
    name: "camouflage.attributes",
    setup() {
        api.addEventListener("graphChanged", refreshAll);
        api.addEventListener("execution_cached", ({ detail }) => recall(detail.nodes));
        api.addEventListener("camouflage.faces", ({ detail }) => {
            const node = nodeOf(detail.node);
            if (node) shown.get(node)?.learn(detail.output);
        });
    },
    nodeCreated(node) {
        if (node.comfyClass === NODE) new EditAttributes(node);
    },
    afterConfigureGraph: refreshAll,
});
