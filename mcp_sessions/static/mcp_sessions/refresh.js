/* Loads the list again every few seconds, unless somebody is doing something on the page, or has switched it off. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
    const box = document.querySelector("[data-mcp-refresh]");
    if (!box) {
        return;
    }
    const button = box.querySelector("button");
    const key = "mcp-sessions-refresh";
    const isOn = () => window.localStorage.getItem(key) !== "off";
    const show = () => {
        button.textContent = isOn() ? button.dataset.on : button.dataset.off;
        button.setAttribute("aria-pressed", String(isOn()));
    };
    const isBusy = () => {
        const active = document.activeElement;
        return (
            document.hidden ||
            Boolean(document.querySelector("input.action-select:checked, #action-toggle:checked")) ||
            Boolean(active && active.closest("form, details, select, [contenteditable]")) ||
            Boolean(String(window.getSelection()))
        );
    };
    button.addEventListener("click", () => {
        window.localStorage.setItem(key, isOn() ? "off" : "on");
        show();
    });
    show();
    box.hidden = false;
    window.setInterval(() => {
        if (isOn() && !isBusy()) {
            window.location.reload();
        }
    }, 1000 * Number(box.dataset.mcpRefresh));
});
