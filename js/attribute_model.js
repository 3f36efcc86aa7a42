/** Text and preset of 'Edit Attributes' while they are edited, and what can be undone. */

import { changed, cleared, givenToAll, without } from "./attribute_edits.js";
import { NOTHING, read, write } from "./attribute_text.js";
import { History } from "./history.js";

/** @typedef {import("./attribute_edits.js").Known} Known */
/** @typedef {import("./attribute_edits.js").Scope} Scope */
/** @typedef {import("./attribute_text.js").Change} Change */
/** @typedef {{text: string, preset: string}} Kept as the node's widgets have them */

export class AttributeModel {
    /** @type {History<Kept>} */
    #history = new History();
    /** @type {(() => void)[]} */
    #watchers = [];
    /** @type {Kept} */
    #now;
    #keep;
    /** @type {{edits: import("./attribute_text.js").Edits | null, problem: string | null}} */
    #understood;

    /**
     * @param {Kept} now
     * @param {Record<string, string[]>} presets what each keeps
     * @param {number[]} counts persons by picture
     * @param {((now: Kept) => void) | null} keep called with what is to be kept; null: nothing can be changed
     */
    constructor(now, presets, counts, keep) {
        this.#now = now;
        this.presets = presets;
        this.counts = counts;
        this.#keep = keep;
        this.#understood = this.#read();
    }

    #read() {
        return read(this.#now.text, Object.keys(this.presets));
    }

    /** Whether nothing at all can be changed. */
    get locked() {
        return this.#keep === null;
    }

    get readOnly() {
        return this.locked || this.problem !== null;
    }

    /** Why the text cannot be edited here. */
    get problem() {
        return this.#understood.problem;
    }

    get preset() {
        return this.#now.preset;
    }

    /** Whether widget and text name different presets, which the node refuses. */
    get conflict() {
        const { preset } = this.edits;
        return preset !== null && this.preset in this.presets && preset !== this.preset ? preset : null;
    }

    get edits() {
        return this.#understood.edits ?? NOTHING;
    }

    /** @returns {Known} */
    get known() {
        const named = this.preset in this.presets ? this.preset : this.edits.preset ?? "all";
        return { edits: this.edits, kept: new Set(this.presets[named]), counts: this.counts };
    }

    /** @param {() => void} watcher called after every change */
    watch(watcher) {
        this.#watchers.push(watcher);
    }

    /** @param {Scope} scope @param {Iterable<[string, Change]>} wanted */
    change(scope, wanted) {
        this.#write(changed(this.known, scope, wanted));
    }

    /** @param {Scope} scope */
    giveToAll(scope) {
        this.#write(givenToAll(this.known, scope));
    }

    /** @param {Scope} scope */
    clear(scope) {
        this.#write(cleared(this.known, scope));
    }

    /** @param {string} entry of the text */
    delete(entry) {
        this.#write(without(this.edits, [entry]));
    }

    /** @param {string} preset of the widget; a text that names one follows, unless the text is to name it */
    choose(preset) {
        const follows = this.edits.preset !== null && preset in this.presets && this.edits.preset !== preset;
        this.#step({ preset, text: follows ? write({ ...this.edits, preset }) : this.#now.text });
    }

    startAnew() {
        this.#step({ ...this.#now, text: "" });
    }

    /** @param {import("./attribute_text.js").Edits} edits */
    #write(edits) {
        if (!this.readOnly && write(edits) !== write(this.edits)) this.#step({ ...this.#now, text: write(edits) });
    }

    /** @param {Kept} next */
    #step(next) {
        if (this.locked || (next.text === this.#now.text && next.preset === this.#now.preset)) return;
        this.#history.add(this.#now);
        this.#set(next);
    }

    get canUndo() {
        return this.#history.canUndo;
    }

    get canRedo() {
        return this.#history.canRedo;
    }

    undo() {
        this.#set(this.#history.undo(this.#now));
    }

    redo() {
        this.#set(this.#history.redo(this.#now));
    }

    /** @param {Kept | undefined} next undefined: nothing changes */
    #set(next) {
        if (!next) return;
        this.#now = next;
        this.#understood = this.#read();
        this.#keep?.(next);
        for (const watcher of this.#watchers) watcher();
    }
}
