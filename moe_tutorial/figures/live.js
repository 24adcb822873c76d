// What every live picture has: controls, made here so that none stands where no script runs,
// panels, and a sentence that says its state.

// JupyterLab leaves the arrow keys to elements with this mark.
const OWN_KEYS = "data-lm-suppress-shortcuts";

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

const box = (name, ...children) => element("div", { class: `moe-${name}` }, ...children);

// Start every live picture of this kind that does not move yet; a page may hold several of them.
// What stays in reach while the picture is in view belongs into the hand, the rest into the form.
function bring(kind, start) {
  document.querySelectorAll(`[data-explorer="${kind}"]:not([data-live])`).forEach((root) => {
    root.dataset.live = "";
    const hand = box("hand");
    const form = element("form", { class: "moe-controls" }, hand);
    form.addEventListener("submit", (event) => event.preventDefault());
    const readout = element("p", { class: "moe-readout" });
    root.append(box("grid", form, box("main"), box("side"), readout));
    start(JSON.parse(root.dataset.config), { root, form, hand });
    readout.setAttribute("role", "status");
  });
}

// --- controls ---

// A native slider; describe(position) gives the value shown beside it and the one spoken. Returns
// what moves it without a hand.
function slider(place, name, { last, first = 0, position, ends = [], describe, move }) {
  const shown = element("span", { class: "moe-value", "aria-hidden": true });
  const range = { type: "range", min: first, max: last, step: 1, autocomplete: "off" };
  const input = element("input", { ...range, "aria-label": name, [OWN_KEYS]: true });
  const say = () => {
    const [visible, spoken] = describe(Number(input.value));
    shown.textContent = visible;
    input.setAttribute("aria-valuetext", spoken);
  };
  input.value = position;
  input.addEventListener("input", () => {
    move(Number(input.value), true);
    say();
  });
  say();
  const [left, right] = [0, 1].map((end) =>
    element("span", { class: "moe-end", "aria-hidden": true }, ends[end] ?? ""),
  );
  const head = element("span", { class: "moe-name" }, name, " ", shown);
  place.append(element("label", { class: "moe-slider" }, head, left, input, right));
  return (there) => {
    input.value = there;
    move(there, false);
    say();
  };
}

// Native radio buttons; the form keeps their name apart from another picture's.
function choice(form, name, options, chosen, choose) {
  const group = element("fieldset", {}, element("legend", { class: "moe-name" }, name));
  Object.entries(options).forEach(([value, text]) => {
    const input = element("input", { type: "radio", name, value, [OWN_KEYS]: true });
    input.checked = value === chosen;
    input.addEventListener("change", () => choose(value));
    group.append(element("label", {}, input, text));
  });
  form.lastChild.before(group);
}

function button(place, text, press) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", press);
  place.append(made);
  return made;
}

// A button that takes a step at each beat, until it is pressed again or a step says that it was
// the last. It never starts by itself. Returns the button and what stops it.
function player(place, name, beat, step) {
  let clock;
  const made = button(place, "", () => (clock ? pause() : play()));
  const offer = (word, shape, live) => {
    const readout = place.closest("[data-live]")?.querySelector(".moe-readout");
    readout?.setAttribute("aria-live", live); // it changes too fast to be spoken
    made.innerHTML = `<svg viewBox="0 0 10 10" aria-hidden="true"><path d="${shape}"/></svg>${word}`;
    made.setAttribute("aria-label", `${word}: ${name}`);
  };
  function pause() {
    clearInterval(clock);
    clock = undefined;
    offer("Play", "M1 0l9 5-9 5z", "polite");
  }
  function play() {
    const on = () => step() || pause();
    clock = setInterval(on, beat);
    offer("Pause", "M1 0h3v10h-3zm5 0h3v10h-3z", "off");
    on();
  }
  pause();
  return [made, pause];
}

// --- onto the page ---

// Turn what is drawn into what shall be: elements stay, so shapes glide and a hand keeps its hold.
function become(old, wanted) {
  if (old.nodeName !== wanted.nodeName || old.childNodes.length !== wanted.childNodes.length) {
    old.replaceWith(wanted);
    return;
  }
  if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
  for (const { name, value } of wanted.attributes ?? []) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...(old.attributes ?? [])]) {
    if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  const pairs = [...old.childNodes].map((child, i) => [child, wanted.childNodes[i]]);
  pairs.forEach(([child, other]) => become(child, other));
}

function drawInto(root, name, panels) {
  const wanted = box(name);
  wanted.innerHTML = panels.join("");
  become(root.querySelector(`.moe-${name}`), wanted);
}

// Draw a state, keep it where a reader of the page's source, or a test, finds it, and say it once
// the hand rests. What stood when the hand last rested is drawn behind it, as a ghost.
function show(root, state, draw, sentence) {
  if (!root.moving) root.before = root.now;
  root.now = state;
  const panels = draw(root.before);
  Object.entries(panels).forEach(([name, drawn]) => drawInto(root, name, drawn));
  const readout = root.querySelector(".moe-readout");
  const rest = () => {
    root.moving = undefined;
    if (readout.textContent !== sentence) readout.textContent = sentence;
  };
  clearTimeout(root.moving);
  if (!root.before || readout.ariaLive === "off") rest();
  else root.moving = setTimeout(rest, 250);
  root.dataset.state = JSON.stringify({ ...state, sentence });
}
