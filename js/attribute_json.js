/** JSON as the server reads it: objects keep the order of their names, a name stands once, errors have a place. */

import { t } from "./texts.js";

/** @typedef {string | number | boolean | null | any[] | Map<string, any>} Json */

const SPACE = /[ \t\n\r]*/y;
const TEXT = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const WORD = /true|false|null/y;
const DEEPEST = 100;

export class JsonError extends Error {}

/**
 * @param {string} text
 * @returns {Json} objects as Maps, for a plain object would move names such as "1" to its front
 * @throws {JsonError} says line and column
 */
export function parse(text) {
    let at = 0;

    /** @param {string} reason @returns {never} */
    const fail = reason => {
        const lines = text.slice(0, at).split("\n");
        throw new JsonError(t("Line {line}, column {column}: {reason}", {
            line: lines.length, column: /** @type {string} */ (lines.at(-1)).length + 1, reason,
        }));
    };
    /** @param {RegExp} pattern @returns {string | undefined} */
    const take = pattern => {
        pattern.lastIndex = at;
        const found = pattern.exec(text)?.[0];
        at += found?.length ?? 0;
        return found;
    };
    /** @param {string} sign @returns {boolean} */
    const sees = sign => {
        take(SPACE);
        if (text[at] !== sign) return false;
        at += 1;
        return true;
    };

    /** @param {number} depth @returns {Json} */
    const value = depth => {
        if (depth > DEEPEST) fail(t("nested too deep."));
        if (sees("{")) return members(depth);
        if (sees("[")) return items(depth);
        const literal = take(TEXT) ?? take(NUMBER) ?? take(WORD);
        return literal === undefined ? fail(t("a value is missing here.")) : JSON.parse(literal);
    };
    /** @param {number} depth */
    const members = depth => {
        const found = new Map();
        if (sees("}")) return found;
        do {
            take(SPACE);
            const start = at;
            const name = JSON.parse(take(TEXT) ?? fail(t("a name in double quotes is missing here.")));
            if (found.has(name)) {
                at = start;
                fail(t("the name {name} stands twice in one object.", { name: JSON.stringify(name) }));
            }
            if (!sees(":")) fail(t("a colon is missing here."));
            found.set(name, value(depth + 1));
        } while (sees(","));
        return sees("}") ? found : fail(t("a comma or } is missing here."));
    };
    /** @param {number} depth */
    const items = depth => {
        /** @type {Json[]} */
        const found = [];
        if (sees("]")) return found;
        do found.push(value(depth + 1)); while (sees(","));
        return sees("]") ? found : fail(t("a comma or ] is missing here."));
    };

    const found = value(0);
    take(SPACE);
    return at < text.length ? fail(t("the text should end here.")) : found;
}
