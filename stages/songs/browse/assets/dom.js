// Elements made in one call, times in words, and requests whose refusals are told in words.

export const byId = (id) => document.getElementById(id);

/** An element. props: properties, `on...` listeners, and attributes (with a dash, or `role`). */
export function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Other children for a box; the focus stays at its place among them. */
export function refill(box, ...children) {
  const at = [...box.children].indexOf(document.activeElement);
  box.replaceChildren(...children);
  if (at >= 0) box.children[at]?.focus();
}

/** 83.4 as 1:23. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** 83.4 as `1 min 23 s`. */
export function spoken(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60 ? `${whole % 60} s` : ""}`.trim();
}

/** Puts text on the clipboard; whether that was possible. Servers other than this machine are no secure context, where
 * the old way still works. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const [box, focused] = [make("textarea", { value: text, readOnly: true }), document.activeElement];
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    focused?.focus();
    return done;
  }
}

export const lufs = (value) => (value === null || value === undefined ? "" : `${value.toFixed(1)} LUFS`);

/** Tells readers of the screen, and the eye, that something went wrong; empty text takes it back. */
export function alarm(text) {
  byId("alert").textContent = text;
}

/** JSON from an address. Throws an Error whose message is meant for people. */
export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is `mixstyle browse` still running?");
  }
  let body = {};
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Error("The server stopped in the middle of its answer.");
  }
  if (!answer.ok) throw Object.assign(new Error(body.error || `The server refused (${answer.status}).`), { status: answer.status });
  return body;
}

/** A table in a box that scrolls by itself. head: of columns; rows: of arrays of text or of nodes. */
export function table(name, head, rows) {
  const top = make("tr", {}, ...head.map((text, place) =>
    (text ? make("th", { scope: "col", className: place ? "number" : "" }, text) : make("td"))));
  const body = rows.map((cells) => cells.length === 1
    ? make("tr", { className: "group" }, make("th", { scope: "colgroup", colSpan: head.length }, cells[0]))
    : make("tr", {}, ...cells.map((cell, place) => place === 0
      ? make("th", { scope: "row" }, cell) : make("td", { className: "number" }, cell))));
  const whole = make("table", {}, make("thead", {}, top), make("tbody", {}, ...body));
  return make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": name }, whole);
}
