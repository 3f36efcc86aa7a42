/** Boxes while they are drawn: which of them is chosen, and what can be undone. */

import { History } from "./history.js";

/** @typedef {import("./box_text.js").Box} Box */
/** @typedef {import("./box_text.js").Size} Size */

export class BoxModel {
    /** @type {History<Box[]>} */
    #history = new History();
    /** @type {Box[]} as they were last kept */
    #kept;
    /** @type {(() => void)[]} */
    #watchers = [];
    #keep;

    /**
     * @param {Box[]} boxes
     * @param {Size} photo
     * @param {(boxes: Box[]) => void} keep called with what is to be kept
     */
    constructor(boxes, photo, keep) {
        this.boxes = this.#kept = boxes;
        this.photo = photo;
        this.chosen = -1;
        this.#keep = keep;
    }

    /** @param {() => void} watcher called after every change */
    watch(watcher) {
        this.#watchers.push(watcher);
    }

    /** @param {number} index -1: none */
    choose(index) {
        if (index === this.chosen) return;
        this.chosen = index;
        this.#changed();
    }

    /** @param {number} index @param {Box} box shown, but not yet kept */
    show(index, box) {
        this.boxes = this.#kept.with(index, box);
        this.#changed();
    }

    /** @param {Box} box a new one, shown, but not yet kept */
    showNew(box) {
        this.boxes = [...this.#kept, box];
        this.chosen = this.#kept.length;
        this.#changed();
    }

    /** Back to what was kept. */
    cancel() {
        this.#restore(this.#kept);
    }

    /** Keeps what is shown, as one step. */
    keep() {
        if (JSON.stringify(this.boxes) === JSON.stringify(this.#kept)) return;
        this.#history.add(this.#kept);
        this.#kept = this.boxes;
        this.#keep(this.boxes);
        this.#changed();
    }

    /** @param {number} index @param {Box} box */
    set(index, box) {
        this.show(index, box);
        this.keep();
    }

    /** @param {Box} box */
    add(box) {
        this.showNew(box);
        this.keep();
    }

    /** @param {number} index */
    remove(index) {
        this.boxes = this.#kept.toSpliced(index, 1);
        this.chosen = Math.min(index, this.boxes.length - 1);
        this.keep();
    }

    get canUndo() {
        return this.#history.canUndo;
    }

    get canRedo() {
        return this.#history.canRedo;
    }

    undo() {
        this.#back(this.#history.undo(this.#kept));
    }

    redo() {
        this.#back(this.#history.redo(this.#kept));
    }

    /** @param {Box[] | undefined} boxes undefined: nothing changes */
    #back(boxes) {
        if (!boxes) return;
        this.#kept = boxes;
        this.#keep(boxes);
        this.#restore(boxes);
    }

    /** @param {Box[]} boxes */
    #restore(boxes) {
        this.boxes = boxes;
        this.chosen = Math.min(this.chosen, boxes.length - 1);
        this.#changed();
    }

    #changed() {
        for (const watcher of this.#watchers) watcher();
    }
}
