// Your own song: checked here in words, sent to this server alone, embedded there in line with other jobs.

import { ask, byId, make } from "./dom.js";
import { finished, stopped, unfinished } from "./jobs.js";

export class Drop {
  constructor(about, added, removed) {
    Object.assign(this, { about, added, removed, own: new Map() });
    const input = byId("file");
    input.addEventListener("change", () => { this._take([...input.files]); input.value = ""; });
    let depth = 0;
    const over = (on) => document.body.classList.toggle("dragging", on);
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; over(true); } });
    document.addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth -= 1; over(depth > 0); } });
    document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      over(false);
      this._take([...event.dataTransfer.files]);
    });
    if (about.why_not) {
      input.disabled = true;
      document.querySelector("label[for=file]").setAttribute("aria-disabled", "true");
      byId("drop-help").textContent = `No songs can be added: ${about.why_not}.`;
    } else {
      byId("drop-help").textContent += ` Up to ${about.most_mb} MB.`;
    }
    for (const track of about.added) this.keep(track);
  }

  async _take(files) {
    const boxes = files.map((file) => {
      const box = this._box();
      box.append(make("p", { role: "status" }, `${file.name}: waits for the song before it…`));
      return box;
    });
    for (const [place, file] of files.entries()) await this._one(file, boxes[place], files.length === 1);
  }

  async _one(file, box, choose) {
    try {
      this._check(file);
      box.replaceChildren(make("p", { role: "status" }, `${file.name}: is sent to this server…`));
      await this._follow(box, await ask(`/api/dropped?name=${encodeURIComponent(file.name)}`,
        { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file }), choose);
    } catch (error) {
      this._failed(box, error.message);
    }
  }

  /** Goes on showing what ran when the page was loaded. */
  async resume() {
    for (const job of await unfinished("drop")) {
      const box = this._box();
      await this._follow(box, job).catch((error) => this._failed(box, error.message));
    }
  }

  _box() {
    const box = make("div", { className: "job" });
    byId("drop-state").append(box);
    return box;
  }

  async _follow(box, job, choose = false) {
    const result = await finished(job, box, "drop");
    if (!result) { stopped(box, job.what); this._closable(box); return; }
    const track = await ask(`/api/songs/${result.key}`);
    box.remove();
    this.keep(track, result.note);
    await this.added(track, choose);
  }

  _check(file) {
    if (this.about.why_not) throw new Error(`${file.name}: ${this.about.why_not}`);
    const suffix = (/\.[^.]+$/.exec(file.name) || [""])[0].toLowerCase();
    if (!this.about.suffixes.includes(suffix)) {
      throw new Error(`${file.name}: ${suffix || "a name without an ending"} is no kind of music that is read here; try WAV, FLAC, MP3 or Ogg`);
    }
    if (file.size > this.about.most_mb * 1e6) {
      throw new Error(`${file.name}: ${Math.round(file.size / 1e6)} MB, and up to ${this.about.most_mb} MB are taken (embed.dropped_mb)`);
    }
  }

  _failed(box, message) {
    box.replaceChildren(make("p", { className: "bad", role: "alert" }, message));
    this._closable(box);
  }

  _closable(box) {
    box.append(make("button", { type: "button", onclick: () => { box.remove(); byId("file").focus(); } }, "Close"));
  }

  /** A line with a button that forgets the song. */
  keep(track, note = "") {
    const line = make("div", { className: "row job" }, make("span", {}, note ? `${track.name} (${note})` : track.name),
      make("button", { type: "button", "aria-label": `Remove ${track.name}`, onclick: async () => {
        try {
          await ask(`/api/songs/${track.key}`, { method: "DELETE" });
          line.remove();
          this.removed(track.key);
        } catch (error) {
          this._failed(line, error.message);
        }
      } }, "Remove"));
    byId("drop-state").append(line);
  }
}
