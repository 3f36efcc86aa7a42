/** Before and after: the original, as this browser has it, under what was saved, with a slider. */

import { api } from "./host.js";
import { element, openDialog } from "./elements.js";
import { t } from "./texts.js";

/** @typedef {{filename: string, subfolder: string, type: string}} Saved */

/**
 * @param {Saved[]} saved
 * @param {string[] | null} originals addresses; null where the browser does not know them
 */
export function openComparison(saved, originals) {
    const known = originals?.length === saved.length ? originals : null;
    /** @type {string[]} */
    const addresses = [];  // of pictures in memory
    let shown = 0;

    const before = element("img", { className: "camouflage-before", alt: t("The original") });
    const result = element("img", { className: "camouflage-after", alt: t("The saved picture") });
    const slider = element("input", { type: "range", min: "0", max: "100", step: "1", value: "50",
        "aria-label": t("How much of the original is shown, in percent"), oninput: () => place() });
    const over = known ? [before, element("i"), slider] : [];
    const stage = element("div", { className: "camouflage-stage" }, result, ...over);
    const place = () => stage.style.setProperty("--shown", `${slider.value}%`);
    const count = element("span", { role: "status" });
    const step = (/** @type {number} */ by) => show((shown + by + saved.length) % saved.length);
    const turning = element("nav", { className: "camouflage-buttons" },
        element("button", { className: "camouflage-button", onclick: () => step(-1) }, t("Previous")), count,
        element("button", { className: "camouflage-button", onclick: () => step(1) }, t("Next")));
    const trouble = element("p", { className: "camouflage-alarm", role: "alert" });

    /** @param {number} index */
    async function show(index) {
        shown = index;
        release();
        count.textContent = t("{number} of {count}", { number: index + 1, count: saved.length });
        trouble.textContent = "";
        try {
            const pictures = await Promise.all([result, ...(known ? [before] : [])].map(async (image, i) => {
                const blob = await pictureOf(i && known ? known[index] : addressOf(saved[index]));
                return { image, blob };
            }));
            if (shown !== index || !box.isConnected) return;
            for (const { image, blob } of pictures) {
                image.src = URL.createObjectURL(blob);
                addresses.push(image.src);
            }
        } catch {
            trouble.textContent = t("A picture is not there any more. Run the workflow again.");
        }
    }
    function release() {
        for (const address of addresses.splice(0)) URL.revokeObjectURL(address);
        for (const image of [before, result]) image.removeAttribute("src");
    }

    const box = openDialog(t("Before and after"), stage,
        element("p", {}, known
            ? t("Left: the original. Right: what was saved. The original stays in this browser's memory.")
            : unknown(originals, saved.length)),
        ...(saved.length > 1 ? [turning] : []), trouble);
    box.addEventListener("close", release);
    place();
    if (known) slider.focus();
    show(0);
    return box;
}

/**
 * @param {string[] | null} originals
 * @param {number} count of saved pictures
 */
function unknown(originals, count) {
    return originals
        ? t("Originals that this browser knows: {originals}. Saved pictures: {count}. They cannot be paired.",
            { originals: originals.length, count })
        : t("This browser does not know the original: it was not loaded by 'Load Image'.");
}

/** @param {Saved} saved */
function addressOf({ filename, subfolder, type }) {
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** @param {string} address */
async function pictureOf(address) {
    const answer = await fetch(address, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.blob();
}
