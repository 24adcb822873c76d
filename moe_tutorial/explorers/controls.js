// Sliders of several explorers: for the temperature, two decades to each side of 1 and beyond them
// both limits, and for K.

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

function temperatureSlider(place, temperature, move) {
  let current = temperature;
  slider(place, "Temperature", {
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

function kSlider(place, k, numExperts, move) {
  slider(place, "Experts chosen", {
    first: 1,
    last: numExperts,
    position: k,
    ends: [1, numExperts],
    describe: (value) => [`K = ${value}`, `${value} of ${numExperts}`],
    move,
  });
}

function hint(form, words = "") {
  const ghost = "Grey is what was there before the last change.";
  form.lastChild.before(element("p", { class: "moe-hint" }, words + ghost));
}
