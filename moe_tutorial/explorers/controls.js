// What brings an explorer to life: its controls, made here so that none stands where no script runs,
// and the sentence that says its state.

// Start every explorer of this kind that is not alive yet: several on a page, or one twice, are well.
function bring(kind, start) {
  document.querySelectorAll(`[data-explorer="${kind}"]:not([data-live])`).forEach((root) => {
    root.dataset.live = "";
    const form = element("form", { class: "moe-controls" });
    form.addEventListener("submit", (event) => event.preventDefault());
    root.querySelector(".moe-grid").prepend(form);
    root.querySelector(".moe-readout").setAttribute("role", "status");
    const panels = {};
    root.querySelectorAll("[data-panel]").forEach((svg) => (panels[svg.dataset.panel] = svg));
    start(JSON.parse(root.dataset.config), { root, form, panels });
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
  const input = element("input", { type: "range", min: first, max: last, step: 1, "aria-label": name, [OWN_KEYS]: true });
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
  const [left, right] = ends.map((end) => element("span", { class: "moe-end", "aria-hidden": true }, end));
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

// Keep the state where a reader of the page's source, or a test, finds it; speak once it rests.
function report(root, state, sentence) {
  const readout = root.querySelector(".moe-readout");
  root.dataset.state = JSON.stringify({ ...state, sentence });
  clearTimeout(root.resting);
  root.resting = setTimeout(() => {
    if (readout.textContent !== sentence) readout.textContent = sentence;
  }, 250);
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
