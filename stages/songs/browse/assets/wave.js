// The waveform of the side that is heard: a click goes there, a drag sets the loop, arrows move. It is drawn from peaks
// that the server has measured, so nothing has to be decoded for it.

import { RATE } from "./transport.js";

const DRAG_PX = 6;

export class Wave {
  constructor(canvas, player) {
    [this.canvas, this.player] = [canvas, player];
    canvas.addEventListener("pointerdown", (event) => this._down(event));
    canvas.addEventListener("pointermove", (event) => this._moved(event));
    canvas.addEventListener("pointerup", (event) => this._up(event));
    canvas.addEventListener("keydown", (event) => this._key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  draw() {
    const { canvas, player } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const side = player.current;
    if (!side) return;
    const colour = (name) => getComputedStyle(canvas).getPropertyValue(name).trim();
    const { length, loop, position } = player.transport;
    const x = (frame) => (frame / length) * width;
    pen.fillStyle = colour("--chosen");
    const heard = side.audio.heard.map((_, clip) => player.heardOf(side, clip));
    for (const [from, to] of heard) pen.fillRect(x(from), 0, Math.max(1, x(to) - x(from)), height);
    this._bars(pen, side, x, height, colour("--soft"), colour("--accent"), position);
    pen.fillStyle = colour("--good"); // a strip that loud music does not cover
    for (const [from, to] of heard) pen.fillRect(x(from), height - 6, Math.max(1, x(to) - x(from)), 6);
    if (loop) {
      pen.fillStyle = colour("--accent");
      pen.globalAlpha = 0.16;
      pen.fillRect(x(loop[0]), 0, x(loop[1]) - x(loop[0]), height);
      pen.globalAlpha = 1;
      for (const end of loop) pen.fillRect(x(end) - 1, 0, 2, height);
    }
    pen.fillStyle = colour("--text");
    pen.fillRect(x(position) - 1, 0, 2, height);
  }

  _bars(pen, side, x, height, soft, accent, position) {
    const peaks = side.audio.waveform;
    const frames = side.audio.frames / peaks.length;
    const step = Math.max(1, x(frames));
    for (let place = 0; place < peaks.length;) {
      const from = side.shift + place * frames;
      let peak = 0;
      const many = Math.max(1, Math.round(step / x(frames)));
      for (const end = Math.min(place + many, peaks.length); place < end; place += 1) peak = Math.max(peak, peaks[place]);
      pen.fillStyle = from < position ? accent : soft;
      const tall = Math.max(1, (peak / 100) * (height - 4));
      pen.fillRect(x(from), (height - tall) / 2, Math.max(0.75, step - 0.25), tall);
    }
  }

  _frame(event) {
    const box = this.canvas.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.player.transport.length;
  }

  _down(event) {
    if (!this.player.current) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.from = { x: event.clientX, frame: this._frame(event), dragged: false };
  }

  _moved(event) {
    if (!this.from) return;
    if (Math.abs(event.clientX - this.from.x) > DRAG_PX) this.from.dragged = true;
    if (!this.from.dragged) return;
    const length = this.player.transport.length;
    const ends = [this.from.frame, this._frame(event)].map((frame) => Math.max(0, Math.min(frame, length)));
    this.ends = ends.sort((a, b) => a - b);
  }

  _up(event) {
    if (!this.from) return;
    if (this.from.dragged && this.ends) this.player.transport.setLoop(this.ends);
    else this.player.transport.seek(this._frame(event));
    this.from = this.ends = null;
  }

  _key(event) {
    const { transport } = this.player;
    const big = event.shiftKey ? 5 : 1;
    const moves = { ArrowLeft: -big, ArrowDown: -big, ArrowRight: big, ArrowUp: big, PageDown: -10, PageUp: 10 };
    if (event.key in moves) this.player.move(moves[event.key]);
    else if (event.key === "Home") transport.seek(0);
    else if (event.key === "End") transport.seek(transport.length - RATE);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
