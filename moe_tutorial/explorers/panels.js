// What the explorers draw: a panel is a function of numbers to the text of an SVG, written anew for
// every state. Colours and letters are live.css's.

const WIDTH = 340; // the pixels that a phone has for a panel, so that letters keep their size
const LEFT = 30;
const RIGHT = WIDTH - 4;

// --- words ---

// Fixed digits; a rounded -0.00 is 0.00.
function fixed(value, digits) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", "\u2212");
}

// A share between 0 and 1 in the width of a bar: .34
const share = (value) => (value < 0.005 ? "0" : value >= 0.995 ? "1" : fixed(value, 2).slice(1));

// Logits in the width of a bar.
const brief = (values) => (value) =>
  fixed(value, values.length > 12 || Math.max(...values.map(Math.abs)) >= 9.95 ? 0 : 1);

// 'a', 'a and b', 'a, b and c'
const listing = (words) => words.join(", ").replace(/, (?!.*, )/, " and ");

// More than four are not listed: a sentence keeps its length, and the picture shows who they are.
const expertsInWords = (experts) =>
  experts.length > 4
    ? `${experts.length} experts`
    : `expert${experts.length > 1 ? "s" : ""} ${listing(experts)}`;

// --- scales ---

// The smallest of 1, 2, 3 and 5 times a power of ten that is not below the bound, so that what is
// drawn fills half of its panel or more.
function roundAbove(bound) {
  const power = 10 ** Math.floor(Math.log10(bound));
  const factor = [1, 2, 3, 5].find((factor) => factor * power >= bound * 0.999999) ?? 10;
  return Number((factor * power).toPrecision(9));
}

// The ends of an axis that holds 0 and the values.
function around(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return [low < 0 ? -roundAbove(-low) : 0, high > 0 ? roundAbove(high) : low < 0 ? 0 : 1];
}

// .5, 20, 3e5
function tick(value) {
  const long = value && !(Math.abs(value) >= 0.001 && Math.abs(value) < 10000);
  const word = long ? value.toExponential(0) : String(Number(value.toPrecision(6)));
  return word.replace("e+", "e").replace(/^(-?)0\./, "$1.").replace(/-/g, "\u2212");
}

// --- pieces ---

const at = (value) => value.toFixed(2);

const text = (x, y, words, kind = "") =>
  `<text class="${kind}" x="${at(x)}" y="${at(y)}">${words}</text>`;

const line = ([x1, y1], [x2, y2], kind) =>
  `<line class="${kind}" x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}"/>`;

const rect = (kind, x, y, width, height, more = "") =>
  `<rect class="${kind}" x="${at(x)}" y="${at(y)}" width="${at(width)}" ` +
  `height="${at(height)}" ${more}/>`;

const panel = (name, height, label, parts, scale = {}) =>
  `<svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" ` +
  `aria-label="${label}" data-panel="${name}" ` +
  Object.entries(scale).map(([key, value]) => `data-${key}="${value}"`).join(" ") +
  `>${parts.join("")}</svg>`;

// The middle of an expert's column.
const column = (expert, numExperts) => LEFT + ((expert + 0.5) * (RIGHT - LEFT)) / numExperts;

const circle = (kind, [x, y], r) =>
  `<circle class="${kind}" cx="${at(x)}" cy="${at(y)}" r="${r}"/>`;

const disc = (x, y, expert) =>
  circle(`disc c${expert % 12}`, [x, y], 9) +
  text(x, y + 4, expert, `on${expert % 12}`);

// --- bars over the experts ---

// ghost: the values before the last change; scale: the axis' ends, if not those around the values;
// label: what stands at a bar's end; chosen: experts to outline, all alike if there is no choice;
// marks: values for diamonds, null for none; legend or reading: words at the right of the title.
function bars(name, title, values, options = {}) {
  const { height = 140, ghost = [], label = share, chosen, marks = [] } = options;
  const { legend = "", reading = "", scale = around([...values, ...marks]) } = options;
  const [low, high] = scale;
  const numExperts = values.length;
  const top = 36;
  const unit = (height - top - 23 - (low < 0 ? 13 : 0)) / (high - low);
  const zero = top + high * unit;
  const half = (0.35 * (RIGHT - LEFT)) / numExperts;
  const y = (value) => zero - Math.min(Math.max(value, low), high) * unit;
  const shape = (kind, x, value, width) =>
    rect(kind, x - width, y(Math.max(value, 0)), 2 * width, Math.abs(y(value) - zero));

  const group = (value, expert) => {
    const x = column(expert, numExperts);
    const state = !chosen ? "" : chosen.includes(expert) ? "chosen" : "other";
    const mark = marks[expert] ?? null;
    const above = Math.min(y(value), mark === null ? zero : y(mark) - 4);
    return (
      `<g data-expert="${expert}" class="${state}">` +
      shape("ghost", x, ghost[expert] ?? 0, half + 2.5) +
      shape(`bar c${expert % 12}`, x, value, half) +
      text(x, value < 0 ? y(value) + 12 : above - 5, label(value, expert), "value") +
      `<path class="mark" d="M${at(x)} -4.5l4.5 4.5-4.5 4.5-4.5-4.5z" ` +
      `transform="translate(0 ${at(y(mark ?? 0))})" ` +
      `visibility="${mark === null ? "hidden" : "visible"}"/>` +
      rect("tag", x - 8.5, height - 17, 17, 15, 'rx="7.5"') +
      text(x, height - 5.5, expert, "id") +
      "</g>"
    );
  };

  const spoken = (chosen ?? topK(values, 3)).map((e) => `expert ${e} (${label(values[e], e)})`);
  const ticks = low < 0 ? [low, high] : [high / 2, high];
  return panel(
    name,
    height,
    `${title}, bars over ${numExperts} experts; ${chosen ? "chosen" : "largest"}: ` +
      `${listing(spoken)}. The axis ends at ${tick(high)}.`,
    [
      text(0, 12, title, "title start"),
      text(RIGHT, 12, reading || legend, reading ? "title end" : "quiet end"),
      ...[0, ...ticks].map((value) => {
        const word = value && unit * Math.abs(value) < 12 ? "" : tick(value); // none touches the 0
        const rule = line([LEFT - 4, y(value)], [RIGHT, y(value)], "rule");
        return rule + text(LEFT - 8, y(value) + 4, word, "end");
      }),
      ...values.map(group),
      line([LEFT - 4, zero], [RIGHT, zero], "axis"),
    ],
    { zero, unit },
  );
}

// One value for each expert from those of the chosen ones, and another for the rest.
function scattered(values, chosen, numExperts, rest = 0) {
  const row = Array(numExperts).fill(rest);
  chosen.forEach((expert, i) => (row[expert] = values[i]));
  return row;
}
