// What brings an explorer to life: its controls, made here so that none stands where no script
// runs, and the sentence that says its state.

// Start every explorer of this kind that is not alive yet; a page may hold several, or one twice.
function bring(kind, start) {
  document.querySelectorAll(`[data-explorer="${kind}"]:not([data-live])`).forEach((root) => {
    root.dataset.live = "";
    root.querySelectorAll(".moe-still").forEach((still) => still.remove());
    const form = element("form", { class: "moe-controls" });
    form.addEventListener("submit", (event) => event.preventDefault());
    const readout = element("p", { class: "moe-readout" });
    const panels = ["moe-main", "moe-side"].map((name) => element("div", { class: name }));
    root.append(element("div", { class: "moe-grid" }, form, ...panels, readout));
    start(JSON.parse(root.dataset.config), { root, form });
    readout.setAttribute("role", "status");
  });
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

// JupyterLab leaves the arrow keys to elements with this mark.
const OWN_KEYS = "data-lm-suppress-shortcuts";

// A native slider; describe(position) gives the value shown beside it and the one spoken.
function slider(form, name, { last, first = 0, position, ends = [first, last], describe, move }) {
  const shown = element("span", { class: "moe-value", "aria-hidden": true });
  const range = { type: "range", min: first, max: last, step: 1 };
  const input = element("input", { ...range, "aria-label": name, [OWN_KEYS]: true });
  const say = () => {
    const [visible, spoken] = describe(Number(input.value));
    shown.textContent = visible;
    input.setAttribute("aria-valuetext", spoken);
  };
  input.value = position;
  input.addEventListener("input", () => {
    move(Number(input.value));
    say();
  });
  say();
  const quiet = { class: "moe-end", "aria-hidden": true };
  const [left, right] = ends.map((end) => element("span", quiet, end));
  const head = element("span", { class: "moe-name" }, name, " ", shown);
  form.append(element("label", { class: "moe-slider" }, head, left, input, right));
}

// Native radio buttons; the form keeps their name apart from another explorer's.
function choice(form, name, options, chosen, choose) {
  const group = element("fieldset", {}, element("legend", { class: "moe-name" }, name));
  Object.entries(options).forEach(([value, text]) => {
    const input = element("input", { type: "radio", name, value, [OWN_KEYS]: true });
    input.checked = value === chosen;
    input.addEventListener("change", () => choose(value));
    group.append(element("label", {}, input, text));
  });
  form.append(group);
}

function button(form, text, press) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", press);
  form.append(made);
  return made;
}

// Draw a state, keep it where a reader of the page's source, or a test, finds it, and say it once
// the hand rests.
function show(root, { main, side }, state, sentence) {
  drawInto(root.querySelector(".moe-main"), main);
  drawInto(root.querySelector(".moe-side"), side);
  const readout = root.querySelector(".moe-readout");
  const say = () => {
    if (readout.textContent !== sentence) readout.textContent = sentence;
  };
  clearTimeout(root.resting);
  if (root.dataset.state) root.resting = setTimeout(say, 250);
  else say();
  root.dataset.state = JSON.stringify({ ...state, sentence });
}

// --- temperature: two decades to each side of 1, and beyond them both limits ---

const STEPS = 20; // to a decade
const LAST = 4 * STEPS + 2;

function temperatureAt(position) {
  if (position === 0) return 0;
  if (position === LAST) return Infinity;
  return Number((10 ** ((position - LAST / 2) / STEPS)).toPrecision(3));
}

const positionOf = (temperature) =>
  Math.min(Math.max(LAST / 2 + STEPS * Math.log10(temperature), 0), LAST);

const inWords = (temperature) =>
  temperature === 0 ? "towards 0" : temperature === Infinity ? "infinite" : `${temperature}`;

function temperatureSlider(form, temperature, move) {
  let current = temperature;
  slider(form, "Temperature", {
    last: LAST,
    position: positionOf(temperature),
    ends: ["\u2192 0", "\u221e"],
    describe: () => {
      const sign = { 0: "\u2192 0", Infinity: "= \u221e" }[current] ?? `= ${current}`;
      return [`\u03c4 ${sign}`, inWords(current)];
    },
    move: (position) => move((current = temperatureAt(position))),
  });
}

function kSlider(form, k, numExperts, move) {
  slider(form, "Experts chosen", {
    first: 1,
    last: numExperts,
    position: k,
    describe: (value) => [`K = ${value}`, `${value} of ${numExperts}`],
    move,
  });
}
