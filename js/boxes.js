/** 'Faces By Hand': a small picture of the boxes on the node, and the dialog in which they are drawn. */

import { cannotDraw, warnings } from "./box_notes.js";
import { drawIn, writeIn } from "./box_dialog.js";
import { onPhoto, outside, read, write } from "./box_text.js";
import { sourceOf } from "./box_source.js";
import { addPanel, after, api, app, asOneStep, follow, grow, setWidget, widgetOf } from "./host.js";
import { element, loadStyle } from "./elements.js";
import { t } from "./texts.js";

/** @typedef {import("./box_text.js").Box} Box */
/** @typedef {import("./box_text.js").Size} Size */

const NODE = "CamouflageFacesByHand";
const THUMBNAIL = { width: 480, height: 300 };  // px that are drawn; it is shown half as large
const BUTTON_HEIGHT = 42, LINE_HEIGHT = 18, LETTER_WIDTH = 6.5;

loadStyle("boxes.css");

/** @type {Set<FacesByHand>} */
const shown = new Set();

/** @param {string} address @returns {Promise<HTMLImageElement>} */
async function load(address) {
    const image = new Image();
    image.src = address;
    await image.decode();
    return image;
}

class FacesByHand {
    #drawn = "";
    /** @type {{address: string, size: Size, picture: HTMLCanvasElement} | null} */
    #photo = null;
    /** @type {HTMLDialogElement | null} */
    #dialog = null;

    /** @param {HostNode} node */
    constructor(node) {
        this.node = node;
        this.text = /** @type {HostWidget} */ (widgetOf(node, "boxes"));
        this.fit = /** @type {HostWidget} */ (widgetOf(node, "fit"));
        this.canvas = element("canvas", { className: "camouflage-boxes-thumbnail", role: "img", hidden: true });
        this.note = element("p", { className: "camouflage-boxes-note", role: "status" });
        const draw = element("button", { className: "camouflage-button", onclick: () => this.open() },
            t("Draw faces…"));
        this.panel = element("div", { className: "camouflage-node-panel camouflage-boxes-panel" }, draw, this.canvas, this.note);
        addPanel(node, "camouflage_boxes", this.panel, () => this.height());
        for (const widget of [this.text, this.fit]) follow(widget, () => this.refresh());
        after(node, "onConfigure", () => this.refresh());
        after(node, "onConnectionsChange", () => this.refresh());
        after(node, "onRemoved", () => this.remove());
        shown.add(this);
        this.refresh();
    }

    height() {
        const letters = Math.max(20, (this.node.size[0] - 40) / LETTER_WIDTH);
        const lines = (this.note.textContent ?? "").split("\n").filter(Boolean)
            .reduce((count, line) => count + Math.ceil(line.length / letters), 0);
        return BUTTON_HEIGHT + (this.canvas.hidden ? 0 : this.canvas.height / 2 + 6) + lines * LINE_HEIGHT;
    }

    /** Shows the boxes as they are now; links are known only after everything has been loaded. */
    refresh() {
        setTimeout(() => this.#show(), 0);
    }

    async #show() {
        if (!shown.has(this)) return;
        const source = sourceOf(this.node);
        const state = JSON.stringify([source, this.text.value, this.fit.value]);
        if (state === this.#drawn) return;
        this.#drawn = state;
        const photo = await this.#photoAt(source.address);
        if (state !== this.#drawn) return;
        const written = read(this.text.value);
        const reason = cannotDraw(written, source)
            ?? (photo ? null : t("The photo cannot be shown. Choose it again in 'Load Image'."));
        this.canvas.hidden = !photo || Boolean(reason);
        if (photo && !reason) {
            const { boxes } = onPhoto(written, photo.size);
            this.#paint(photo, boxes);
            this.canvas.setAttribute("aria-label", t("The photo with {count} boxes", { count: boxes.length }));
        }
        this.note.textContent = reason
            ?? warnings(written, source, /** @type {any} */ (photo).size, this.fit.value).join("\n");
        grow(this.node);
    }

    /** @param {string | null} address */
    async #photoAt(address) {
        if (this.#photo?.address === address) return this.#photo;
        this.#photo = null;
        if (!address) return null;
        try {
            const image = await load(address);
            const size = { width: image.naturalWidth, height: image.naturalHeight };
            const scale = Math.min(THUMBNAIL.width / size.width, THUMBNAIL.height / size.height);
            const picture = element("canvas", { width: Math.max(1, Math.round(size.width * scale)),
                height: Math.max(1, Math.round(size.height * scale)) });
            picture.getContext("2d")?.drawImage(image, 0, 0, picture.width, picture.height);
            this.#photo = { address, size, picture };
        } catch {  // no such file any more, or no picture
            return null;
        }
        return this.#photo;
    }

    /** @param {{size: Size, picture: HTMLCanvasElement}} photo @param {Box[]} boxes */
    #paint({ size, picture }, boxes) {
        this.canvas.width = picture.width;
        this.canvas.height = picture.height;
        const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
        context.drawImage(picture, 0, 0);
        const scale = picture.width / size.width;
        for (const box of boxes) {
            const away = outside(box, size);
            const seen = away ? { x: 0, y: 0, width: size.width, height: size.height } : box;
            const [x, y, width, height] = [seen.x, seen.y, seen.width, seen.height].map(value => value * scale);
            context.setLineDash(away ? [8, 8] : []);
            for (const [line, colour] of /** @type {const} */ ([[6, "#000"], [3, away ? "#ff5a4e" : "#ffd24a"]])) {
                context.lineWidth = line;
                context.strokeStyle = colour;
                context.strokeRect(x, y, width, height);
            }
        }
    }

    async open() {
        const source = sourceOf(this.node);
        const written = read(this.text.value);
        const reason = cannotDraw(written, source);
        if (reason || !source.address) {
            this.#dialog = writeIn(reason ?? "", this.text.value, text => this.#keep(text));
            return;
        }
        /** @type {HTMLImageElement} */
        let image;
        try {
            image = await load(source.address);
        } catch {
            this.#dialog = writeIn(t("The photo cannot be shown. Choose it again in 'Load Image'."), this.text.value,
                text => this.#keep(text));
            return;
        }
        const size = { width: image.naturalWidth, height: image.naturalHeight };
        const { boxes } = onPhoto(written, size);
        this.#dialog = drawIn(image, boxes, changed => this.#keep(write(changed, size), source.fit),
            warnings(written, source, size, source.fit ?? this.fit.value));
    }

    /** @param {string} text @param {string | null} [fit] as 'Prepare Image' has it */
    #keep(text, fit = null) {
        asOneStep(() => {
            setWidget(this.text, text);
            if (fit && fit !== this.fit.value) setWidget(this.fit, fit);
        });
    }

    remove() {
        shown.delete(this);
        this.#dialog?.close();
        this.#photo = null;
    }
}

const refreshAll = () => shown.forEach(panel => panel.refresh());

app.registerExtension({
    name: "camouflage.boxes",
    setup() {
        api.addEventListener("graphChanged", refreshAll);
    },
    nodeCreated(node) {
        if (node.comfyClass === NODE) new FacesByHand(node);
    },
    afterConfigureGraph: refreshAll,
});
