// Uploads files to a version: one request per file, two at a time, each with its progress. Without
// JavaScript the page shows a plain form instead.
"use strict";

(() => {
  const AT_ONCE = 2;
  const UNITS = ["B", "KB", "MB", "GB", "TB"];
  const queue = [];
  let box = null;
  let fetching = false;
  let stale = false;

  const size = (bytes) => {
    let unit = 0;
    let value = bytes;
    while (value >= 999.5 && unit < UNITS.length - 1) {
      value /= 1000;
      unit += 1;
    }
    return `${unit && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
  };

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };

  const button = (label, name, act) => {
    const element = make("button", "button", label);
    element.type = "button";
    element.append(make("span", "hidden-label", ` ${name}`));
    element.addEventListener("click", act);
    return element;
  };

  // --- one file ---------------------------------------------------------------------------

  const STATES = {
    waiting: "Waiting",
    sending: "Sending",
    saving: "Saving",
    done: "Uploaded",
    cancelled: "Cancelled",
  };

  const isOpen = (item) => ["waiting", "sending", "saving"].includes(item.state);

  const show = (item, state, words = STATES[state]) => {
    const held = item.row.contains(document.activeElement);
    item.state = state;
    item.row.dataset.state = state;
    item.words.textContent = words;
    item.cancel.hidden = !isOpen(item);
    item.retry.hidden = !["failed", "cancelled"].includes(state);
    item.bar.hidden = !isOpen(item);
    // If the focused button was hidden, move the focus to its neighbour, not to the page's top.
    if (held && document.activeElement === document.body) {
      (item.retry.hidden ? item.row : item.retry).focus();
    }
  };

  const add = ({ path, file }) => {
    const item = { path, file, sent: 0, row: make("li", "", "") };
    item.row.tabIndex = -1;
    item.words = make("span", "muted state", "");
    item.bar = document.createElement("progress");
    item.bar.max = 1;
    item.bar.value = 0;
    item.bar.setAttribute("aria-label", path);
    item.cancel = button("Cancel", path, () => {
      item.request?.abort();
      show(item, "cancelled");
      next();
    });
    item.retry = button("Retry", path, () => {
      item.sent = 0;
      show(item, "waiting");
      next();
    });
    const about = make("span", "upload-name", "");
    about.append(make("span", "mono", path), make("span", "muted", size(file.size)));
    const actions = make("span", "row", "");
    actions.append(item.words, item.cancel, item.retry);
    item.row.append(about, actions, item.bar);
    box.querySelector("[data-list]").append(item.row);
    queue.push(item);
    show(item, "waiting");
  };

  // Returns the server's error as text, or "" for success. An answer from another address is the
  // sign-in page: the session has ended.
  const answer = (request, url) => {
    if (new URL(request.responseURL || url, location.href).pathname !== new URL(url, location.href).pathname) {
      return "Your session has ended: sign in again, then retry.";
    }
    try {
      const body = JSON.parse(request.responseText);
      if (body.sha256) return "";
      if (body.error) return body.error;
    } catch {
      // No JSON: the answer is not the view's own, but a proxy's or an error page.
    }
    if (request.status === 413) return "A server between you and the registry takes no file of this size.";
    if (request.status === 403) return "You may not upload here any more: reload the page to see why.";
    if (request.status === 404) return "This version is gone.";
    return `The server could not keep it (${request.status}). Retry, or ask who runs it.`;
  };

  const send = (item) => {
    const url = box.dataset.uploads + item.path.split("/").map(encodeURIComponent).join("/");
    const request = new XMLHttpRequest();
    const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
    item.request = request;
    item.bar.value = 0;
    show(item, "sending", "0 %");
    request.upload.addEventListener("progress", ({ loaded }) => {
      item.sent = loaded;
      const share = item.file.size ? loaded / item.file.size : 1;
      item.bar.value = share;
      item.words.textContent = share < 1 ? `${Math.floor(share * 100)} %` : STATES.saving;
      total();
    });
    const end = (words) => {
      if (item.request !== request || item.state === "cancelled") return;
      if (words) show(item, "failed", words);
      else show(item, "done");
      next();
    };
    request.addEventListener("load", () => end(answer(request, url)));
    request.addEventListener("error", () => end("The connection was lost. Retry when it is back."));
    request.open("POST", url);
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(item.file);
  };

  // --- all of them --------------------------------------------------------------------------

  const total = () => {
    const kept = queue.filter((item) => item.state !== "cancelled");
    const bytes = kept.reduce((sum, item) => sum + item.file.size, 0);
    const sent = kept.reduce((sum, item) => sum + (item.state === "done" ? item.file.size : Math.min(item.sent, item.file.size)), 0);
    box.querySelector("[data-total]").value = bytes ? sent / bytes : 1;
  };

  const summary = () => {
    const count = (state) => queue.filter((item) => item.state === state).length;
    const kept = queue.length - count("cancelled");
    const failed = count("failed");
    box.querySelector("[data-summary]").textContent =
      `${count("done")} of ${kept} file${kept === 1 ? "" : "s"} uploaded${failed ? `, ${failed} failed` : ""}`;
    box.querySelector("[data-cancel-all]").hidden = !queue.some(isOpen);
    box.querySelector("[data-queue]").hidden = false;
    total();
  };

  const next = () => {
    const busy = () => queue.filter((item) => ["sending", "saving"].includes(item.state)).length;
    for (const item of queue) {
      if (busy() >= AT_ONCE) break;
      if (item.state === "waiting") send(item);
    }
    summary();
    for (const finish of document.querySelectorAll(".finish button")) finish.disabled = queue.some(isOpen);
    if (!queue.some(isOpen) && queue.some((item) => item.state === "done")) refresh();
  };

  // Reloads the list of files, and once more if files were kept meanwhile: htmx drops a request whose
  // source element it has replaced.
  const refresh = async () => {
    if (!document.getElementById("files")) {
      if (queue.every((item) => item.state === "done")) location.assign(box.dataset.files);
      return;
    }
    stale = true;
    if (fetching) return;
    fetching = true;
    try {
      while (stale) {
        stale = false;
        const source = document.getElementById("files");
        await htmx.ajax("GET", location.pathname, { source, target: "#files", swap: "outerHTML" });
      }
    } catch {
      // A toast has told; the next file that is kept reloads the list again.
    } finally {
      fetching = false;
    }
  };

  // The folder's name is dropped if the folder is a model: MLflow looks for MLmodel at the top.
  const placed = (found) => {
    const folder = found[0]?.path.split("/")[0];
    const isModel = found.some(({ path }) => path === `${folder}/MLmodel`);
    if (!isModel || !found.every(({ path }) => path.startsWith(`${folder}/`))) return found;
    return found.map(({ path, file }) => ({ path: path.slice(folder.length + 1), file }));
  };

  const take = (found) => {
    if (!found.length) {
      toast("There is no file in what you dropped.");
      return;
    }
    for (const one of placed(found)) {
      const before = queue.find((item) => item.path === one.path);
      if (before) {
        before.request?.abort();
        before.row.remove();
        queue.splice(queue.indexOf(before), 1);
      }
      add(one);
    }
    next();
  };

  // --- files that were dropped, with all that is in folders ----------------------------------

  const read = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

  const batch = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));

  const walk = async (entry) => {
    const path = entry.fullPath.replace(/^\//, "");
    if (entry.isFile) return [{ path, file: await read(entry) }];
    const reader = entry.createReader();
    const found = [];
    // readEntries returns at most 100 entries per call, and none at the end.
    for (let entries = await batch(reader); entries.length; entries = await batch(reader)) {
      for (const one of entries) found.push(...(await walk(one)));
    }
    return found;
  };

  const dropped = async (data) => {
    const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return [...data.files].map((file) => ({ path: file.name, file }));
    return (await Promise.all(entries.map(walk))).flat();
  };

  const hold = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    box.querySelector("[data-drop]").classList.add("over");
  };

  document.addEventListener("DOMContentLoaded", () => {
    box = document.querySelector("[data-uploads]");
    if (!box) return;
    const zone = box.querySelector("[data-drop]");
    // Without these listeners, a drop beside the zone would make the browser open the file.
    document.addEventListener("dragover", hold);
    document.addEventListener("dragenter", hold);
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) zone.classList.remove("over");
    });
    document.addEventListener("drop", async (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      zone.classList.remove("over");
      try {
        take(await dropped(event.dataTransfer));
      } catch {
        toast("What you dropped cannot be read; choose it by the buttons.");
      }
    });
    for (const kind of ["files", "folder"]) {
      const input = document.getElementById(`choose-${kind}`);
      box.querySelector(`[data-choose="${kind}"]`).addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        take([...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
        input.value = "";
      });
    }
    box.querySelector("[data-cancel-all]").addEventListener("click", () => {
      for (const item of queue.filter(isOpen)) {
        item.request?.abort();
        show(item, "cancelled");
      }
      next();
    });
  });

  window.addEventListener("beforeunload", (event) => {
    if (queue.some(isOpen)) event.preventDefault();
  });
})();
