// Bulkhead's script: every page works without it. Listeners sit on the document, so that what
// htmx swaps in needs no binding of its own; loaded first, so that nothing moves once it runs.
"use strict";

document.documentElement.classList.remove("no-js");

const toast = (text, kind = "error") => {
  document.querySelector(".toast")?.remove();
  const box = document.createElement("div");
  box.className = `notice toast ${kind}`;
  box.setAttribute("role", kind === "error" ? "alert" : "status");
  box.textContent = text;
  document.body.append(box);
  setTimeout(() => box.remove(), kind === "error" ? 8000 : 2500);
};

const copy = async (button) => {
  try {
    const { copy: id, copyText } = button.dataset;
    await navigator.clipboard.writeText(copyText ?? document.getElementById(id).textContent);
    toast("Copied.", "success");
  } catch {
    toast("This browser does not allow copying; select the text instead.");
  }
};

// Opens a dialog before a form with data-confirm is sent. Without JavaScript such a form is sent at
// once; what it does can be undone.
const confirm = (form, submitter) => {
  const dialog = document.createElement("dialog");
  const text = document.createElement("p");
  const buttons = document.createElement("div");
  text.id = "confirm-text";
  text.textContent = form.dataset.confirm;
  dialog.setAttribute("aria-labelledby", text.id);
  for (const [label, sends] of [["Cancel", false], ["Continue", true]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = sends ? "button danger" : "button";
    button.textContent = label;
    button.addEventListener("click", () => {
      dialog.close();
      if (sends) {
        form.dataset.confirmed = "";
        form.requestSubmit(submitter);
      }
    });
    buttons.append(button);
  }
  buttons.className = "row";
  dialog.className = "stack";
  dialog.append(text, buttons);
  dialog.addEventListener("close", () => {
    dialog.remove();
    submitter?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
};

// WCAG 2.1.4: a shortcut of a single key, without Ctrl, Alt or Command, can be switched off.
const shortcuts = () => localStorage.getItem("shortcuts") !== "off";

const typing = (element) => element.closest("input, textarea, select, [contenteditable]");

const openSwitchers = () => document.querySelectorAll("details.switcher[open]");

document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("[data-shortcuts]")) box.checked = shortcuts();
});

document.addEventListener("click", (event) => {
  for (const open of openSwitchers()) {
    if (!open.contains(event.target)) open.open = false;
  }
  const target = event.target.closest("[data-copy], [data-copy-text], [data-menu]");
  if (target?.matches("[data-copy], [data-copy-text]")) copy(target);
  if (target?.dataset.menu) {
    const open = document.getElementById(target.dataset.menu).classList.toggle("open");
    target.setAttribute("aria-expanded", String(open));
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const open of openSwitchers()) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  }
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !shortcuts()) return;
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  const search = document.querySelector("[data-slash]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const only = form.dataset.confirmIf;
  if (!form.dataset.confirm || "confirmed" in form.dataset) return;
  if (only && !new FormData(form).getAll("role").includes(only)) return;
  event.preventDefault();
  confirm(form, event.submitter);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-shortcuts]")) {
    localStorage.setItem("shortcuts", event.target.checked ? "on" : "off");
  }
  // A changed filter is applied at once; without JavaScript the form has a button.
  const form = event.target.closest("form[data-auto]");
  if (form && event.target.matches("select")) form.requestSubmit();
});

// Files dropped on a form are put into its file field, as if they had been chosen there.
const dropForm = (event) =>
  event.dataTransfer?.types.includes("Files") && event.target.closest("[data-files-into]");

document.addEventListener("dragover", (event) => {
  if (dropForm(event)) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const form = dropForm(event);
  if (!form) return;
  event.preventDefault();
  const field = document.getElementById(form.dataset.filesInto);
  field.files = event.dataTransfer.files;
  field.focus();
});

// A link to a finding's line selects that line in the checked text.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-line]");
  const text = link && document.querySelector(link.getAttribute("href"));
  if (!text) return;
  event.preventDefault();
  const lines = text.value.split("\n");
  const start = lines.slice(0, link.dataset.line - 1).join("\n").length + (link.dataset.line > 1);
  text.focus();
  text.setSelectionRange(start, start + lines[link.dataset.line - 1].length);
  text.scrollTop = (text.scrollHeight / lines.length) * (link.dataset.line - 4);
});

// htmx got the sign-in page instead of a fragment, since the session has ended: reload the page.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { pathname, origin } = new URL(event.detail.xhr.responseURL || location.href);
  if (origin !== location.origin || pathname !== "/sign-in/") return;
  event.detail.shouldSwap = false;
  location.reload();
});

document.addEventListener("htmx:responseError", (event) => {
  toast(`Request failed (${event.detail.xhr.status}). Nothing was changed.`);
});
document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached. Nothing was changed.");
});
