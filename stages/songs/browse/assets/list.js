// The list: a filter, a sort, and rows that are drawn only where they are seen, so that ten thousand cost nothing.

import { byId, clock, lufs, make } from "./dom.js";
import { readState, writeState } from "./state.js";

const ROW_PX = 52;
const SPARE_ROWS = 6;
const TRACK_NUMBER = /^(\d{1,2}-)?\d{1,2}(\. | - )/;

/** What a search compares: without case, and accents are no difference, typed or composed in whichever way. */
export const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** A song's parts by its path: `Artist - Title.mp3`, or the first folder as artist. A track's number is neither. */
export function parts(path) {
  const slash = path.lastIndexOf("/");
  const folder = slash < 0 ? "" : path.slice(0, slash);
  const name = path.slice(slash + 1).replace(/\.[^.]{1,5}$/, "").replace(TRACK_NUMBER, "");
  const dash = name.indexOf(" - ");
  const artist = dash > 0 ? name.slice(0, dash) : folder.split("/")[0];
  return { folder, title: dash > 0 ? name.slice(dash + 3) : name, artist };
}

export class SongList extends EventTarget {
  constructor() {
    super();
    this.songs = [];
    this.shown = [];
    this.active = 0;
    this.first = this.second = null;
    this.cosines = null;
    this.box = byId("list");
    this.rows = byId("rows");
    for (const id of ["query", "folder", "sort", "descending"]) {
      byId(id).addEventListener("input", () => this._filtered(true));
    }
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("query").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") { event.preventDefault(); this.box.focus(); }
    });
    this.box.addEventListener("scroll", () => this._draw());
    this.box.addEventListener("keydown", (event) => this._key(event));
    this.rows.addEventListener("click", (event) => this._click(event));
    new ResizeObserver(() => this._draw()).observe(this.box);
  }

  /** songs: {key, path, seconds, lufs, own}, those of the index in their order. */
  setSongs(songs) {
    this.songs = songs.map((song) => ({ ...song, ...parts(song.path), low: folded(song.path) }));
    this._folders();
    this.restore();
  }

  /** Takes the filter from the address. */
  restore() {
    const state = readState();
    byId("query").value = state.q;
    byId("folder").value = state.folder;
    byId("sort").value = state.sort || "path";
    byId("descending").checked = state.reversed === "1";
    this._filtered(false);
  }

  /** first, second: keys of the songs that are A and B. cosines: of the first with the index, by number. */
  setChosen(first, second, cosines) {
    [this.first, this.second, this.cosines] = [first, second, cosines];
    if (byId("sort").value === "near") this._filtered(false);
    this._draw();
  }

  /** Brings a song into view. */
  show(key) {
    const place = this.shown.findIndex((song) => song.key === key);
    if (place >= 0) this._activate(place);
  }

  _folders() {
    const counts = new Map();
    for (const { folder } of this.songs) counts.set(folder, (counts.get(folder) || 0) + 1);
    const options = [...counts].sort(([a], [b]) => a.localeCompare(b)).map(([folder, count]) =>
      make("option", { value: folder || "." }, `${folder || "(no folder)"} (${count})`));
    byId("folder").replaceChildren(make("option", { value: "" }, "all"), ...options);
    byId("folder").closest("label").hidden = counts.size < 2;
  }

  _filtered(byHand) {
    const words = folded(byId("query").value).split(/\s+/).filter(Boolean);
    const [folder, sort] = [byId("folder").value, byId("sort").value];
    const reversed = byId("descending").checked;
    this.shown = this.songs.filter((song) => words.every((word) => song.low.includes(word))
      && (!folder || (song.folder || ".") === folder));
    const near = (song) => (song.own || !this.cosines ? -2 : this.cosines[Number(song.key)]);
    const by = {
      path: (a, b) => a.order - b.order,
      artist: (a, b) => a.artist.localeCompare(b.artist) || a.order - b.order,
      title: (a, b) => a.title.localeCompare(b.title),
      length: (a, b) => a.seconds - b.seconds,
      loudness: (a, b) => (a.lufs ?? -99) - (b.lufs ?? -99),
      near: (a, b) => near(b) - near(a),
    }[sort];
    this.shown.sort((a, b) => Number(Boolean(b.own)) - Number(Boolean(a.own)) || (reversed ? -by(a, b) : by(a, b)));
    const all = this.songs.length;
    byId("count").textContent = this.shown.length === all ? `${all} songs`
      : this.shown.length ? `${this.shown.length} of ${all} songs`
        : `No song fits. Search for fewer words${folder ? ", or take all folders" : ""}.`;
    if (byHand) {
      writeState({ q: byId("query").value, folder, sort: sort === "path" ? "" : sort, reversed: reversed ? "1" : "" });
      this.box.scrollTop = 0;
      this.active = 0;
    }
    this.active = Math.min(this.active, Math.max(0, this.shown.length - 1));
    this._draw();
  }

  _draw() {
    const from = Math.max(0, Math.floor(this.box.scrollTop / ROW_PX) - SPARE_ROWS);
    const to = Math.min(this.shown.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_PX) + SPARE_ROWS);
    this.rows.style.height = `${this.shown.length * ROW_PX}px`;
    this.rows.replaceChildren(...this.shown.slice(from, to).map((song, i) => this._row(song, from + i)));
    const drawn = this.active >= from && this.active < to;
    if (drawn) this.box.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  _row(song, place) {
    const side = song.key === this.first ? "A" : song.key === this.second ? "B" : "";
    const below = [song.own ? "added" : song.folder, clock(song.seconds), lufs(song.lufs)].filter(Boolean).join(" · ");
    const row = make("div", {
      id: `row-${place}`, role: "option", className: `song${place === this.active ? " active" : ""}`,
      "aria-selected": String(song.key === this.first), "aria-setsize": this.shown.length,
      "aria-posinset": place + 1, title: song.path,
    }, make("span", { className: "title" }, song.artist && song.artist !== song.folder.split("/")[0]
      ? `${song.artist} – ${song.title}` : song.title),
    make("span", { className: "soft below" }, below),
    side ? make("span", { className: "side", role: "img", "aria-label": side === "A" ? "chosen as A" : "chosen as B" }, side) : null);
    if (!side || side === "A") {
      row.append(make("span", { className: "as-b", "aria-hidden": "true", title: "take it as B, the reference" }, "B"));
    }
    row.style.transform = `translateY(${place * ROW_PX}px)`;
    row.dataset.place = place;
    return row;
  }

  _activate(place) {
    this.active = Math.max(0, Math.min(place, this.shown.length - 1));
    const top = this.active * ROW_PX;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW_PX > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + ROW_PX - this.box.clientHeight;
    }
    this._draw();
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_PX) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in moves) this._activate(this.active + moves[event.key]);
    else if (event.key === "Enter") this._choose(this.active, "first");
    else if (event.key.toLowerCase() === "r") this._choose(this.active, "second");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  _click(event) {
    const row = event.target.closest("[data-place]");
    if (!row) return;
    this.active = Number(row.dataset.place);
    this._choose(this.active, event.target.closest(".as-b") ? "second" : "first");
  }

  _choose(place, side) {
    const song = this.shown[place];
    if (song) this.dispatchEvent(new CustomEvent("choose", { detail: { key: song.key, side } }));
  }
}
