// The panel: classes in view, the gallery, and what else the look is made of.

import { address, settling } from "./api.js";

const $ = (id) => document.getElementById(id);
const STAY = 6000; // a class that left the picture stays in the list for so long
const REST = "background"; // all that has no style of its own
const NONE = "none";
const RENEW = 12000; // its picture is taken anew

export const nice = (name) => {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
};

export class Panel {
  constructor(change) {
    this.change = change;
    this.styles = [];
    this.classes = [];
    this.seen = new Map();
    this.chosen = null;
    this.look = { routes: {} };
    this.wire();
  }

  wire() {
    const paint = (part) => this.chosen && this.paint(this.chosen.name, part);
    $("strength").addEventListener("input", (event) => {
      $("strength-out").value = `${event.target.value}%`;
      paint({ strength: event.target.value / 100 });
    });
    $("keep").addEventListener("change", (event) => paint({ keep_color: event.target.checked }));
    $("only").addEventListener("change", (event) => this.set({ only: event.target.checked ? this.place : null }));
    $("gallery").addEventListener("change", (event) => {
      if (!this.chosen) return;
      const style = event.target.value;
      const { name } = this.chosen;
      if (style) this.paint(name, { style });
      // Where the rest is painted, a class must be said to stay as it is.
      else this.set({ routes: { [name]: this.look.routes[REST] && name !== REST ? { style: NONE } : null } });
    });
    const on = (id, read, show) => $(id).addEventListener("input", (event) => {
      show?.(event.target);
      this.set(read(event.target));
    });
    on("edges", (one) => ({ compositor: one.value }));
    on("radius", (one) => ({ radius: Number(one.value) }), (one) => ($("radius-out").value = `${one.value} px`));
    on("soft", (one) => ({ matte: one.checked ? "soft" : "argmax" }));
    on("confidence", (one) => ({ confidence: Number(one.value) / 100 }), (one) => ($("confidence-out").value = `${one.value}%`));
    on("strokes", (one) => ({ style_size: Number(one.value) }));
    on("steady", (one) => ({ steady: one.checked }));
    on("target", (one) => ({ target_fps: Number(one.value) || null }));
    on("size", (one) => ({ size: Number(one.value) }));
    on("share", (one) => ({ segment_size: Number(one.value) }));
    on("every", (one) => ({ segment_every: Number(one.value) }), (one) => this.sayEvery(one.value));
  }

  sayEvery(value) {
    $("every-out").value = Number(value) === 1 ? "frame" : `${value} frames`;
  }

  /** Changes the look here at once, and on the server. */
  set(part) {
    const routes = { ...this.look.routes };
    for (const [name, paint] of Object.entries(part.routes ?? {})) {
      if (paint) routes[name] = { ...routes[name], ...paint };
      else delete routes[name];
    }
    this.look = { ...this.look, ...part, routes };
    this.change(part);
    this.showLook();
  }

  paint(name, part) {
    const old = this.look.routes[name];
    if (!old && !part.style) return;
    this.set({ routes: { [name]: old ? { ...old, ...part } : part } });
  }

  offer({ styles, compositors, with_radius, by_point }, classes) {
    this.styles = styles;
    this.byPoint = by_point;
    this.classes = classes;
    this.withRadius = new Set(with_radius);
    $("edges").replaceChildren(...compositors.map((name) => new Option(nice(name), name)));
    const tiles = [["", "As it is"], ...styles.map((name) => [name, nice(name)])];
    $("gallery").append(...tiles.map(([value, text]) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "style", value });
      const image = Object.assign(document.createElement("img"), { alt: "", width: 96, height: 96 });
      const words = Object.assign(document.createElement("span"), { textContent: text, title: text });
      label.append(input, image, words);
      return label;
    }));
  }

  state(told) {
    const now = performance.now();
    for (const one of told.in_view) {
      const old = this.seen.get(one.class) ?? { first: now, pictured: -Infinity };
      this.seen.set(one.class, { ...old, ...one, last: now });
    }
    for (const [index, one] of this.seen) if (now - one.last > STAY) this.seen.delete(index);
    if (!settling()) this.look = told.look;
    $("lowered").hidden = !told.lowered;
    $("lowered").textContent = told.lowered ? `Lowered: ${told.lowered}` : "";
    this.showLook();
    this.showClasses(now);
  }

  showClasses(now) {
    const list = $("classes");
    const rows = [...this.seen.values()].sort((a, b) => a.first - b.first || b.share - a.share);
    for (const name of Object.keys(this.look.routes)) {
      const index = this.classes.findIndex((one) => one.name === name);
      if (!this.seen.has(index)) rows.push({ class: index, name, share: 0, away: true });
    }
    const wanted = new Set(rows.map((one) => String(one.class)));
    for (const item of [...list.children]) if (!wanted.has(item.dataset.index)) item.remove();
    for (const one of rows) {
      let item = list.querySelector(`[data-index="${one.class}"]`);
      if (!item) list.append((item = this.classItem(one)));
      this.fill(item, one, now);
    }
    $("nothing").hidden = rows.length > 0;
  }

  classItem(one) {
    const item = document.createElement("li");
    item.dataset.index = one.class;
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const image = Object.assign(document.createElement("img"), { alt: "" });
    const names = Object.assign(document.createElement("span"), { className: "names" });
    const share = Object.assign(document.createElement("span"), { className: "share" });
    names.append(nice(one.name), document.createElement("small"));
    button.append(image, names, share);
    button.addEventListener("click", () =>
      this.choose(this.chosen?.index === one.class ? null : one.class));
    item.append(button);
    return item;
  }

  fill(item, one, now) {
    const button = item.firstChild;
    const route = this.look.routes[one.name];
    const text = route && route.style !== NONE ? nice(route.style)
      : one.away ? "not in view"
      : !route && this.look.routes[REST] && one.name !== REST ? "with the background" : "as it is";
    item.querySelector("small").textContent = text;
    item.querySelector(".share").textContent = one.share ? `${Math.max(1, Math.round(one.share * 100))}%` : "";
    item.classList.toggle("away", Boolean(one.away));
    button.setAttribute("aria-pressed", String(this.chosen?.index === one.class));
    button.setAttribute("aria-label", `${one.name}, ${text}`);
    const kept = this.seen.get(one.class);
    if (kept && now - kept.pictured > RENEW) {
      kept.pictured = now;
      item.querySelector("img").src = address(`classes/${one.class}.jpg`, { v: Math.round(now) });
    }
  }

  /** What was clicked on; where the segmenter finds what lies at a place, that is what is at this one. */
  picked(index, name, place) {
    if (this.byPoint || this.look.only) this.set({ only: place });
    const chosen = this.byPoint ? this.classes.length - 1 : index;
    this.choose(chosen, place);
    return this.byPoint ? this.classes[chosen].name : name;
  }

  choose(index, place = null) {
    this.place = place;
    const name = index === null ? null : this.classes[index]?.name;
    this.chosen = name ? { index, name } : null;
    $("painting").hidden = !this.chosen;
    if (this.chosen) {
      $("chosen").textContent = name;
      const v = Math.round(performance.now());
      // Of a class that is not in view there is no picture: styles are shown on what is.
      const [largest] = [...this.seen.values()].sort((a, b) => b.share - a.share);
      const on = this.seen.has(index) ? index : largest?.class ?? index;
      $("gallery").querySelectorAll("img").forEach((image, at) => {
        image.src = at
          ? address(`styles/${at - 1}.jpg`, { class: on, v })
          : address(`classes/${on}.jpg`, { v });
      });
    }
    this.showLook();
    this.showClasses(performance.now());
  }

  step(by) {
    const shown = [...$("classes").children].map((item) => Number(item.dataset.index));
    if (!shown.length) return;
    const at = shown.indexOf(this.chosen?.index);
    this.choose(shown[(at + by + shown.length) % shown.length]);
  }

  nextStyle() {
    if (!this.chosen || !this.styles.length) return;
    const at = this.styles.indexOf(this.look.routes[this.chosen.name]?.style);
    this.paint(this.chosen.name, { style: this.styles[(at + 1) % this.styles.length] });
  }

  stronger(by) {
    const route = this.chosen && this.look.routes[this.chosen.name];
    if (!route) return;
    const strength = Math.min(1, Math.max(0, Math.round((route.strength ?? 1) * 100 + by) / 100));
    this.paint(this.chosen.name, { strength });
  }

  showLook() {
    const { look } = this;
    if (this.chosen) {
      const route = look.routes[this.chosen.name];
      const painted = route && route.style !== NONE;
      for (const input of $("gallery").querySelectorAll("input")) {
        input.checked = input.value === (painted ? route.style : "");
      }
      $("tuning").hidden = !painted;
      if (painted) {
        const percent = Math.round((route.strength ?? 1) * 100);
        if (!dragged("strength")) $("strength").value = percent;
        $("strength-out").value = `${percent}%`;
        $("keep").checked = Boolean(route.keep_color);
        $("only").checked = Boolean(look.only);
        $("only-row").hidden = this.byPoint || !(this.place || look.only);
      }
    }
    if (!look.compositor) return;
    $("edges").value = look.compositor;
    $("radius-row").hidden = !this.withRadius?.has(look.compositor);
    if (look.radius !== null && !dragged("radius")) {
      $("radius").value = look.radius;
      $("radius-out").value = `${look.radius} px`;
    }
    $("soft").checked = look.matte === "soft";
    $("steady").checked = Boolean(look.steady);
    choice("target", look.target_fps ?? 0);
    choice("size", look.size);
    choice("share", look.segment_size);
    choice("strokes", look.style_size);
    if (!dragged("confidence")) {
      $("confidence").value = Math.round(look.confidence * 100);
      $("confidence-out").value = `${Math.round(look.confidence * 100)}%`;
    }
    if (!dragged("every")) $("every").value = look.segment_every;
    this.sayEvery(look.segment_every);
  }
}

const dragged = (id) => document.getElementById(id).matches(":active");

/** Shows a number in a list of some, among which it need not be. */
function choice(id, value) {
  const select = document.getElementById(id);
  if (![...select.options].some((one) => Number(one.value) === value)) {
    select.add(new Option(String(value), String(value)));
  }
  select.value = [...select.options].find((one) => Number(one.value) === value).value;
}
