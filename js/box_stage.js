/** The photo with boxes on it, to draw, move and resize with mouse, pen, touch and keys. */

import { element } from "./elements.js";
import { t } from "./texts.js";
import { HANDLES, between, inTheMiddle, inside, moved, resized } from "./box_geometry.js";
import { outside } from "./box_text.js";

/** @typedef {import("./box_text.js").Box} Box */
/** @typedef {import("./box_geometry.js").Point} Point */
/** @typedef {import("./box_geometry.js").Handle} Handle */
/** @typedef {import("./box_model.js").BoxModel} BoxModel */

const LEAST_DRAWN = 4;  // px of the screen; less is a click
const CLOSEST = 16;  // px of the screen for one of the photo
const MARGIN = 40;  // px of the screen around a box that is brought into view
const MIDDLE_BUTTON = 1;

export class BoxStage {
    #view = { scale: 1, x: 0, y: 0 };
    #whole = true;
    /** @type {HTMLInputElement[]} */
    #buttons = [];
    /** @type {HTMLElement[]} */
    #numbers = [];
    /** @type {Map<number, Point>} */
    #pointers = new Map();
    /** @type {((to: Point) => void) | null} what a drag does; `to` in px of the photo */
    #drag = null;
    #panned = { x: 0, y: 0 };

    /**
     * @param {BoxModel} model
     * @param {HTMLImageElement} image of the photo
     */
    constructor(model, image) {
        this.model = model;
        this.image = image;
        image.className = "camouflage-boxes-photo";
        image.alt = "";
        image.draggable = false;
        this.handles = HANDLES.map(handle =>
            element("span", { className: "camouflage-box-handle", "data-handle": handle }));
        this.surface = element("input", {
            type: "button", className: "camouflage-boxes-surface",
            "aria-label": t("The photo: draw with the pointer, or press Enter for a box in the middle"),
            onclick: (/** @type {MouseEvent} */ event) => event.detail === 0 && this.addBox(),
        });
        this.element = element("div", {
            className: "camouflage-boxes-stage",
            onpointerdown: this.#down.bind(this), onpointermove: this.#move.bind(this),
            onpointerup: this.#up.bind(this), onpointercancel: this.#up.bind(this),
        }, this.surface, image, ...this.handles);
        this.element.addEventListener("wheel", event => {
            event.preventDefault();
            this.zoom(1.0015 ** -event.deltaY, this.#local(event));
        }, { passive: false });
        model.watch(() => this.render());
        this.resizing = new ResizeObserver(() => this.#whole ? this.showAll() : this.render());
        this.resizing.observe(this.element);
    }

    get dragging() {
        return this.#drag !== null;
    }

    // --- the view

    /** Shows the whole photo. */
    showAll() {
        const { clientWidth: width, clientHeight: height } = this.element;
        const scale = Math.min(width / this.model.photo.width, height / this.model.photo.height) || 1;
        this.#view = {
            scale, x: (width - this.model.photo.width * scale) / 2, y: (height - this.model.photo.height * scale) / 2,
        };
        this.#whole = true;
        this.render();
    }

    /**
     * @param {number} factor more than 1: closer
     * @param {Point} [at] px of the stage, which stay where they are
     */
    zoom(factor, at = this.#centre()) {
        const whole = Math.min(this.element.clientWidth / this.model.photo.width,
            this.element.clientHeight / this.model.photo.height);
        const scale = Math.min(Math.max(this.#view.scale * factor, whole), Math.max(CLOSEST, whole));
        if (scale === whole) return this.showAll();
        const ratio = scale / this.#view.scale;
        this.#view = { scale, x: at.x - (at.x - this.#view.x) * ratio, y: at.y - (at.y - this.#view.y) * ratio };
        this.#whole = false;
        this.render();
    }

    /** @returns {Point} px of the stage: of the chosen box, or of the stage */
    #centre() {
        const chosen = this.model.boxes[this.model.chosen];
        const { x, y, width, height } = chosen ? this.#onStage(chosen)
            : { x: 0, y: 0, width: this.element.clientWidth, height: this.element.clientHeight };
        return { x: x + width / 2, y: y + height / 2 };
    }

    /** @param {number} index of the box that must be seen */
    bringIntoView(index) {
        const { x, y, width, height } = this.#onStage(this.model.boxes[index]);
        const shift = (/** @type {number} */ start, /** @type {number} */ size, /** @type {number} */ room) =>
            start < 0 || start + size > room ? (size + 2 * MARGIN < room ? Math.min(Math.max(start, MARGIN),
                room - size - MARGIN) - start : (room - size) / 2 - start) : 0;
        this.#view.x += shift(x, width, this.element.clientWidth);
        this.#view.y += shift(y, height, this.element.clientHeight);
        this.render();
    }

    /** A new box in the middle of what is seen. */
    addBox() {
        const first = this.#onPhoto({ x: 0, y: 0 });
        const last = this.#onPhoto({ x: this.element.clientWidth, y: this.element.clientHeight });
        this.model.add(inTheMiddle(between(first, last, this.model.photo), this.model.photo));
        this.focus();
    }

    /** @param {Box} box @returns {Box} px of the stage */
    #onStage({ x, y, width, height }) {
        const { scale, x: left, y: top } = this.#view;
        return { x: left + x * scale, y: top + y * scale, width: width * scale, height: height * scale };
    }

    /** @param {Point} at px of the stage @returns {Point} px of the photo */
    #onPhoto({ x, y }) {
        return { x: (x - this.#view.x) / this.#view.scale, y: (y - this.#view.y) / this.#view.scale };
    }

    /** @param {MouseEvent} event @returns {Point} px of the stage */
    #local(event) {
        const { left, top } = this.element.getBoundingClientRect();
        return { x: event.clientX - left - this.element.clientLeft, y: event.clientY - top - this.element.clientTop };
    }

    render() {
        const { boxes, chosen, photo } = this.model;
        const { scale, x, y } = this.#view;
        this.image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
        while (this.#buttons.length < boxes.length) this.#addButton(this.#buttons.length);
        this.#buttons.splice(boxes.length).forEach(gone => gone.remove());
        this.#numbers.splice(boxes.length).forEach(gone => gone.remove());
        const bySize = [...boxes.keys()].sort((a, b) => area(boxes[b]) - area(boxes[a]));  // small ones lie above
        boxes.forEach((box, index) => {
            const button = this.#buttons[index], number = this.#numbers[index];
            const away = outside(box, photo);
            place(button, this.#onStage(box), bySize.indexOf(index) + 1);
            place(number, { ...this.#onStage(box), width: NaN, height: NaN }, boxes.length + 1);
            for (const part of [button, number]) {
                part.classList.toggle("camouflage-chosen", index === chosen);
                part.classList.toggle("camouflage-outside", away);
            }
            button.setAttribute("aria-label", boxInWords(box, index, away));
        });
        this.handles.forEach((handle, which) => {
            handle.hidden = chosen < 0;
            if (chosen < 0) return;
            const on = this.#onStage(boxes[chosen]), name = HANDLES[which];
            const across = name.includes("w") ? 0 : name.includes("e") ? 1 : 0.5;
            const down = name.includes("n") ? 0 : name.includes("s") ? 1 : 0.5;
            place(handle, { x: on.x + on.width * across, y: on.y + on.height * down, width: NaN, height: NaN },
                boxes.length + 2);
        });
    }

    /** @param {number} index */
    #addButton(index) {
        // An input, and no button: the frontend takes Ctrl+Z for its own unless the focus is on an input.
        const button = element("input", {
            type: "button", className: "camouflage-box", onfocus: () => {
                this.model.choose(index);
                if (!this.dragging) this.bringIntoView(index);
            },
        });
        const number = element("span", { className: "camouflage-box-number", "aria-hidden": true }, String(index + 1));
        this.#buttons.push(button);
        this.#numbers.push(number);
        this.element.insertBefore(button, this.handles[0]);
        this.element.insertBefore(number, this.handles[0]);
    }

    /** The focus goes to the chosen box, else to the photo. */
    focus() {
        (this.#buttons[this.model.chosen] ?? this.surface).focus({ preventScroll: true });
    }

    // --- pointers

    /** @param {PointerEvent} event */
    #down(event) {
        event.preventDefault();
        this.element.setPointerCapture(event.pointerId);
        this.#pointers.set(event.pointerId, this.#local(event));
        if (this.#pointers.size > 1) return this.cancelDrag();  // two fingers zoom
        if (event.button > MIDDLE_BUTTON) return;
        this.#drag = () => {};
        this.#drag = event.button === MIDDLE_BUTTON ? this.#panning(event) : this.#dragOf(event);
    }

    /** @param {PointerEvent} event */
    #panning(event) {
        this.#panned = this.#local(event);
        return () => {};
    }

    /**
     * What a drag that begins here does.
     *
     * @param {PointerEvent} event
     * @returns {(to: Point) => void}
     */
    #dragOf(event) {
        const { model } = this;
        const from = this.#onPhoto(this.#local(event));
        const target = /** @type {HTMLElement} */ (event.target);
        const handle = /** @type {Handle | undefined} */ (target.dataset.handle);
        const index = handle ? model.chosen : this.#buttons.indexOf(/** @type {HTMLInputElement} */ (target));
        if (index >= 0) {
            model.choose(index);
            this.focus();
            const box = inside(model.boxes[index], model.photo);
            return to => model.show(index, handle
                ? resized(box, handle, to.x - from.x, to.y - from.y, model.photo)
                : moved(box, to.x - from.x, to.y - from.y, model.photo));
        }
        model.choose(-1);
        this.focus();
        const least = LEAST_DRAWN / this.#view.scale;
        return to => {
            if (Math.abs(to.x - from.x) >= least && Math.abs(to.y - from.y) >= least) {
                model.showNew(between(from, to, model.photo));
            }
        };
    }

    /** @param {PointerEvent} event */
    #move(event) {
        const before = this.#pointers.get(event.pointerId);
        if (!before) return;
        const now = this.#local(event);
        if (this.#pointers.size === 2) this.#pinch(event.pointerId, before, now);
        this.#pointers.set(event.pointerId, now);
        if (event.buttons & 4) {
            this.#pan(now.x - this.#panned.x, now.y - this.#panned.y);
            this.#panned = now;
        } else this.#drag?.(this.#onPhoto(now));
    }

    /** @param {number} dx @param {number} dy px of the stage */
    #pan(dx, dy) {
        this.#view.x += dx;
        this.#view.y += dy;
        this.#whole = false;
        this.render();
    }

    /** @param {number} pointer @param {Point} before @param {Point} now */
    #pinch(pointer, before, now) {
        const [, other] = /** @type {[number, Point]} */ ([...this.#pointers].find(([id]) => id !== pointer));
        const distance = (/** @type {Point} */ at) => Math.max(1, Math.hypot(at.x - other.x, at.y - other.y));
        this.zoom(distance(now) / distance(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
        this.#pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    }

    /** @param {PointerEvent} event */
    #up(event) {
        this.#pointers.delete(event.pointerId);
        if (event.type === "pointercancel") return this.cancelDrag();
        if (!this.#drag) return;
        this.#drag = null;
        this.model.keep();
        this.focus();
    }

    /** The boxes are again as they were before the drag. */
    cancelDrag() {
        this.#drag = null;
        this.model.cancel();
    }
}

/** @param {Box} box */
const area = box => box.width * box.height;

/** @param {HTMLElement} part @param {Box} at px; NaN leaves a size alone @param {number} level */
function place(part, at, level) {
    Object.assign(part.style, {
        left: `${at.x}px`, top: `${at.y}px`, zIndex: String(level),
        width: Number.isNaN(at.width) ? "" : `${at.width}px`, height: Number.isNaN(at.height) ? "" : `${at.height}px`,
    });
}

/** @param {Box} box @param {number} index @param {boolean} away */
function boxInWords({ x, y, width, height }, index, away) {
    const words = t("Box {number}: {width} x {height} px at {x}, {y}", {
        number: index + 1, x: Math.round(x), y: Math.round(y), width: Math.round(width), height: Math.round(height),
    });
    return away ? `${words}. ${t("It lies outside of the photo.")}` : words;
}
