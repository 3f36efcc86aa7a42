/** The text of 'Edit Attributes', which is the truth: read as the node reads it, and written with its order kept. */

import { JsonError, parse } from "./attribute_json.js";
import { ATTRIBUTES } from "./attribute_words.js";
import { t } from "./texts.js";

/** @typedef {"keep" | "forget" | number} Change number: a probability, 0 to 1 */
/** @typedef {Map<string, Change>} Changes by attribute */
/**
 * @typedef {object} Edits
 * @property {string | null} preset that the text names
 * @property {boolean} presetFirst whether it stands before the persons
 * @property {Map<string, Changes>} persons "all", "0:all", "1" or "0:1", in the order of the text
 */

/** @type {Edits} */
export const NOTHING = { preset: null, presetFirst: true, persons: new Map() };

const PERSON = /^(?:(?:0|[1-9]\d{0,4}):)?(?:all|0|[1-9]\d{0,4})$/;

/**
 * @param {string} text
 * @param {string[]} presets that the node knows
 * @returns {{edits: Edits, problem: null} | {edits: null, problem: string}} problem: why the node refuses it, and where
 */
export function read(text, presets) {
    if (!text.trim()) return { edits: NOTHING, problem: null };
    try {
        return { edits: understood(parse(text), presets), problem: null };
    } catch (error) {
        if (!(error instanceof JsonError)) throw error;
        return { edits: null, problem: error.message };
    }
}

/** @param {string} problem @returns {never} */
const refuse = problem => {
    throw new JsonError(problem);
};

/** @param {any} value @param {string} where @returns {Map<string, any>} */
const object = (value, where) =>
    (value instanceof Map ? value : refuse(t("{where} must be an object {…}.", { where })));

/**
 * @param {any} value
 * @param {string[]} presets
 * @returns {Edits}
 */
function understood(value, presets) {
    const top = object(value, t("The top"));
    for (const name of top.keys()) {
        if (name !== "preset" && name !== "persons") {
            refuse(t("The top has {name}, but knows only \"preset\" and \"persons\".", { name: JSON.stringify(name) }));
        }
    }
    const preset = top.has("preset") ? top.get("preset") : null;
    if (top.has("preset") && !presets.includes(preset)) {
        refuse(t("The preset must be one of: {presets}.", { presets: presets.join(", ") }));
    }
    const persons = object(top.get("persons") ?? (top.has("persons") ? null : new Map()), "persons");
    for (const [person, changes] of persons) check(person, changes);
    return { preset, presetFirst: [...top.keys()].indexOf("preset") <= 0, persons };
}

/** @param {string} person @param {any} changes */
function check(person, changes) {
    const where = `persons[${JSON.stringify(person)}]`;
    if (!PERSON.test(person)) {
        refuse(t("{where} is no person. Write \"all\", a number counted from 0, or either after a picture, as in "
            + "\"0:1\" or \"0:all\".", { where }));
    }
    for (const [name, change] of object(changes, where)) {
        const place = `${where}[${JSON.stringify(name)}]`;
        if (!ATTRIBUTES.has(name)) refuse(t("{place} is no attribute of CelebA.", { place }));
        if (change !== "keep" && change !== "forget" && !(typeof change === "number" && change >= 0 && change <= 1)) {
            refuse(t("{place} must be \"keep\", \"forget\" or a probability from 0 to 1.", { place }));
        }
    }
}

/**
 * @param {Edits} edits
 * @returns {string} a person a line; empty where nothing is edited
 */
export function write({ preset, presetFirst, persons }) {
    const lines = [...persons].map(([person, changes]) => `  ${JSON.stringify(person)}: {${
        [...changes].map(([name, change]) => `${JSON.stringify(name)}: ${JSON.stringify(change)}`).join(", ")}}`);
    const parts = lines.length ? [`"persons": {\n${lines.join(",\n")}\n}`] : [];
    if (preset !== null) parts.splice(presetFirst ? 0 : 1, 0, `"preset": ${JSON.stringify(preset)}`);
    return parts.length ? `{${parts.join(", ")}}` : "";
}
