// The pages work without this. With it they stay current: the server says that something changed, the page is asked
// for again, and what differs is put in place, so that neither scroll position nor what one is typing is lost.
"use strict";

document.documentElement.classList.add("js");

const main = document.getElementById("main");
const pulse = document.getElementById("pulse");
let live = document.body.dataset.live;
const MOST_LINES = 2000;

// --- times, in the reader's zone and language of numbers ---

const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function ago(seconds) {
  const distance = Math.abs(seconds);
  if (distance < 1) return "now";
  const [size, unit] = units.find(([size]) => distance >= size);
  const text = `${Math.floor(distance / size)} ${unit}`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

function tellTimes() {
  for (const time of main.querySelectorAll("time[data-ago]")) {
    const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.title = at.toLocaleString();
    if ("clock" in time.dataset) time.textContent = at.toTimeString().slice(0, 8);
  }
}

// --- put in place what differs ---

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id : "";
}

function isSame(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old.dataset.morph) return;
  for (const { name } of [...old.attributes]) {
    // What a reader has opened stays open.
    if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(old.nodeName === "DETAILS" && name === "open")) old.setAttribute(name, value);
  }
  if (old === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(old.nodeName)) return;
  if (old.nodeName === "TEXTAREA") return;
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.id) keyed.set(child.id, child);
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = keyOf(wanted) ? keyed.get(wanted.id) : undefined;
    if (known && known.nodeName === wanted.nodeName) {
      if (known !== at) old.insertBefore(known, at);
      else at = at.nextSibling;
      morph(known, wanted);
    } else if (at && !keyOf(wanted) && isSame(at, wanted)) {
      const next = at.nextSibling;
      morph(at, wanted);
      at = next;
    } else {
      const added = document.importNode(wanted, true);
      if (keyOf(wanted) && added.classList) added.classList.add("fresh");
      old.insertBefore(added, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

let isAsking = false;
let isStale = false;

async function refresh() {
  if (isAsking || document.hidden) {
    isStale = true;
    return;
  }
  isAsking = true;
  isStale = false;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (!main.contains(document.activeElement?.closest?.("select"))) {
        morphChildren(main, fresh);
        document.title = page.title;
        localize(main);
        tellTimes();
        listenTo(page.body.dataset.live);
      }
    }
  } catch {
    // The engine is away; the stream says when it is back.
  } finally {
    isAsking = false;
    if (isStale) setTimeout(refresh, 300);
  }
}

// --- lines of a log ---

function append(html) {
  const lines = document.getElementById("lines");
  if (!lines) return;
  const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  localize(fresh);
  lines.querySelector(".nothing")?.remove();
  lines.append(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
  while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
  if (isAtEnd) lines.scrollTop = lines.scrollHeight;
}

// --- the stream ---

let stream = null;
let wasLost = false;

function listen() {
  if (!live || stream || document.hidden) return;
  stream = new EventSource(live);
  stream.addEventListener("open", () => {
    tell(true);
    if (wasLost) refresh();
    wasLost = false;
  });
  stream.addEventListener("error", () => {
    tell(false);
    wasLost = true;
  });
  stream.addEventListener("change", refresh);
  stream.addEventListener("lines", (event) => append(event.data));
}

// What a page wants to hear of changes with what it shows, such as children that are under way.
function listenTo(wanted) {
  const without = (address) => address?.replace(/changes=\d+/, "");
  if (without(wanted) === without(live)) return;
  live = wanted;
  stream?.close();
  stream = null;
  listen();
}

function tell(isLive) {
  pulse.hidden = false;
  pulse.textContent = isLive ? "live" : "engine away";
  pulse.classList.toggle("off", !isLive);
}

// A page that nobody looks at listens to nothing: a browser has few connections for one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    stream = null;
    wasLost = true;
  } else {
    listen();
    tellTimes();
  }
});

// --- small comforts ---

for (const form of document.querySelectorAll("form[data-submit]")) {
  form.addEventListener("change", (event) => {
    if (event.target.nodeName === "SELECT") form.requestSubmit();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName)) return;
  if (event.key === "/") {
    const search = document.getElementById("q");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

if (document.querySelector("#said .note")) {
  // Said once: not again when the page is loaded anew.
  const address = new URL(location.href);
  address.searchParams.delete("note");
  history.replaceState(null, "", address);
}

localize(document);
tellTimes();
setInterval(tellTimes, 1000);
const lines = document.getElementById("lines");
if (lines) lines.scrollTop = lines.scrollHeight;
listen();
