// What the explorers draw: a panel is a function of numbers to the text of an SVG, written anew for
// every state. Colours and letters are explorers.css's.

const WIDTH = 340; // the pixels that a phone has for a panel, so that letters keep their size
const LEFT = 26;
const RIGHT = WIDTH - 4;

// --- words ---

// Fixed digits; a rounded -0.00 is 0.00.
function fixed(value, digits) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", "\u2212");
}

// A share between 0 and 1 in the width of a bar: .34
const share = (value) => (value < 0.005 ? "0" : value >= 0.995 ? "1" : fixed(value, 2).slice(1));

// 'a', 'a and b', 'a, b and c'
const listing = (words) => words.join(", ").replace(/, (?!.*, )/, " and ");

const expertsInWords = (experts) => `expert${experts.length > 1 ? "s" : ""} ${listing(experts)}`;

// The largest of 1, 2 and 5 times a power of ten up to the bound.
function roundBelow(bound) {
  const power = 10 ** Math.floor(Math.log10(bound));
  return [5, 2, 1].find((factor) => factor * power <= bound) * power;
}

const tick = (value) => String(Number(value.toPrecision(6))).replace("-", "\u2212");

// --- pieces ---

const at = (value) => value.toFixed(2);

const text = (x, y, words, kind = "", more = "") =>
  `<text class="${kind}" x="${at(x)}" y="${at(y)}" ${more}>${words}</text>`;

const line = ([x1, y1], [x2, y2], kind) =>
  `<line class="${kind}" x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}"/>`;

const panel = (name, height, label, parts, scale) =>
  `<svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" ` +
  `aria-label="${label}" data-panel="${name}" ` +
  Object.entries(scale).map(([key, value]) => `data-${key}="${value}"`).join(" ") +
  `>${parts.join("")}</svg>`;

// The middle of an expert's column.
const column = (expert, numExperts) => LEFT + ((expert + 0.5) * (RIGHT - LEFT)) / numExperts;

const disc = (x, y, expert) =>
  `<circle class="disc c${expert % 12}" cx="${at(x)}" cy="${at(y)}" r="9"/>` +
  text(x, y + 3.7, expert, `on${expert % 12}`);

// --- bars over the experts, on a scale that stays while the values move ---

// label: what stands at a bar's end; chosen: experts to outline, all alike if there is no choice;
// marks: values for diamonds, null for none; legend or reading: words at the right of the title;
// notes: a name and a row of words below the experts.
function bars(name, title, values, options) {
  const { height = 150, low = 0, high = 1, ticks = [0.5, 1], chosen, marks, notes } = options;
  const { label = share, legend = "", reading = "" } = options;
  const numExperts = values.length;
  const below = 23 + (notes ? 14 : 0) + (low < 0 ? 12 : 0);
  const unit = (height - 36 - below) / (high - low);
  const zero = 36 + high * unit;
  const half = (0.37 * (RIGHT - LEFT)) / numExperts;
  const foot = height - (notes ? 20 : 6);
  const word = (value) => (high === 1 ? String(value).replace("0.", ".") : tick(value));

  const group = (value, expert) => {
    const x = column(expert, numExperts);
    const state = !chosen ? "" : chosen.includes(expert) ? "chosen" : "other";
    const top = zero - Math.max(value, marks?.[expert] ?? value) * unit;
    const mark = marks && marks[expert] !== null && zero - marks[expert] * unit;
    return (
      `<g data-expert="${expert}" class="${state}"><rect class="bar c${expert % 12}" ` +
      `x="${at(x - half)}" y="${at(zero - Math.max(value, 0) * unit)}" ` +
      `width="${at(2 * half)}" height="${at(Math.abs(value) * unit)}"/>` +
      text(x, top + (value < 0 ? 12 : marks ? -9 : -5), label(value, expert), "value") +
      `<path class="mark" d="M${at(x)} -4.5l4.5 4.5-4.5 4.5-4.5-4.5z" ` +
      `transform="translate(0 ${at(mark || zero)})" visibility="${mark ? "visible" : "hidden"}"/>` +
      `<rect class="tag" x="${at(x - 8.5)}" y="${foot - 11}" width="17" height="15" rx="7.5"/>` +
      text(x, foot, expert, "id") +
      (notes ? text(x, foot + 16, notes[1][expert], "note quiet") : "") +
      "</g>"
    );
  };

  const spoken = (chosen ?? topK(values, 3)).map((e) => `expert ${e} (${label(values[e], e)})`);
  return panel(
    name,
    height,
    `${title}, bars over ${numExperts} experts; ${chosen ? "chosen" : "largest"}: ` +
      `${listing(spoken)}.`,
    [
      text(0, 12, title, "title start"),
      reading ? text(RIGHT, 12, reading, "title end") : text(RIGHT, 12, legend, "quiet end"),
      ...ticks.map((value) => {
        const y = zero - value * unit;
        const name = text(LEFT - 8, y + 3.5, word(value), "quiet end");
        return line([LEFT - 4, y], [RIGHT, y], "rule") + name;
      }),
      ...values.map(group),
      line([LEFT - 4, zero], [RIGHT, zero], "axis"),
      notes ? text(0, foot + 16, notes[0], "quiet start") : "",
    ],
    { zero, unit },
  );
}

// The chosen experts' gates as bars, and if given the gates of another rule as diamonds.
function gateBars(name, title, gates, chosen, numExperts, { others, ...words }) {
  const scattered = (values, rest) => {
    const row = Array(numExperts).fill(rest);
    chosen.forEach((expert, i) => (row[expert] = values[i]));
    return row;
  };
  const label = (gate, expert) => (chosen.includes(expert) ? share(gate) : "");
  const marks = others && scattered(others, null);
  return bars(name, title, scattered(gates, 0), { label, chosen, marks, ...words });
}

// --- onto the page ---

// Turn what is drawn into what shall be: elements stay, so bars glide and a hand keeps its hold.
function become(old, wanted) {
  if (old.nodeName !== wanted.nodeName || old.childNodes.length !== wanted.childNodes.length) {
    old.replaceWith(wanted);
    return;
  }
  if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
  for (const { name, value } of wanted.attributes ?? []) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const pairs = [...old.childNodes].map((child, i) => [child, wanted.childNodes[i]]);
  pairs.forEach(([child, other]) => become(child, other));
}

function drawInto(place, panels) {
  const wanted = document.createElement("div");
  wanted.className = place.className;
  wanted.innerHTML = panels.join("");
  become(place, wanted);
}
