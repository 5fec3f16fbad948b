// Bulkhead's script: every page works without it. Listeners sit on the document, so that what
// htmx swaps in needs no binding of its own.
"use strict";

document.documentElement.classList.remove("no-js");

const toast = (text) => {
  document.querySelector(".toast")?.remove();
  const box = document.createElement("div");
  box.className = "notice error toast";
  box.setAttribute("role", "alert");
  box.textContent = text;
  document.body.append(box);
  setTimeout(() => box.remove(), 8000);
};

const copy = async (button) => {
  const text = document.getElementById(button.dataset.copy).textContent;
  const before = button.getAttribute("aria-label");
  try {
    await navigator.clipboard.writeText(text);
    button.setAttribute("aria-label", "Copied");
  } catch {
    button.setAttribute("aria-label", "Copying is not allowed here");
  }
  setTimeout(() => button.setAttribute("aria-label", before), 2000);
};

const typing = (element) => element.closest("input, textarea, select, [contenteditable]");

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-copy], [data-menu], [data-opens], [data-closes]");
  if (!target) {
    for (const open of document.querySelectorAll("details.switcher[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
    return;
  }
  if (target.dataset.copy) copy(target);
  if (target.dataset.menu) {
    const open = document.getElementById(target.dataset.menu).classList.toggle("open");
    target.setAttribute("aria-expanded", String(open));
  }
  if (target.dataset.opens) {
    event.preventDefault();
    document.getElementById(target.dataset.opens).showModal();
  }
  if (target.hasAttribute("data-closes")) target.closest("dialog").close();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.switcher[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  }
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  const search = document.querySelector("[data-slash]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});

// A select of the filters is applied at once; without this script its form has a button.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form && event.target.matches("select")) form.requestSubmit();
});

document.addEventListener("htmx:responseError", (event) => {
  toast(`Request failed (${event.detail.xhr.status}). Nothing was changed.`);
});
document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached. Nothing was changed.");
});
