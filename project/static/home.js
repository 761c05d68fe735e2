// Updates the count of sessions while the page is visible, and copies the text that a button names.
"use strict";

const live = document.querySelector("[data-live]").dataset.live;
const sessions = document.getElementById("sessions");

function show(text) {
  // Only a change is announced to screen readers.
  if (sessions.textContent !== text) sessions.textContent = text;
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await (await fetch(live, { cache: "no-store" })).json();
    show(answer.sessions === null ? "unknown" : String(answer.sessions));
  } catch {
    show("unknown");
  }
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // no clipboard without HTTPS or permission: leave the text selected
    label.textContent = "Selected";
  }
  setTimeout(() => { label.textContent = "Copy"; }, 2000);
}

for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copy(button));
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, 2000);
