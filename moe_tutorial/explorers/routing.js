// What the explorers calculate, function by function the mathematics of the Python package.
// A token's numbers are an array with one entry per expert.

const TINY = 2.2250738585072014e-308; // the smallest normal number: what a temperature of 0 becomes

const sum = (values) => values.reduce((total, value) => total + value, 0);
const dot = (a, b) => sum(a.map((value, i) => value * b[i]));

// --- scores (chapter 01) ---

const dotScores = (token, centroids) => centroids.map((centroid) => dot(token, centroid));

const cosineScores = (token, centroids) => dotScores(direction(token), centroids.map(direction));

function direction(vector) {
  const length = Math.hypot(...vector) || 1; // a zero vector has no direction: its scores are 0
  return vector.map((value) => value / length);
}

// --- probabilities (chapter 02) ---

// The shift by the largest logit keeps both limits in reach: temperature 0 and Infinity.
function tempered(logits, temperature) {
  const largest = Math.max(...logits);
  return logits.map((logit) => (logit - largest) / Math.max(temperature, TINY));
}

function softmax(logits, temperature = 1) {
  const exponentials = tempered(logits, temperature).map(Math.exp);
  const total = sum(exponentials);
  return exponentials.map((value) => value / total);
}

const entropy = (probabilities) => sum(probabilities.map((p) => (p > 0 ? -p * Math.log(p) : 0)));

// --- selection and gates (chapters 03 and 05) ---

// Among equal scores the lower id comes first.
function topK(scores, k) {
  const order = scores.map((_, expert) => expert);
  return order.sort((a, b) => scores[b] - scores[a] || a - b).slice(0, k);
}

const keep = (probabilities, experts) => experts.map((expert) => probabilities[expert]);

const softmaxOverChosen = (logits, experts, temperature = 1) =>
  softmax(keep(logits, experts), temperature);

function renormalise(probabilities, experts) {
  const kept = keep(probabilities, experts);
  return kept.map((gate) => gate / sum(kept));
}

// --- sampling (chapter 04) ---

// K draws without replacement: the top-k of logits / temperature + Gumbel noise, written so that
// neither a tiny nor an infinite temperature overflows.
function gumbelTopK(logits, k, temperature, uniforms) {
  const tau = Math.max(temperature, TINY);
  const largest = Math.max(...logits);
  const perturbed = logits.map((logit, expert) => {
    const noise = -Math.log(-Math.log(Math.max(uniforms[expert], TINY)));
    return (logit - largest) / Math.max(tau, 1) + noise * Math.min(tau, 1);
  });
  return topK(perturbed, k);
}

// How likely each expert is among the K drawn. Expert e arrives at a random time with rate
// exp(l / tau), and the first K arrivals are the draw. Given when e arrives, the others have
// arrived or not independently; the integral over that moment's logarithm is a trapezoid rule.
function inclusionProbabilities(logits, k, temperature) {
  const rates = closer(logits, temperature);
  const step = 1 / 8;
  const inclusion = rates.map(() => 0);
  for (let moment = -40; moment < 4 - Math.min(...rates); moment += step) {
    const hazards = rates.map((rate) => Math.exp(Math.min(rate + moment, 50)));
    const waiting = hazards.map((hazard) => Math.exp(-hazard));
    const arrived = hazards.map((hazard) => -Math.expm1(-hazard));
    rates.forEach((_, expert) => {
      const density = step * hazards[expert] * waiting[expert];
      if (density > 1e-20) inclusion[expert] += density * fewerThan(k, expert, waiting, arrived);
    });
  }
  return inclusion;
}

// The probability that fewer than k of the experts other than this one have arrived.
function fewerThan(k, self, waiting, arrived) {
  const count = Array(k).fill(0); // count[m]: the probability that m of them have
  count[0] = 1;
  waiting.forEach((_, other) => {
    if (other === self) return;
    for (let m = k - 1; m >= 0; m--)
      count[m] = count[m] * waiting[other] + (m ? count[m - 1] * arrived[other] : 0);
  });
  return sum(count);
}

// Tempered logits. A gap of 40 between neighbours is crossed with probability e^-40: wider ones
// change nothing. Gaps are divided, not logits: two quotients that overflow have none any more.
function closer(logits, temperature) {
  const near = logits.map(() => 0);
  topK(logits, logits.length).forEach((expert, rank, order) => {
    if (rank === 0) return;
    const gap = (logits[expert] - logits[order[rank - 1]]) / Math.max(temperature, TINY);
    near[expert] = near[order[rank - 1]] + Math.max(gap, -40);
  });
  return near;
}

// Uniform numbers with 53 bits from Chris Doty-Humphrey's generator sfc32.
function uniformSource(seeds) {
  let [a, b, c] = seeds;
  let counter = 1;
  const bits = () => {
    const next = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + next) | 0;
    return next >>> 0;
  };
  for (let i = 0; i < 15; i++) bits();
  return () => ((bits() >>> 5) * 2 ** 26 + (bits() >>> 6)) / 2 ** 53;
}
