// What is known of the chosen song: its neighbours with reasons, itself beside another song, and its descriptors.

import { byId, make, table } from "./dom.js";
import { STEMS } from "./player.js";

/** Sections that a song fills. on: {choose(key), beside(key)}. */
export class Details {
  constructor(on) { this.on = on; }

  clear() {
    for (const id of ["near", "values", "beside"]) byId(id).hidden = true;
  }

  song(song, nameOf) {
    const { embedded } = song;
    for (const id of ["near", "values"]) byId(id).hidden = !embedded;
    if (!embedded) return;
    const items = song.near.map((near) => make("li", {},
      make("div", { className: "row" },
        make("button", { type: "button", className: "name", onclick: () => this.on.choose(String(near.song)) }, nameOf(near.song)),
        make("button", { type: "button", "aria-label": `Hear beside: ${nameOf(near.song)}`, onclick: () => this.on.beside(String(near.song)) }, "Hear beside")),
      why(near, "Like it")));
    const none = make("p", { className: "soft" }, "There is no other song in this index.");
    byId("near").replaceChildren(make("h2", { id: "near-title" }, "Mixed most like it"),
      items.length ? make("ol", { className: "near" }, ...items) : none);
    this._values(song.descriptors, "value, and in small print the share of the songs here that have less, in percent");
  }

  pair(pair) {
    const box = byId("beside");
    box.hidden = false;
    const close = make("button", { type: "button", onclick: () => this.on.beside("") }, "Close B");
    const told = pair.cosine === undefined ? [] : [why(pair, "B is like A")];
    box.replaceChildren(make("div", { className: "row" }, make("h2", { id: "beside-title" }, `A beside B: ${pair.second.name}`), close), ...told);
    if (pair.descriptors) this._values(pair.descriptors, "A / B; bold: more than 50 percentiles of the songs here apart");
  }

  _values(groups, told) {
    const rows = groups.flatMap(({ group, rows: own }) => [[group], ...own.map(({ title, unit, cells }) =>
      [unit ? `${title}, ${unit}` : title, ...cells.map(cell)])]);
    byId("values").replaceChildren(make("h2", { id: "values-title" }, "Descriptors"), make("p", { className: "soft" }, told),
      table("Descriptors by stem", ["", ...STEMS], rows));
  }
}

/** How near two songs are, what is heard of the second against the first, and in what they are alike. */
function why({ exception, closeness, cosine, heard, alike }, like) {
  return make("div", { className: "why" },
    make("p", {}, exception ? make("b", {}, `${like} ${exception}`) : "", exception ? "; " : "", closeness,
      make("span", { className: "soft" }, ` (cosine ${cosine.toFixed(3)})`)),
    make("p", {}, `Against ${like === "Like it" ? "it" : "A"}: ${heard}`),
    make("p", { className: "soft" }, `Most alike in ${alike.join("; ")}`));
}

function cell(value) {
  if (!value) return "–";
  if (value.far) return make("b", {}, value.text);
  return make("span", {}, value.text, value.rank === undefined ? "" : make("small", {}, String(value.rank)));
}
