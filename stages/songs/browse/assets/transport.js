// One transport for any number of sources of one rate: they run side by side to the sample, and what is heard of them is
// a matter of gains. Sources are WAV files (16 or 24 bits, stereo) that are read piece by piece, so a song of any length
// takes little memory, and the next pieces are set on the audio clock before they are due.

export const RATE = 44100;
export const PIECE = 4 * RATE;
const HEADER_BYTES = 44;
const AHEAD = 3 * RATE;
const LEAD = Math.round(0.08 * RATE);
const MOST_PIECES = 160;
const FADE_S = 0.004;

/** Stereo samples of 2 or 3 bytes as a buffer. */
export function decoded(context, bytes, size = 2) {
  const frames = Math.floor(bytes.byteLength / (2 * size));
  const buffer = context.createBuffer(2, frames, RATE);
  const sample = size === 2 ? sample16(bytes, frames) : sample24(bytes);
  for (const channel of [0, 1]) {
    const out = buffer.getChannelData(channel);
    for (let i = 0; i < frames; i += 1) out[i] = sample(2 * i + channel);
  }
  return buffer;
}

function sample16(bytes, frames) {
  const samples = new Int16Array(bytes, 0, 2 * frames);
  return (place) => samples[place] / 32768;
}

function sample24(bytes) {
  const all = new Uint8Array(bytes);
  return (place) => ((all[3 * place] << 8 | all[3 * place + 1] << 16 | all[3 * place + 2] << 24) >> 8) / 8388608;
}

/** Sets a part of a buffer on the clock; all in frames, so that what follows on is heard without a seam. */
export function place(context, buffer, to, whenFrames, offsetFrames, frames) {
  const node = context.createBufferSource();
  node.buffer = buffer;
  node.connect(to);
  node.start(whenFrames / RATE, offsetFrames / RATE, frames / RATE);
  return node;
}

/** Events: `change` (playing, loop or length), `wait` (detail: whether it waits for data), `fail` (detail: Error). */
export class Transport extends EventTarget {
  constructor() {
    super();
    this.sources = new Map();
    this.loop = null;
    this.playing = false;
    this.length = 0;
    this._gains = new Map();
    this._nodes = new Set();
    this._pieces = new Map();
    this._anchors = [];
    this._at = 0;
    this._run = 0;
  }

  /** list: {id, url, frames, start, bytes, header}: start is the frame of the timeline where the source's first frame
   * lies, bytes those of a sample (2 unless given), header those before the first one (44 unless given). */
  setSources(list, length) {
    const same = list.length === this.sources.size && list.every(({ id, url, start }) =>
      this.sources.get(id)?.url === url && this.sources.get(id)?.start === start);
    this.length = length;
    if (same) return;
    const at = this.position;
    this.sources = new Map(list.map((source) => [source.id, source]));
    for (const [id, node] of this._gains) if (!this.sources.has(id)) { node.disconnect(); this._gains.delete(id); }
    this._levels = new Map([...(this._levels || [])].filter(([id]) => this.sources.has(id)));
    this._restart(Math.min(at, Math.max(0, length - 1)));
  }

  /** levels: gain by source; what is not named is silent. */
  setLevels(levels) {
    this._levels = new Map(levels);
    for (const [id, node] of this._gains) {
      node.gain.setTargetAtTime(this._levels.get(id) || 0, this.context.currentTime, FADE_S);
    }
  }

  levelOf(id) { return this._levels?.get(id) || 0; }

  /** In frames of the timeline. */
  get position() {
    if (!this.playing || !this._anchors.length) return this._at;
    const now = this._now();
    while (this._anchors.length > 1 && this._anchors[1].when <= now) this._anchors.shift();
    const { when, frame, frames } = this._anchors[0];
    return frame + Math.max(0, Math.min(now - when, frames));
  }

  async play() {
    this.context ||= new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await this.context.resume();
    if (this.playing || !this.length) return;
    if (this._at >= this.length - 1) this._at = this.loop ? this.loop[0] : 0;
    this.playing = true;
    this._restart(this._at);
    this._changed();
  }

  pause() {
    this._at = this.position;
    this.playing = false;
    this._restart(this._at);
    this._changed();
  }

  seek(frame) {
    this._restart(Math.max(0, Math.min(Math.round(frame), this.length - 1)));
    this._changed();
  }

  /** region: [first, last] in frames, or null. */
  setLoop(region) {
    this.loop = region && region[1] - region[0] >= RATE / 20 ? region.map(Math.round) : null;
    const at = this.position;
    const outside = this.loop && (at < this.loop[0] || at >= this.loop[1]);
    this._restart(outside ? this.loop[0] : at);
    this._changed();
  }

  _changed() { this.dispatchEvent(new Event("change")); }

  _now() { return Math.round(this.context.currentTime * RATE); }

  /** Ends all that is set on the clock and, where it plays, begins again from a frame. */
  _restart(frame) {
    this._run += 1;
    for (const node of this._nodes) node.stop();
    this._nodes.clear();
    this._at = frame;
    this._anchors = [];
    this._waits(false);
    if (this.playing) this._pump(this._run, frame);
  }

  async _pump(run, frame) {
    let when = null;
    let next = frame;
    const slow = setTimeout(() => { if (this._run === run && when === null) this._waits(true); }, 250);
    try {
      while (this._run === run) {
        if (when !== null && when - this._now() > AHEAD) { await pause(100); continue; }
        const stop = this.loop && next < this.loop[1] ? this.loop[1] : this.length;
        if (next >= stop) { await this._ended(run, when); return; }
        const to = Math.min(stop, (Math.floor(next / PIECE) + 1) * PIECE);
        const parts = await Promise.all([...this.sources.values()].map((source) => this._piece(source, next, to)));
        if (this._run !== run) return;
        const soonest = this._now() + LEAD;
        when = when === null ? soonest : Math.max(when, soonest); // what comes too late moves all the rest
        this._waits(false);
        this._place(parts, when, next, to);
        when += to - next;
        next = this.loop && to === this.loop[1] ? this.loop[0] : to;
      }
    } catch (error) {
      if (this._run !== run) return;
      this.pause();
      this.dispatchEvent(new CustomEvent("fail", { detail: error }));
    } finally {
      clearTimeout(slow);
    }
  }

  _place(parts, when, from, to) {
    for (const part of parts.filter(Boolean)) {
      const begin = Math.max(from, part.start);
      const end = Math.min(to, part.start + part.buffer.length);
      if (end <= begin) continue;
      const node = place(this.context, part.buffer, this._gain(part.id), when + begin - from, begin - part.start, end - begin);
      this._nodes.add(node);
      node.onended = () => this._nodes.delete(node);
    }
    this._anchors.push({ when, frame: from, frames: to - from });
  }

  async _ended(run, when) {
    while (this._run === run && when !== null && this._now() < when) await pause(30);
    if (this._run !== run) return;
    this.playing = false;
    this._restart(Math.max(0, this.length - 1));
    this._changed();
  }

  _gain(id) {
    if (!this._gains.has(id)) {
      const node = this.context.createGain();
      node.gain.value = this.levelOf(id);
      node.connect(this.context.destination);
      this._gains.set(id, node);
    }
    return this._gains.get(id);
  }

  /** What a source has between two frames of the timeline that lie in one piece of it. start: of the buffer. */
  async _piece(source, from, to) {
    const first = Math.max(0, Math.floor(from / PIECE) * PIECE - source.start);
    const last = Math.min(source.frames, (Math.floor(from / PIECE) + 1) * PIECE - source.start);
    if (last <= first || to <= source.start || from >= source.start + source.frames) return null;
    const key = `${source.url}@${first}-${last}`;
    if (!this._pieces.has(key)) {
      const loading = this._load(source, first, last);
      this._pieces.set(key, loading);
      loading.catch(() => this._pieces.delete(key));
      if (this._pieces.size > MOST_PIECES) this._pieces.delete(this._pieces.keys().next().value);
    }
    return { id: source.id, start: source.start + first, buffer: await this._pieces.get(key) };
  }

  async _load({ url, bytes: size = 2, header = HEADER_BYTES }, first, last) {
    const bytes = [header + first * 2 * size, header + last * 2 * size - 1];
    let answer;
    try {
      answer = await fetch(url, { headers: { Range: `bytes=${bytes[0]}-${bytes[1]}` } });
    } catch {
      throw new Error("The server does not answer; is `mixstyle browse` still running?");
    }
    if (answer.status !== 206) throw new Error((await answer.json().catch(() => ({}))).error || "This part cannot be read any more.");
    return decoded(this.context, await answer.arrayBuffer(), size);
  }

  _waits(waits) {
    if (waits === this._waiting) return;
    this._waiting = waits;
    this.dispatchEvent(new CustomEvent("wait", { detail: waits }));
  }
}

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
