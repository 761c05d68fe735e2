// Refreshes the part of a page that changes: the element with `data-mcp-refresh`, which says after how many seconds.
// Not while the reader uses a control in it, and not in a tab that is hidden. Without JavaScript the page stays as it is.
(function () {
    "use strict";
    const KEY = "mcp-sessions-refresh";
    const live = document.querySelector("[data-mcp-refresh]");
    if (!live) {
        return;
    }

    function wanted() {
        try {
            return localStorage.getItem(KEY) !== "off";
        } catch {
            return true;
        }
    }

    const label = document.createElement("label");
    const box = document.createElement("input");
    label.className = "mcp-refresh";
    box.type = "checkbox";
    box.checked = wanted();
    box.addEventListener("change", function () {
        try {
            localStorage.setItem(KEY, box.checked ? "on" : "off");
        } catch {
            // Where nothing can be stored, the choice holds for this page.
        }
    });
    label.append(box, " Refresh every " + live.dataset.mcpRefresh + " seconds");
    live.before(label);

    function inUse() {
        const active = document.activeElement;
        const here = document.getElementById(live.id);
        return document.hidden || (here.contains(active) && active !== here) || here.querySelector("input:checked");
    }

    async function refresh() {
        if (!box.checked || inUse()) {
            return;
        }
        const response = await fetch(location.href, {credentials: "same-origin"});
        if (!response.ok || response.redirected) {
            return;
        }
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const next = page.getElementById(live.id);
        if (next && !inUse()) {
            document.getElementById(live.id).replaceWith(document.adoptNode(next));
        }
    }

    async function again() {
        try {
            await refresh();
        } catch (error) {
            console.info("The page could not be refreshed: " + error);
        }
        setTimeout(again, 1000 * live.dataset.mcpRefresh);
    }

    setTimeout(again, 1000 * live.dataset.mcpRefresh);
})();
