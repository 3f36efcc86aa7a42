/** What edits mean, and how to change them: pure functions. Whose entry is the narrowest wins, as in the node. */

/** @typedef {import("./attribute_text.js").Change} Change */
/** @typedef {import("./attribute_text.js").Changes} Changes */
/** @typedef {import("./attribute_text.js").Edits} Edits */
/** @typedef {{picture: number | null, person: number | null}} Scope whom it is about; null: every one */
/**
 * @typedef {object} Known
 * @property {Edits} edits
 * @property {Set<string>} kept attributes that the preset keeps
 * @property {number[]} counts persons by picture
 */

/** @type {Scope} */
export const EVERYBODY = { picture: null, person: null };

/** @param {Scope} scope @returns {string} its name in the text */
export const nameOf = ({ picture, person }) => `${picture === null ? "" : `${picture}:`}${person ?? "all"}`;

/** @param {string} name @returns {Scope} */
export function scopeOf(name) {
    const [who, picture] = name.split(":").reverse();
    return { picture: picture === undefined ? null : Number(picture), person: who === "all" ? null : Number(who) };
}

/** @param {Scope} scope @returns {string[]} names of entries that count for it, the widest first */
function entries({ picture, person }) {
    return [[null, null], [picture, null], [null, person], [picture, person]]
        .map(([p, n]) => nameOf({ picture: p, person: n })).filter((name, i, all) => all.indexOf(name) === i);
}

/**
 * The entry in which a scope is edited: the shortest one that nothing narrower overrules.
 *
 * @param {Known} known
 * @param {Scope} scope
 */
function ownEntry({ edits, counts }, scope) {
    return edits.persons.has(nameOf(scope)) ? nameOf(scope) : ownEntries(counts, scope)[0];
}

/**
 * What becomes of an attribute of somebody.
 *
 * @param {Known} known
 * @param {Scope} scope
 * @param {string} attribute
 * @param {string | null} [without] an entry that is left out
 * @returns {Change}
 */
export function changeOf({ edits, kept }, scope, attribute, without = null) {
    const said = entries(scope).filter(name => name !== without)
        .map(name => edits.persons.get(name)?.get(attribute)).filter(change => change !== undefined);
    return said.at(-1) ?? (kept.has(attribute) ? "keep" : "forget");
}

/** @param {number[]} counts @param {Scope} scope @returns {string[]} names of its own entries, the widest first */
function ownEntries(counts, scope) {
    const short = nameOf({ ...scope, picture: null });
    return counts.length === 1 && scope.person !== null ? [short, nameOf(scope)] : [nameOf(scope)];
}

/**
 * What the text says of this one, beyond the preset and what counts for others too.
 *
 * @param {Known} known
 * @param {Scope} scope
 * @returns {Changes}
 */
export const ownChanges = ({ edits, counts }, scope) =>
    new Map(ownEntries(counts, scope).flatMap(name => [...edits.persons.get(name) ?? []]));

/**
 * Persons with changes for some attributes taken out or put in; an entry that becomes empty goes.
 *
 * @param {Edits} edits
 * @param {string} entry
 * @param {(changes: Changes) => void} change
 * @returns {Edits}
 */
function withEntry(edits, entry, change) {
    const changes = new Map(edits.persons.get(entry));
    change(changes);
    const persons = new Map(edits.persons);
    if (changes.size) persons.set(entry, changes);
    else persons.delete(entry);
    return { ...edits, persons };
}

/**
 * Gives attributes of somebody a change; what the preset or a wider entry says anyway is not written.
 *
 * @param {Known} known
 * @param {Scope} scope
 * @param {Iterable<[string, Change]>} wanted
 * @returns {Edits}
 */
export function changed(known, scope, wanted) {
    const entry = ownEntry(known, scope);
    return withEntry(known.edits, entry, changes => {
        for (const [attribute, change] of wanted) {
            if (changeOf(known, scope, attribute, entry) === change) changes.delete(attribute);
            else changes.set(attribute, change);
        }
    });
}

/**
 * Gives everybody what one of them has: "all" says it, and nobody who is there says anything else.
 *
 * @param {Known} known
 * @param {Scope} scope
 * @returns {Edits}
 */
export function givenToAll(known, scope) {
    const wanted = ownChanges(known, scope);
    const gone = missing(known.edits, known.counts);
    let { edits } = known;
    for (const entry of known.edits.persons.keys()) {
        if (entry === nameOf(EVERYBODY) || gone.includes(entry)) continue;
        edits = withEntry(edits, entry, changes => wanted.forEach((_, attribute) => changes.delete(attribute)));
    }
    return changed({ ...known, edits }, EVERYBODY, wanted);
}

/** @param {Edits} edits @param {string[]} entries @returns {Edits} */
export const without = (edits, entries) =>
    ({ ...edits, persons: new Map([...edits.persons].filter(([name]) => !entries.includes(name))) });

/** @param {Known} known @param {Scope} scope @returns {Edits} without what the text says of this one */
export const cleared = ({ edits, counts }, scope) => without(edits, ownEntries(counts, scope));

/**
 * Entries of persons and pictures that are not there: the node refuses them.
 *
 * @param {Edits} edits
 * @param {number[]} counts persons by picture
 * @returns {string[]}
 */
export function missing(edits, counts) {
    return [...edits.persons.keys()].filter(name => {
        const { picture, person } = scopeOf(name);
        if (picture !== null && picture >= counts.length) return true;
        return person !== null && person >= (picture === null ? Math.max(0, ...counts) : counts[picture]);
    });
}

/**
 * Whom there is something to show of, the widest first: everybody, and what counts for several persons or one.
 *
 * @param {Edits} edits
 * @param {number[]} counts persons by picture
 * @returns {{shared: Scope[], pictures: Scope[][]}}
 */
export function scopes(edits, counts) {
    const several = counts.length > 1;
    const gone = missing(edits, counts);
    const numbers = [...edits.persons.keys()].filter(name => !gone.includes(name)).map(scopeOf)
        .filter(({ picture, person }) => several && picture === null && person !== null);
    return {
        shared: [EVERYBODY, ...numbers],
        pictures: counts.map((count, picture) => [
            ...(several || edits.persons.has(`${picture}:all`) ? [{ picture, person: null }] : []),
            ...Array.from({ length: count }, (_, person) => ({ picture, person })),
        ]),
    };
}
