/** What the server knows of weights, and what it can be told to do. */

import { api } from "./host.js";

/**
 * @typedef {object} WeightFile
 * @property {string} role
 * @property {string} file path below `models` that it has to have
 * @property {string} path where it is, below `models`
 * @property {boolean} elsewhere whether that is in another models folder
 * @property {"present" | "unverified" | "damaged" | "partly" | "missing" | "to be trained"} state
 * @property {string} why
 * @property {number | null} size bytes
 * @property {number | null} size_on_disk bytes
 * @property {string} licence
 * @property {boolean | null} commercial
 * @property {string[]} pipelines that need it
 * @property {string | null} url
 * @property {boolean} replaceable whether a download may replace it
 * @property {string | null} fault of the last download
 *
 * @typedef {object} Needs
 * @property {string[]} files
 * @property {number} missing
 * @property {number} damaged
 * @property {number} untrained
 * @property {number} unknown of the missing, how many have an unknown size
 * @property {number} size bytes of the other missing ones
 *
 * @typedef {object} Safe
 * @property {string[]} nothing_for roles
 * @property {{ role: string, widget: string, value: string }[]} instead
 *
 * @typedef {object} Pipeline
 * @property {string} name
 * @property {string} title
 * @property {Needs} needs
 * @property {Needs & Safe} commercial_safe
 *
 * @typedef {object} Work
 * @property {"get" | "verify"} kind
 * @property {boolean} stopping
 * @property {number} files
 * @property {number} ended
 * @property {number} have bytes
 * @property {number} total bytes
 * @property {number} unknown of the files, how many have an unknown size
 * @property {number} rate bytes a second
 * @property {number | null} left seconds
 * @property {Record<string, [number, number | null]>} parts bytes that are there and will be, of what is coming
 *
 * @typedef {object} Last
 * @property {"get" | "verify"} kind
 * @property {"done" | "stopped" | "failed"} outcome
 * @property {string} why
 * @property {number} [present]
 * @property {number} [unverified]
 * @property {number} [damaged]
 * @property {number} [failed]
 *
 * @typedef {{ work: Work | null, last: Last | null }} Progress
 * @typedef {{ files: WeightFile[], pipelines: Pipeline[], free: number } & Progress} Facts
 */

const ROUTE = "/camouflage/weights";
/** The event that tells how far the work is. */
export const PROGRESS = "camouflage.weights";

/**
 * The facts; from then on this page hears of progress.
 *
 * @returns {Promise<Facts>}
 */
export async function readFacts() {
    const query = api.clientId ? `?${new URLSearchParams({ client: api.clientId })}` : "";
    return answerOf(await api.fetchApi(ROUTE + query));
}

/**
 * @param {"get" | "verify" | "stop"} what
 * @param {Record<string, any>} [choices]
 * @returns {Promise<Progress>}
 */
export const order = async (what, choices = {}) => answerOf(await api.fetchApi(`${ROUTE}/${what}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(choices),
}));

/**
 * @param {Response} response
 * @returns {Promise<any>}
 * @throws {Error} whose message is for people
 */
async function answerOf(response) {
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(body.error ?? `${response.status} ${response.statusText}`);
    return body;
}
