/** The panel about weights: what is there, what lacks, and the buttons that fetch and check it. */

import { element, loadStyle } from "./elements.js";
import { api } from "./host.js";
import { t } from "./texts.js";
import { WeightList } from "./weights_list.js";
import { PROGRESS, order, readFacts } from "./weights_server.js";
import { lastText, safeNotes, summary, workText } from "./weights_words.js";

/** @typedef {import("./weights_server.js").Facts} Facts */
/** @typedef {import("./weights_server.js").Progress} Progress */

loadStyle("weights.css");

/** What the person chose stays until the page is loaded again. */
const chosen = { pipeline: "base", commercialSafe: false, replaceDamaged: false, search: "", missingOnly: false };

/** Listens to the server as long as it is open, and to nothing else: it has no timers. */
export class WeightsPanel {
    /** @type {Facts | null} */
    #facts = null;
    #problem = "";
    #reading = false;
    #again = false;
    #closing = new AbortController();
    #list = new WeightList();

    constructor() {
        const { signal } = this.#closing;
        api.addEventListener(PROGRESS, ({ detail }) => this.#progress(detail), { signal });
        api.addEventListener("reconnected", () => this.read(), { signal });
        this.pipeline = element("select", { "aria-label": t("Workflow"), onchange: () => {
            chosen.pipeline = this.pipeline.value;
            this.#render();
        } });
        this.replace = tick(t("Replace damaged files"), chosen.replaceDamaged, on => {
            chosen.replaceDamaged = on;
            this.#render();
        });
        const button = (/** @type {string} */ text, /** @type {() => void} */ onclick) =>
            element("button", { type: "button", className: "camouflage-button", disabled: true, onclick }, text);
        this.get = button(t("Download"), () => this.#order("get", {
            pipelines: [chosen.pipeline], commercial_safe: chosen.commercialSafe,
            replace_damaged: chosen.replaceDamaged,
        }));
        this.stop = button(t("Stop"), () => this.#order("stop"));
        this.verify = button(t("Check digests"), () => this.#order("verify", {
            pipelines: [chosen.pipeline], commercial_safe: chosen.commercialSafe,
        }));
        this.verify.title = t("Reads every file that is there and compares its SHA-256. This can take minutes.");
        this.summary = element("p");
        this.notes = element("ul", { className: "camouflage-weights-notes" });
        this.bar = element("progress", { "aria-label": t("Progress"), max: 1 });
        this.pace = element("p", { className: "camouflage-weights-pace" });
        this.status = element("p", { role: "status" });
        this.search = element("input", {
            type: "search", placeholder: t("Search"), "aria-label": t("Search the files"), value: chosen.search,
            oninput: () => {
                chosen.search = this.search.value;
                this.#render();
            },
        });
        this.element = element("div", { className: "camouflage-weights", onkeydown: keepTyping },
            element("header", {}, element("h2", {}, t("CAMOUFLaGE weights")), element("button", {
                type: "button", className: "camouflage-button", title: t("Look at the disk again"),
                "aria-label": t("Look at the disk again"), onclick: () => this.read(),
            }, "↻")),
            element("label", { className: "camouflage-weights-choice" }, t("For the workflow"), this.pipeline),
            tick(t("Only weights that a company may use"), chosen.commercialSafe, on => {
                chosen.commercialSafe = on;
                this.#render();
            }),
            this.notes, this.summary, this.replace,
            element("div", { className: "camouflage-weights-buttons" }, this.get, this.stop, this.verify),
            this.bar, this.pace, this.status,
            element("div", { className: "camouflage-weights-filter" }, this.search,
                tick(t("Only what is missing"), chosen.missingOnly, on => {
                    chosen.missingOnly = on;
                    this.#render();
                })),
            this.#list.element);
        this.#render();
        this.read();
    }

    /** Ends it. */
    close() {
        this.#closing.abort();
        this.element.remove();
    }

    /** Asks the server what is on the disk; asks once more where something happened meanwhile. */
    async read() {
        this.#again = true;
        if (this.#reading) return;
        this.#reading = true;
        while (this.#again && !this.#closing.signal.aborted) {
            this.#again = false;
            try {
                this.#facts = await readFacts();
                this.#problem = "";
            } catch (error) {
                this.#fail(error);
            }
        }
        this.#reading = false;
        this.#render();
    }

    /**
     * @param {"get" | "verify" | "stop"} what
     * @param {Record<string, any>} [choices]
     */
    async #order(what, choices) {
        this.#problem = "";
        try {
            this.#progress(await order(what, choices));
        } catch (error) {
            this.#fail(error);
        }
        await this.read();
    }

    /** @param {unknown} error */
    #fail(error) {
        this.#problem = error instanceof TypeError ? t("ComfyUI does not answer. Is it running?")
            : error instanceof Error ? error.message : String(error);
    }

    /** @param {Progress} progress */
    #progress(progress) {
        if (!this.element.isConnected) return this.close();
        const before = this.#facts?.work;
        if (this.#facts) Object.assign(this.#facts, progress);
        this.#render();
        if (!before || !progress.work || before.ended !== progress.work.ended) this.read();
    }

    #render() {
        const facts = this.#facts;
        const work = facts?.work;
        this.status.textContent = this.#problem || (!facts ? t("Looking at the disk.")
            : facts.last && !work ? lastText(facts.last) : "");
        this.status.classList.toggle("camouflage-weights-fault",
            Boolean(this.#problem || facts?.last?.failed || facts?.last?.damaged || facts?.last?.outcome === "failed"));
        this.bar.hidden = this.pace.hidden = !work;
        this.stop.disabled = !work || work.stopping;
        this.verify.disabled = !facts || Boolean(work);
        if (work) {
            this.pace.textContent = workText(work);
            if (work.total) this.bar.value = Math.min(work.have / work.total, 1);
            else this.bar.removeAttribute("value");
        }
        if (!facts) {
            this.get.disabled = true;
            return;
        }
        this.#choices(facts);
        const pipeline = facts.pipelines.find(({ name }) => name === chosen.pipeline) ?? facts.pipelines[0];
        const needs = chosen.commercialSafe ? pipeline.commercial_safe : pipeline.needs;
        this.summary.textContent = summary(needs, facts.free);
        this.notes.replaceChildren(...(chosen.commercialSafe ? safeNotes(pipeline.commercial_safe) : [])
            .map(note => element("li", {}, note)));
        this.replace.hidden = !needs.damaged;
        this.get.disabled = Boolean(work) || !(needs.missing || (needs.damaged && chosen.replaceDamaged));
        this.#list.update(facts, {
            files: new Set(needs.files), search: chosen.search, missingOnly: chosen.missingOnly,
        });
    }

    /** @param {Facts} facts */
    #choices({ pipelines }) {
        if (this.pipeline.options.length) return;
        this.pipeline.append(...pipelines.map(({ name, title }) =>
            element("option", { value: name }, title || t("All, also optional files"))));
        this.pipeline.value = chosen.pipeline;
    }
}

/**
 * A box to tick with its text.
 *
 * @param {string} text
 * @param {boolean} on
 * @param {(on: boolean) => void} change
 */
function tick(text, on, change) {
    const box = element("input", { type: "checkbox", checked: on, onchange: () => change(box.checked) });
    return element("label", { className: "camouflage-weights-tick" }, box, text);
}

/** @param {KeyboardEvent} event what is typed into a field is not for the canvas */
function keepTyping(event) {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) event.stopPropagation();
}
