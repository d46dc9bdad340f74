// A match: A brought to the mix of B, told in words and numbers, heard before and after, and taken away.

import { ask, byId, make, table } from "./dom.js";
import { finished, showJob } from "./drop.js";
import { STEMS } from "./player.js";

export class Match {
  /** page: has `first`, `second`, `nameOf`, `added` and a player. */
  constructor(about, page) {
    Object.assign(this, { about, page });
    this.amount = make("input", { type: "range", min: 0, max: 100, step: 5, value: 100, id: "amount", oninput: () => this._told() });
    this.amountTold = make("output", { htmlFor: "amount" });
    this.keep = STEMS.map((stem) => make("input", { type: "checkbox", value: stem }));
    this.words = make("p", {});
    this.go = make("button", { type: "submit", className: "main" }, "Match");
    this.job = make("div", { className: "job" });
    this.result = make("div", { className: "result" });
    const form = make("form", { onsubmit: (event) => { event.preventDefault(); this._run(); } },
      make("div", { className: "row" }, make("label", {}, "How much ", this.amount), this.amountTold,
        make("span", { role: "group", "aria-label": "Stems that stay as they are" }, "keep ",
          ...STEMS.map((stem, i) => make("label", { className: "check" }, this.keep[i], ` ${stem} `))), this.go));
    byId("match").replaceChildren(make("h2", { id: "match-title" }, "Match: mix A like B"), this.words, form, this.job, this.result);
    this._told();
  }

  /** A or B have changed. */
  chosen() {
    const { first, second } = this.page;
    byId("match").hidden = !first;
    const possible = first && second && !this.about.why_not;
    this.go.disabled = !possible || this.running;
    this.words.textContent = this.about.why_not ? `Not here: ${this.about.why_not}.`
      : possible ? `Brings ${this.page.nameOf(first)} to the mix of ${this.page.nameOf(second)}: balance, equaliser, pan and width of each stem.`
        : "Take a song as B, the reference, with “Hear beside” or with R in the list; a song of your own can be either.";
  }

  _told() { this.amountTold.value = `${this.amount.value}%`; }

  async _run() {
    const { first, second } = this.page;
    this.running = true;
    this.chosen();
    this.result.replaceChildren();
    try {
      const body = { song: first, reference: second, amount: Number(this.amount.value) / 100,
        keep: this.keep.filter((box) => box.checked).map((box) => box.value) };
      const job = await ask("/api/matches", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const found = await finished(job, (now) => showJob(this.job, now));
      this.job.replaceChildren();
      await this._show(found, first, second);
    } catch (error) {
      this.job.replaceChildren(make("p", { className: "bad", role: "alert" }, error.message));
    } finally {
      this.running = false;
      this.chosen();
    }
  }

  async _show(found, first, second) {
    const track = await ask(`/api/songs/${found.key}`);
    this.page.added(track, false);
    this.page.drop.keep(track);
    if (this.page.first === first) {
      await this.page.player.setSides([{ key: first, label: "before" }, { key: found.key, label: "after" }, { key: second, label: "reference" }]);
      this.page.player.choose(1);
    }
    const notes = found.lines.filter((line) => line.startsWith("note: ")).map((line) => line.slice(6));
    const set = found.lines.filter((line) => !line.startsWith("note: "));
    const alone = (stem) => (found.table.left_alone.includes(stem) ? `${stem} (left alone)` : stem);
    const rows = found.table.rows.map(({ title, unit, cells }) => [unit ? `${title}, ${unit}` : title,
      ...cells.map((values) => (values.length ? values.join(" / ") : "–"))]);
    const save = (name, text) => make("a", { className: "button", href: `/matches/${found.key}/${name}`, download: "" }, text);
    this.result.replaceChildren(
      make("p", { role: "status" }, "Done. In the player A is before, B after and C the reference; keys A, B, C or X switch."),
      make("ul", { className: "set" }, ...set.map((line) => make("li", {}, line))),
      ...notes.map((note) => make("p", { className: "note" }, note)),
      make("div", { className: "row" }, save("matched.wav", "Save the song (WAV, 24 bits)"), save("chain.json", "Save what was set (chain.json)")),
      make("ul", { className: "set soft" }, ...found.levels.map((line) => make("li", {}, line))),
      make("p", { className: "soft" }, "before / after / reference; after: the song's own stems as they were changed, not separated again"),
      table("Descriptors before, after and of the reference", ["", ...STEMS.map(alone)], rows));
  }
}
