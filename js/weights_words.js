/** Weights in words. */

import { t } from "./texts.js";

/** @typedef {import("./weights_server.js").WeightFile} WeightFile */
/** @typedef {import("./weights_server.js").Needs} Needs */
/** @typedef {import("./weights_server.js").Safe} Safe */
/** @typedef {import("./weights_server.js").Work} Work */
/** @typedef {import("./weights_server.js").Last} Last */

const STATES = {
    "present": t("present"), "unverified": t("unverified"), "damaged": t("damaged"), "partly": t("partly there"),
    "missing": t("missing"), "to be trained": t("to be trained"),
};
/** @type {Record<string, string>} what the server says, where it is always the same */
const REASONS = {
    "Its SHA-256 has not been computed yet.":
        t("It is there, and its SHA-256 has not been computed yet: 'Check digests' does it."),
    "Nobody has published a SHA-256 to compare it with.":
        t("It is there. Nobody has published a SHA-256 to compare it with."),
    "It is empty.": t("It is empty."),
    "It is not JSON, though its name says so.": t("It is not JSON, though its name says so."),
};

/** @param {number} bytes */
export function sizeText(bytes) {
    if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
    if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
    return bytes >= 1e3 ? `${(bytes / 1e3).toFixed(1)} kB` : t("{count} bytes", { count: bytes });
}

/** @param {number} seconds */
export function clock(seconds) {
    const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole % 3600 / 60);
    return hours ? `${hours}:${two(minutes)} h` : `${minutes}:${two(whole % 60)} min`;
}

/** @param {number} number */
const two = number => String(number).padStart(2, "0");

/** @param {boolean | null} commercial */
export function commercialText(commercial) {
    if (commercial === null) return t("commercial use: not stated");
    return commercial ? t("commercial use: allowed") : t("commercial use: not allowed");
}

/**
 * @param {WeightFile} file
 * @param {[number, number | null]} [part] bytes that have come and will have, while it comes
 */
export function stateText(file, part) {
    if (!part) return STATES[file.state];
    const [have, length] = part;
    return length ? t("downloading, {percent} %", { percent: Math.floor(100 * have / length) }) : t("downloading");
}

/**
 * Sentences that say what is the matter with a file, and what to do.
 *
 * @param {WeightFile} file
 * @returns {string[]}
 */
export function advice(file) {
    const why = REASONS[file.why] ?? file.why;
    if (file.fault) return [file.fault, t("Then press Download again.")];
    if (file.state === "partly") return [t("A download was broken off. Download goes on with it.")];
    if (file.state === "unverified") return [why];
    if (file.state === "to be trained") {
        return [t("There is no download: you train it with `python run.py train`. The file docs/training.md, in the "
            + "folder of this extension, says how.")];
    }
    if (file.state !== "damaged") return [];
    return [why, file.replaceable ? t("Tick 'Replace damaged files' and press Download.")
        : t("Delete it, then press Download."),
        t("If you put it there on purpose, add its SHA-256 to models/camouflage/SHA256SUMS.")];
}

/** @param {Needs} needs @param {number} free bytes */
export function summary(needs, free) {
    const parts = [];
    if (!needs.missing) parts.push(needs.untrained || needs.damaged ? t("There is nothing else to download.")
        : t("Nothing is missing."));
    else {
        parts.push(t("Missing: {missing} of {all} files.", { missing: needs.missing, all: needs.files.length }));
        if (needs.unknown < needs.missing) parts.push(t("To download: {size}.", { size: sizeText(needs.size) }));
        if (needs.unknown) parts.push(t("Files of unknown size: {count}.", { count: needs.unknown }));
    }
    if (needs.damaged) parts.push(t("Damaged files: {count}.", { count: needs.damaged }));
    if (needs.untrained) parts.push(t("Files that you have to train: {count}.", { count: needs.untrained }));
    parts.push(t("Free on the disk: {size}.", { size: sizeText(free) }));
    return parts.join(" ");
}

/** @param {Safe} safe @returns {string[]} what has to be known of the commercial-safe set */
export function safeNotes({ instead, nothing_for: nothing }) {
    const sentences = instead.map(({ role, widget, value }) => {
        const [node, name] = widget.split(".");
        return t("Others do the work of {role}: set '{name}' of '{node}' to {value}.", { role, name, node, value });
    });
    if (nothing.length) {
        sentences.push(t("No licence clearly lets a company use the files for: {roles}. The workflow needs them: ask a "
            + "lawyer, or use files of your own.", { roles: nothing.join(", ") }));
    }
    return sentences;
}

/** @param {Work} work */
export function workText(work) {
    if (work.stopping) return t("Stopping. What came is kept.");
    if (work.kind === "verify") {
        return t("Checking: {ended} of {files} files, {have} of {total}.", quantities(work));
    }
    if (!work.total) return t("Asking for the sizes of {files} files.", { files: work.files });
    const said = t("{ended} of {files} files, {have} of {total}, {rate}/s", quantities(work));
    return work.left === null ? said : t("{said}, {left} left", { said, left: clock(work.left) });
}

/** @param {Work} work */
const quantities = ({ ended, files, have, total, rate }) => ({
    ended, files, have: sizeText(have), total: sizeText(total), rate: sizeText(Math.floor(rate)),
});

/** @param {Last} last */
export function lastText({ kind, outcome, why, present = 0, unverified = 0, damaged = 0, failed = 0 }) {
    if (outcome === "failed") return why;
    if (kind === "verify") {
        const counts = t("Checked. Right: {present}; nothing to compare with: {unverified}; damaged: {damaged}.",
            { present, unverified, damaged });
        return outcome === "stopped" ? t("Stopped. {said}", { said: counts }) : counts;
    }
    const parts = [];
    if (present + unverified) {
        parts.push(t("Files that have come: {count}. If a loader does not list them, press R.",
            { count: present + unverified }));
    }
    if (failed) parts.push(t("Files that could not be had: {count}. The reasons stand below.", { count: failed }));
    if (outcome === "stopped") parts.push(t("Stopped. What came is kept: Download goes on from there."));
    return parts.join(" ") || t("Nothing was missing.");
}
