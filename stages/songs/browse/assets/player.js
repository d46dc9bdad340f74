// The player: up to three sides (A, B, C) on one transport, each a song with its mix and the stems of its clips. What is
// heard is one side at a time, as a mix or as stems, at equal loudness if wanted.

import { alarm, ask, byId, clock, lufs, make, refill } from "./dom.js";
import { RATE, Transport } from "./transport.js";
import { Wave } from "./wave.js";

export const STEMS = ["vocals", "bass", "drums", "other"];
const LETTERS = ["A", "B", "C"];
const QUIETEST_LUFS = -60;

export class Player extends EventTarget {
  constructor() {
    super();
    this.transport = new Transport();
    this.sides = [];
    this.side = this.clip = 0;
    this.stale = false;
    this.soloed = new Set();
    this.muted = new Set();
    this.equal = true;
    this._asked = 0;
    this.wave = new Wave(byId("wave"), this);
    this._buttons();
    this.transport.addEventListener("change", () => { this._drawTransport(); this._tick(); this.dispatchEvent(new Event("moved")); });
    this.transport.addEventListener("wait", ({ detail }) => this._state(detail ? "Loading audio…" : ""));
    this.transport.addEventListener("fail", ({ detail }) => alarm(detail.message));
  }

  /** Draws the position as long as it moves. */
  _tick() {
    if (!this.transport.playing || this._ticks) return;
    this._ticks = true;
    requestAnimationFrame(() => {
      this._ticks = false;
      this._drawTime();
      this._tick();
    });
  }

  /** chosen: {key, label} of each side. Opens them, keeps place and stems where the first song is as it was. */
  async setSides(chosen) {
    const ticket = (this._asked += 1);
    const kept = new Map(this.sides.map((side) => [side.key, side]));
    const samePlace = chosen[0]?.key === this.sides[0]?.key;
    if (!samePlace) { this.transport.pause(); this.transport.setLoop(null); this._stale(this.sides.length > 0); }
    this._state("Opening…");
    const opened = [];
    try {
      for (const { key, label } of chosen) {
        const audio = kept.get(key)?.audio || await ask(`/api/songs/${key}/audio`);
        if (ticket !== this._asked) return false;
        opened.push({ key, label, audio, stems: kept.get(key)?.stems || new Map(), shift: 0 });
      }
    } catch (error) {
      if (ticket === this._asked) { this._state(""); alarm(error.message); }
      return false;
    }
    this._state("");
    this._stale(false);
    this.sides = opened;
    this.side = Math.min(this.side, opened.length - 1);
    if (!samePlace) { this.clip = this.side = 0; }
    this._lay();
    if (!samePlace) this.transport.seek(0);
    this._draw();
    if (this._withStems) this._needStems();
    return true;
  }

  /** Whether what is open is that of the song before: it is not to be played under the name of the next one. */
  _stale(is) {
    this.stale = is;
    for (const id of ["sides", "wave", "transport", "clips", "stems"]) byId(id).inert = is;
  }

  /** What is heard, as the address holds it. */
  get state() {
    return { side: this.side || "", clip: this.clip || "", solo: [...this.soloed].join("-"), mute: [...this.muted].join("-"),
      levels: this.equal ? "" : "own" };
  }

  /** Takes up what was heard; where that is no part of what is open, it stays as it is. */
  restore({ side, clip, solo, mute, levels }) {
    const stems = (names) => new Set(names.split("-").filter((name) => STEMS.includes(name)));
    [this.soloed, this.muted] = [stems(solo), stems(mute)];
    this.setEqual(levels !== "own");
    if (this.sides[0]?.audio.heard[Number(clip)]) { this.clip = Number(clip); this._lay(); }
    this.choose(this.sides[Number(side)] ? Number(side) : this.side);
  }

  get current() { return this.sides[this.side]; }

  get _withStems() { return this.soloed.size + this.muted.size > 0; }

  /** Frames of a clip of a side on the timeline, or null. */
  heardOf(side, clip = this.clip) {
    const heard = side?.audio.heard;
    if (!heard?.length) return null;
    const [first, last] = heard[Math.min(clip, heard.length - 1)];
    return [first + side.shift, last + side.shift];
  }

  /** Lays other songs so that their clip lies under that of A, and hands all sources to the transport. */
  _lay() {
    const [first] = this.sides;
    for (const side of this.sides) {
      const [own, theirs] = [first.audio.heard[this.clip], side.audio.heard[Math.min(this.clip, side.audio.heard.length - 1)]];
      side.shift = side === first || !own || !theirs ? 0 : own[0] - theirs[0];
    }
    const sources = [];
    this.sides.forEach((side, place) => {
      sources.push({ id: `${place}/mix`, url: side.audio.url, frames: side.audio.frames, start: side.shift });
      const stems = side.stems.get(Math.min(this.clip, side.audio.heard.length - 1));
      if (!stems) return;
      for (const stem of STEMS) {
        const { frames, bytes, header } = stems;
        sources.push({ id: `${place}/${stem}`, url: stems.urls[stem], frames, bytes, header, start: stems.start + side.shift });
      }
    });
    const length = Math.max(...this.sides.map((side) => side.audio.frames + side.shift));
    this._levels();
    this.transport.setSources(sources, length);
  }

  /** The gain of every source by what is chosen. */
  _levels() {
    const loudness = this.sides.map((side) => side.audio.lufs);
    const counted = loudness.filter((value) => value > QUIETEST_LUFS);
    const quietest = Math.min(...counted);
    const levels = new Map();
    this.sides.forEach((side, place) => {
      const gain = this.equal && loudness[place] > QUIETEST_LUFS ? 10 ** ((quietest - loudness[place]) / 20) : 1;
      if (place !== this.side) return;
      const stems = this._withStems && side.stems.has(Math.min(this.clip, side.audio.heard.length - 1));
      if (!stems) { levels.set(`${place}/mix`, gain); return; }
      for (const stem of STEMS) if (this._audible(stem)) levels.set(`${place}/${stem}`, gain);
    });
    this.transport.setLevels(levels);
    const by = this.current && counted.length ? quietest - this.current.audio.lufs : 0;
    byId("level-told").textContent = this.sides.length > 1 && this.equal ? `${LETTERS[this.side]} by ${by.toFixed(1)} dB` : "";
  }

  _audible(stem) {
    return this.soloed.size ? this.soloed.has(stem) : !this.muted.has(stem);
  }

  /** Chooses a side by its place. */
  choose(place) {
    if (!this.sides[place]) return;
    this.side = place;
    this._heard();
  }

  /** What is heard has changed. */
  _heard() {
    this._levels();
    this._draw();
    this.dispatchEvent(new Event("moved"));
    if (this._withStems) this._needStems();
  }

  /** Takes another clip: its stems, and its seconds as a loop where one is set. */
  chooseClip(clip) {
    if (!this.sides[0]?.audio.heard[clip]) return;
    this.clip = clip;
    this._lay();
    const heard = this.heardOf(this.sides[0]);
    if (this.transport.loop) this.transport.setLoop(heard);
    this.transport.seek(heard[0]);
    this._draw();
    if (this._withStems) this._needStems();
  }

  toggle(kind, stem) {
    const set = kind === "solo" ? this.soloed : this.muted;
    if (!set.delete(stem)) set.add(stem);
    this._heard();
  }

  wholeMix() {
    this.soloed.clear();
    this.muted.clear();
    if (byId("player-state").dataset.stems) this._state("");
    this._heard();
  }

  /** Has the stems of this clip made for all sides that have clips, and goes there. */
  async _needStems() {
    const clip = this.clip;
    const sides = [this.current, ...this.sides.filter((side) => side !== this.current)];
    for (const side of sides.filter(({ audio }) => audio.heard.length)) {
      const own = Math.min(clip, side.audio.heard.length - 1);
      if (side.stems.has(own)) continue;
      this._state(`Getting the stems of ${side.label}: from the cache, or separated now, after a job that runs…`, true);
      try {
        side.stems.set(own, await ask(`/api/songs/${side.key}/stems/${own}`));
      } catch (error) {
        this._state("");
        alarm(error.message);
        return;
      }
      if (!this._withStems) return; // the mix is wanted again
      if (clip !== this.clip || !this.sides.includes(side)) return;
      this._lay();
    }
    this._state(this.current.audio.heard.length ? "" : "There are no stems of this one; its mix is heard.");
    const heard = this.heardOf(this.sides[0]);
    const at = this.transport.position;
    if (heard && (at < heard[0] || at >= heard[1])) this.transport.seek(heard[0]);
    if (heard && !this.transport.loop) this.transport.setLoop(heard);
    this._levels();
  }

  toggleLoop() {
    const { loop } = this.transport;
    this.transport.setLoop(loop ? null : this.heardOf(this.sides[0]) || [0, this.transport.length]);
  }

  /** One end of the loop is here. */
  loopEnd(which) {
    const at = this.transport.position;
    const [from, to] = this.transport.loop || [0, this.transport.length];
    this.transport.setLoop(which === "first" ? [at, to > at ? to : this.transport.length] : [from < at ? from : 0, at]);
  }

  move(seconds) { this.transport.seek(this.transport.position + seconds * RATE); }

  playOrPause() {
    if (this.transport.playing) this.transport.pause();
    else this.transport.play().catch((error) => alarm(`This browser plays nothing here: ${error.message}`));
  }

  setEqual(equal) {
    this.equal = equal;
    if (this.sides.length) this._levels();
    byId("level").setAttribute("aria-pressed", String(equal));
    this.dispatchEvent(new Event("moved"));
  }

  _buttons() {
    byId("play").addEventListener("click", () => this.playOrPause());
    byId("loop").addEventListener("click", () => this.toggleLoop());
    byId("level").addEventListener("click", () => this.setEqual(!this.equal));
    byId("sides").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.choose((this.side + step + this.sides.length) % this.sides.length);
      byId("sides").children[this.side]?.focus();
    });
  }

  _state(text, stems = false) {
    byId("player-state").textContent = text;
    byId("player-state").dataset.stems = stems ? "1" : "";
  }

  _draw() {
    const [first] = this.sides;
    if (!first) return;
    refill(byId("sides"), ...this.sides.map((side, place) => make("button", {
      type: "button", role: "radio", className: "side", "aria-checked": String(place === this.side),
      tabIndex: place === this.side ? 0 : -1, onclick: () => this.choose(place),
    }, make("b", {}, LETTERS[place]), ` ${side.label}`)));
    byId("sides").hidden = this.sides.length < 2;
    byId("level").hidden = this.sides.length < 2;
    refill(byId("clips"), make("span", { className: "soft" }, first.audio.heard.length ? "Heard by the embedding:" : ""),
      ...first.audio.heard.map(([from, to], clip) => make("button", {
        type: "button", "aria-pressed": String(clip === this.clip), onclick: () => this.chooseClip(clip),
      }, `${clock(from / RATE)}–${clock(to / RATE)}`)));
    this._drawStems(first);
    this._drawTransport();
  }

  _drawStems(first) {
    const box = byId("stems");
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.name : "";
    box.hidden = !first.audio.heard.length;
    const rows = STEMS.map((stem) => make("div", { className: `stem ${stem}${this._withStems && !this._audible(stem) ? " off" : ""}` },
      make("span", { className: "name" }, stem),
      ...[["solo", this.soloed], ["mute", this.muted]].map(([kind, set]) => {
        const button = make("button", {
          type: "button", "aria-pressed": String(set.has(stem)), "aria-label": `${kind} ${stem}`, onclick: () => this.toggle(kind, stem),
        }, kind);
        button.dataset.name = `${kind} ${stem}`;
        return button;
      })));
    const all = make("button", { type: "button", disabled: !this._withStems, onclick: () => this.wholeMix() }, "Back to the mix");
    box.replaceChildren(make("legend", {}, "Stems of these seconds"), ...rows, all);
    if (focused) box.querySelector(`[data-name="${focused}"]`)?.focus();
  }

  _drawTransport() {
    const { playing, loop, length } = this.transport;
    const button = byId("play");
    button.textContent = playing ? "Pause" : "Play";
    button.disabled = byId("loop").disabled = !length;
    byId("loop").setAttribute("aria-pressed", String(Boolean(loop)));
    byId("loop").textContent = loop ? `Loop ${clock(loop[0] / RATE)}–${clock(loop[1] / RATE)}` : "Loop";
    this._drawTime();
  }

  _drawTime() {
    const [at, whole] = [this.transport.position / RATE, this.transport.length / RATE];
    const told = `${clock(at)} / ${clock(whole)}`;
    if (byId("time").textContent !== told) {
      byId("time").textContent = told;
      const slider = byId("wave");
      slider.setAttribute("aria-valuemax", String(Math.round(whole)));
      slider.setAttribute("aria-valuenow", String(Math.round(at)));
      slider.setAttribute("aria-valuetext", `${clock(at)} of ${clock(whole)}`);
    }
    this.wave.draw();
  }
}

/** What a song is, in a few words. */
export const facts = (song) => [clock(song.seconds), lufs(song.lufs)].filter(Boolean).join(", ");
