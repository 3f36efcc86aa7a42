/** What can be undone and redone: values before and after the one of now. */

/** @template Value */
export class History {
    /** @type {Value[]} */
    #past = [];
    /** @type {Value[]} */
    #future = [];

    /** @param {Value} before the value that a change has replaced; what could be redone is gone */
    add(before) {
        this.#past.push(before);
        this.#future = [];
    }

    get canUndo() {
        return this.#past.length > 0;
    }

    get canRedo() {
        return this.#future.length > 0;
    }

    /** @param {Value} now @returns {Value | undefined} the value before it; undefined if there is none */
    undo(now) {
        return this.#move(this.#past, this.#future, now);
    }

    /** @param {Value} now @returns {Value | undefined} the value after it; undefined if there is none */
    redo(now) {
        return this.#move(this.#future, this.#past, now);
    }

    /** @param {Value[]} from @param {Value[]} to @param {Value} now */
    #move(from, to, now) {
        const next = from.pop();
        if (next !== undefined) to.push(now);
        return next;
    }
}
