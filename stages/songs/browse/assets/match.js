// A match: A brought to the mix of its references, told in words and numbers, heard before and after, and taken away.

import { ask, byId, copyText, make, refill, table } from "./dom.js";
import { finished, stopped, unfinished } from "./jobs.js";
import { STEMS } from "./player.js";
import { readState, writeState } from "./state.js";

const MOST_REFERENCES = 8;
const SEARCH_TOLD = "Look for compression, saturation, limiting and reverb too";
const SEARCH_TIME = "Takes one to two minutes more of a free core. Without it only balance, equaliser, pan and width are set.";

export class Match {
  /** page: has `first`, `second`, `also`, `nameOf`, `added`, `hear` and `references(keys)`. */
  constructor(about, page) {
    Object.assign(this, { about, page, found: null });
    this.amount = make("input", { type: "range", min: 0, max: 100, step: 5, value: 100, id: "amount", oninput: () => this._set() });
    this.amountTold = make("output", { htmlFor: "amount" });
    this.keep = STEMS.map((stem) => make("input", { type: "checkbox", value: stem, onchange: () => this._set() }));
    this.search = make("input", { type: "checkbox", id: "search-effects", "aria-describedby": "search-time", onchange: () => this._set() });
    this.words = make("p", {});
    this.references = make("div", { className: "row", role: "group", "aria-label": "References" });
    this.go = make("button", { type: "submit", className: "main" }, "Match");
    this.job = make("div", { className: "job" });
    this.result = make("div", { className: "result" });
    this.form = make("form", { onsubmit: (event) => { event.preventDefault(); this._run(); } },
      make("div", { className: "row" }, make("label", {}, "How much of each change ", this.amount), this.amountTold),
      make("fieldset", { className: "row" }, make("legend", {}, "Stems that stay as they are"),
        ...STEMS.map((stem, i) => make("label", { className: "check" }, this.keep[i], ` ${stem} `))),
      make("div", { className: "row" }, make("label", { className: "check" }, this.search, ` ${SEARCH_TOLD}`),
        make("span", { className: "soft", id: "search-time" }, SEARCH_TIME)),
      make("div", { className: "row" }, this.go));
    byId("match").replaceChildren(make("h2", { id: "match-title" }, "Match: mix A like B"), this.words, this.references,
      this.form, this.job, this.result);
    this.restoreForm();
  }

  /** Takes how to match from the address. */
  restoreForm() {
    const { amount, keep, effects } = readState();
    this.amount.value = amount || "100";
    this.keep.forEach((box) => { box.checked = keep.split("-").includes(box.value); });
    this.search.checked = effects === "1";
    this._set();
  }

  /** Keys of what A is brought to. */
  get wanted() {
    return [...new Set([...this.page.also, this.page.second].filter(Boolean))].filter((key) => key !== this.page.first);
  }

  /** A, B or the other references have changed. */
  chosen() {
    const { page, wanted } = this;
    byId("match").hidden = !page.first;
    const possible = page.first && wanted.length && !this.about.why_not;
    this.go.disabled = !possible || this.running;
    this.form.hidden = Boolean(this.about.why_not);
    this.words.textContent = this.about.why_not ? `Not here: ${this.about.why_not}.`
      : possible ? `Brings ${page.nameOf(page.first)} to the mix of ${wanted.length > 1 ? `the mean of ${wanted.length} songs` : page.nameOf(wanted[0])}.`
        : "Take a song as B, the reference, with “Hear beside” or with R in the list; a song of your own can be either.";
    this._references(wanted);
    if (this.found && ![this.found.song, this.found.key].includes(page.first)) this._clear();
  }

  /** Shows a match that was made before. hear: takes before, after and reference into the player too. */
  async restore(key, hear) {
    try {
      await this._show(await ask(`/api/matches/${key}`), hear);
    } catch (error) {
      this.job.replaceChildren(make("p", { role: "status" }, error.status === 404
        ? "The match that this address names is gone: it was removed, or the server was restarted." : error.message));
      writeState({ match: "" });
    }
  }

  /** A track is gone. */
  removed(key) {
    if (this.found?.key === key) this._clear();
  }

  /** Goes on showing what ran when the page was loaded. */
  async resume() {
    for (const job of await unfinished("match")) await this._follow(job);
  }

  _references(wanted) {
    const { page } = this;
    const chips = wanted.map((key) => make("span", { className: "chip" }, make("span", {}, page.nameOf(key)),
      make("button", { type: "button", "aria-label": `Not ${page.nameOf(key)}`, title: "take it out", onclick: () => page.references(key, false) }, "×")));
    const more = page.second && page.second !== page.first && !page.also.includes(page.second) && wanted.length < MOST_REFERENCES
      ? make("button", { type: "button", onclick: () => page.references(page.second, true) }, "Keep it and add another reference") : null;
    const told = page.also.length && page.also.includes(page.second || page.also[0]) && wanted.length < MOST_REFERENCES
      ? make("span", { className: "soft" }, "Take another song as B to add it.") : null;
    refill(this.references, wanted.length ? make("span", { className: "soft" }, wanted.length > 1 ? "References:" : "Reference:") : "", ...chips, more || "", told || "");
    this.references.hidden = !wanted.length || Boolean(this.about.why_not);
  }

  get _kept() { return this.keep.filter((box) => box.checked).map((box) => box.value); }

  _set() {
    this.amountTold.value = `${this.amount.value}%`;
    writeState({ amount: this.amount.value === "100" ? "" : this.amount.value, keep: this._kept.join("-"), effects: this.search.checked ? "1" : "" });
  }

  _clear() {
    this.found = null;
    this.result.replaceChildren();
    writeState({ match: "" });
  }

  async _run() {
    this._clear();
    const body = { song: this.page.first, references: this.wanted, amount: Number(this.amount.value) / 100,
      keep: this._kept, search: this.search.checked };
    this.running = true;
    this.chosen();
    try {
      await this._follow(await ask("/api/matches", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
    } catch (error) {
      this._failed(error);
    }
  }

  async _follow(job) {
    this.running = true;
    this.chosen();
    let here = false; // whether the focus is where the job was
    try {
      const found = await finished(job, this.job, "match").finally(() => { here = this.job.contains(document.activeElement); });
      if (!found) { stopped(this.job, job.what); return; }
      this.job.replaceChildren();
      const track = await ask(`/api/songs/${found.key}`);
      this.page.added(track, false);
      this.page.drop.keep(track);
      await this._show(found, this.page.first === found.song);
    } catch (error) {
      this._failed(error);
    } finally {
      this.running = false;
      this.chosen();
      if (here) this.go.focus({ preventScroll: true });
    }
  }

  _failed(error) {
    this.running = false;
    this.job.replaceChildren(make("p", { className: "bad", role: "alert" }, error.message));
    this.chosen();
  }

  async _show(found, hear) {
    this.found = found;
    if (hear) {
      writeState({ match: found.key });
      await this.page.hear(found);
    }
    const notes = found.lines.filter((line) => line.startsWith("note: ")).map((line) => line.slice(6));
    const set = found.lines.filter((line) => !line.startsWith("note: "));
    const alone = (stem) => (found.table.left_alone.includes(stem) ? `${stem} (left alone)` : stem);
    const rows = found.table.rows.map(({ title, unit, cells }) => [unit ? `${title}, ${unit}` : title,
      ...cells.map((values) => (values.length ? values.join(" / ") : "–"))]);
    const save = (name, text) => make("a", { className: "button", href: `/matches/${found.key}/${name}`, download: "" }, text);
    const copied = make("span", { role: "status", className: "soft" });
    const copy = make("button", { type: "button", onclick: async () => {
      copied.textContent = await copyText(found.text) ? "Copied." : "This browser lets no page copy; select the text instead.";
    } }, "Copy what was set");
    this.result.replaceChildren(
      make("p", { role: "status" }, hear ? `${found.of} is matched. In the player A is before, B after and C the reference; keys A, B, C or X switch, stems are those of each.`
        : `${found.of} was matched: `, hear ? "" : make("button", { type: "button", onclick: () => this._hear(found) }, "Hear before, after and reference")),
      make("ul", { className: "set" }, ...set.map((line) => make("li", {}, line))),
      ...notes.map((note) => make("p", { className: "note" }, note)),
      make("div", { className: "row" }, copy, copied),
      make("div", { className: "row" }, save("matched.wav", "Save the song (WAV, 24 bits)"), save("chain.json", "Save what was set (chain.json)")),
      make("div", { className: "row", role: "group", "aria-label": "Save a stem as it was changed" }, make("span", { className: "soft" }, "Save a stem:"),
        ...found.stems.map((stem) => save(`${stem}.wav`, stem)), make("span", { className: "soft" }, "together they are the song; the rest is what the separated stems do not sum to")),
      make("ul", { className: "set soft" }, ...found.levels.map((line) => make("li", {}, line))),
      make("p", { className: "soft" }, "before / after / reference; after: the song's own stems as they were changed, not separated again"),
      table("Descriptors before, after and of the reference", ["", ...STEMS.map(alone)], rows));
  }

  async _hear(found) {
    await this.page.choose(found.song, { match: found.key });
    byId("song").focus({ preventScroll: true });
  }
}
