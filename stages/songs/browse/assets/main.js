// The page: brings list, player, map, details, dropped songs and matches together.

import { alarm, ask, byId, make } from "./dom.js";
import { Details } from "./details.js";
import { Drop } from "./drop.js";
import { bindKeys } from "./keys.js";
import { SongList } from "./list.js";
import { SongMap } from "./map.js";
import { Match } from "./match.js";
import { Player, facts } from "./player.js";
import { readState, writeState } from "./state.js";
import { RATE } from "./transport.js";

class Page {
  async start() {
    this.first = this.second = "";
    this.also = []; // references beside B
    this.list = new SongList();
    this.player = new Player();
    this.details = new Details({ choose: (key) => this.choose(key), beside: (key) => this.beside(key) });
    this.list.addEventListener("choose", ({ detail }) => (detail.side === "first" ? this.choose(detail.key) : this.beside(detail.key)));
    this.player.addEventListener("moved", () => this._keepPlace());
    window.addEventListener("pagehide", () => this._keepPlace());
    window.addEventListener("popstate", () => this._restore());
    bindKeys(this.player);
    try {
      const [about, songs] = await Promise.all([ask("/api/about"), ask("/api/songs")]);
      this._filled(about, songs);
    } catch (error) {
      byId("summary").textContent = "The list of songs could not be loaded.";
      alarm(error.message);
      return;
    }
    await this._restore();
    this.drop.resume();
    this.match.resume();
  }

  _filled(about, songs) {
    this.about = about;
    this.songs = new Map(songs.map(([path, seconds, lufs], number) => [String(number), { key: String(number), path, seconds, lufs, order: number }]));
    for (const track of about.added) this._add(track);
    byId("summary").textContent = `${songs.length} ${songs.length === 1 ? "song" : "songs"} in ${about.folder}`;
    byId("foot").replaceChildren(`mixstyle ${about.version}, index of ${about.date}`,
      ...Object.entries(about.pages).map(([name, day]) => make("a", { href: `/pages/${name}` }, `${name} of ${day}`)));
    const folders = [...new Set(songs.map(([path]) => path.split("/").slice(0, -1)[0] || ""))];
    const groups = songs.map(([path]) => folders.indexOf(path.split("/").slice(0, -1)[0] || ""));
    this.map = new SongMap((key) => this.choose(key), (number) => songs[number][0], (number) => groups[number]);
    this.drop = new Drop(about, (track, choose) => this.added(track, choose), (key) => this.removed(key));
    this.match = new Match(about, this);
    this._list();
  }

  _list() {
    this.list.setSongs([...this.songs.values()]);
    this.list.setChosen(this.first, this.second, this.cosines);
  }

  _add({ key, name, seconds, lufs, embedded }) {
    this.songs.set(key, { key, path: name, seconds, lufs, own: true, embedded, made: key.startsWith("match-"), order: 1e9 });
  }

  /** A song that was dropped, or made by a match. */
  added(track, choose = true) {
    this._add(track);
    this._list();
    return choose ? this.choose(track.key) : undefined;
  }

  removed(key) {
    this.songs.delete(key);
    this._list();
    this.also = this.also.filter((one) => one !== key);
    this.match.removed(key);
    if (key === this.second) this.beside("");
    if (key === this.first) this.choose(this.songs.keys().next().value);
    else if (this.player.sides.some((side) => side.key === key)) this._sides();
  }

  nameOf(key) { return this.songs.get(String(key))?.path || ""; }

  /** From the address: songs by path, so that an address outlives an index. */
  async _restore() {
    const state = readState();
    this.list.restore();
    this.match.restoreForm();
    const byPath = (path) => [...this.songs.values()].find((song) => song.path === path)?.key;
    const first = byPath(state.song) ?? (state.song ? undefined : "0");
    if (first === undefined) { alarm(`${state.song} is not in this index.`); return; }
    this.also = state.also.split("\n").map(byPath).filter(Boolean);
    await this.choose(first, { push: false, second: byPath(state.reference) || "", match: state.match });
    if (state.reference && !byPath(state.reference)) alarm(`${state.reference} is not in this index.`);
    const loop = state.loop.split("-").map(Number);
    if (state.loop && loop.every(Number.isFinite)) this.player.transport.setLoop(loop.map((at) => at * RATE));
    this.player.restore(state);
    if (Number(state.at)) this.player.transport.seek(Number(state.at) * RATE);
  }

  _keepPlace() {
    if (!this.first) return;
    const { position, loop } = this.player.transport;
    writeState({ ...this.player.state, at: position > RATE ? (position / RATE).toFixed(1) : "", loop: loop ? loop.map((end) => (end / RATE).toFixed(2)).join("-") : "" });
  }

  /** Makes a song A. */
  async choose(key, { push = true, second = "", match = "" } = {}) {
    if (!this.songs.has(key)) return;
    alarm("");
    this.first = key;
    this.second = second === key ? "" : second;
    this.cosines = null;
    const song = this.songs.get(key);
    byId("player-title").textContent = song.path;
    byId("player-facts").textContent = facts(song);
    document.title = `${song.path.split("/").pop()} – mixstyle`;
    if (push) writeState({ song: song.path, reference: this.nameOf(this.second), at: "", loop: "", match }, true);
    this.list.setChosen(this.first, this.second, null);
    this.list.show(key);
    this.match.chosen();
    byId("song").setAttribute("aria-busy", "true");
    if (byId("near").contains(document.activeElement)) byId("song").focus({ preventScroll: true });
    byId("near").inert = true; // it is still that of the song before
    if (push && innerWidth <= 900) byId("player").scrollIntoView({ block: "start" });
    const asked = (this.asked = key);
    try {
      const [found] = await Promise.all([ask(`/api/songs/${key}`), this._sides()]);
      if (this.asked !== asked) return;
      this.cosines = found.cosines || null;
      this.details.clear();
      this.details.song(found, (number) => this.nameOf(number));
      this.list.setChosen(this.first, this.second, this.cosines);
      this.map.setChosen([this.first, this.second].filter(Boolean).map(Number));
      if (this.second) await this._pair();
      if (match) await this.match.restore(match, true);
      else if (this.songs.get(key).made) await this.match.restore(key, false);
    } catch (error) {
      if (this.asked === asked) { this.details.clear(); alarm(error.message); }
    } finally {
      if (this.asked === asked) {
        byId("song").setAttribute("aria-busy", "false");
        byId("near").inert = false;
      }
    }
  }

  /** Makes a song B, the reference; none with an empty key. */
  async beside(key) {
    if (key === this.first) return;
    alarm("");
    this.second = key;
    writeState({ reference: this.nameOf(key) });
    this.list.setChosen(this.first, this.second, this.cosines);
    this.map.setChosen([this.first, this.second].filter(Boolean).map(Number));
    this.match.chosen();
    try {
      await this._sides();
      if (key) await this._pair();
      else {
        byId("beside").hidden = true;
        this.details.song(await ask(`/api/songs/${this.first}`), (number) => this.nameOf(number));
      }
    } catch (error) {
      alarm(error.message);
    }
  }

  /** Adds a song to the references, or takes it out. */
  references(key, wanted) {
    this.also = this.also.filter((one) => one !== key);
    if (wanted) this.also.push(key);
    writeState({ also: this.also.map((one) => this.nameOf(one)).join("\n") });
    if (!wanted && key === this.second) this.beside("");
    else this.match.chosen();
  }

  /** A match, before and after, and its reference, into the player. */
  async hear({ key, song, references }) {
    const reference = references.find((one) => this.songs.has(one));
    const sides = [{ key: song, label: "before" }, { key, label: "after" }];
    if (reference) sides.push({ key: reference, label: "reference" });
    if (await this.player.setSides(sides)) this.player.choose(1);
  }

  async _pair() {
    const [first, second] = [this.first, this.second];
    const pair = await ask(`/api/songs/${first}/beside/${second}`);
    if (this.first === first && this.second === second) this.details.pair(pair);
  }

  _sides() {
    const keys = [this.first, this.second].filter(Boolean);
    return this.player.setSides(keys.map((key) => ({ key, label: this.nameOf(key).split("/").pop() })));
  }
}

new Page().start();
