// The share of a standard normal below z, to twelve digits: a series near 0, and further out a
// continued fraction.
function normalBelow(z) {
  const x = Math.abs(z);
  const height = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  let tail;
  if (x < 3) {
    let [term, total] = [x, x];
    for (let n = 3; n < 80; n += 2) total += term *= (x * x) / n;
    tail = 0.5 - height * total;
  } else {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / (x + fraction);
    tail = height / (x + fraction);
  }
  return z < 0 ? tail : 1 - tail;
}

// How likely each expert is among the K largest, if logits have these means and one deviation and
// know nothing of one another. Given an expert's own logit, the others lie above it or below
// independently; the integral over that logit is a trapezoid rule.
function chosenProbabilities(means, deviation, k) {
  if (deviation === 0) return scattered(Array(k).fill(1), topK(means, k), means.length);
  const step = 1 / 8;
  const chosen = means.map(() => 0);
  for (let z = -8; z <= 8; z += step) {
    const density = (step * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
    means.forEach((mean, expert) => {
      const below = means.map((other) => normalBelow(z + (mean - other) / deviation));
      chosen[expert] += density * fewerThan(k, expert, below, below.map((share) => 1 - share));
    });
  }
  return chosen;
}

bring("posterior", (config, { root, form, hand }) => {
  const { means } = config;
  const numExperts = means.length;
  const uniform = uniformSource(config.seeds);
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  let { deviation, shared, k, noise, common } = config;
  let logits, experts, counts, draws, inclusion;

  function select() {
    const [own, all] = [Math.sqrt(1 - shared), Math.sqrt(shared)];
    logits = means.map((mean, e) => mean + deviation * (own * noise[e] + all * common));
    experts = topK(logits, k);
    experts.forEach((expert) => (counts[expert] += 1));
    draws += 1;
  }

  // Another cloud, another count. The same noise, so that dots glide to their new places.
  function begin() {
    pause();
    counts = Array(numExperts).fill(0);
    draws = 0;
    select();
    inclusion = chosenProbabilities(means, deviation * Math.sqrt(1 - shared), k);
    update();
  }

  function draw(times) {
    for (let i = 0; i < times; i++) {
      noise = means.map(normal);
      common = normal();
      select();
    }
    update();
    return true; // there is always another one
  }

  function update() {
    const now = {
      deviation, shared, k, noise, common, logits, experts, counts: [...counts], draws, inclusion,
    };
    const shares = (state) => state?.counts.map((count) => count / state.draws);
    show(
      root,
      now,
      (before) => ({
        main: [clouds()],
        side: [
          bars("counts", `Share of ${inDraws()}`, shares(now), {
            height: 196,
            chosen: experts,
            ghost: shares(before),
            marks: inclusion,
            scale: [0, 1],
            legend: "\u25c7 in endless draws",
          }),
        ],
      }),
      sentence(),
    );
  }

  // For each expert a box of one deviation to both sides of its mean, and a dot where it was drawn.
  function clouds() {
    const [height, top, foot] = [268, 32, 26];
    const reach = means.flatMap((mean) => [mean - 3 * deviation, mean + 3 * deviation]);
    const [low, high] = around([...reach, ...logits]);
    const unit = (height - top - foot) / (high - low);
    const zero = top + high * unit;
    const half = (0.35 * (RIGHT - LEFT)) / numExperts;
    const y = (value) => zero - value * unit;
    const groups = means.map((mean, expert) => {
      const x = column(expert, numExperts);
      const box = [x - half, y(mean + deviation), 2 * half, 2 * deviation * unit];
      return (
        `<g data-expert="${expert}" class="${experts.includes(expert) ? "chosen" : "other"}">` +
        rect(`region c${expert % 12}`, ...box) +
        line([x - half, y(mean)], [x + half, y(mean)], "axis") +
        circle(`disc c${expert % 12}`, [x, y(logits[expert])], 4.5) +
        rect("tag", x - 8.5, height - 17, 17, 15, 'rx="7.5"') +
        text(x, height - 5.5, expert, "id") +
        "</g>"
      );
    });
    const title = "Clouds of logits, and one draw";
    const ends = [low, 0, high].filter((value, i, all) => all.indexOf(value) === i);
    return panel(
      "clouds",
      height,
      `${title}: a box of one deviation around each of ${numExperts} means, and a dot for each ` +
        `draw; chosen: ${listing(experts)}.`,
      [
        text(0, 12, title, "title start"),
        ...ends.map((value) => {
          const rule = line([LEFT - 4, y(value)], [RIGHT, y(value)], "rule");
          return rule + text(LEFT - 8, y(value) + 4, tick(value), "end");
        }),
        ...groups,
      ],
      { zero, unit },
    );
  }

  const inDraws = () => `${draws} ${draws === 1 ? "draw" : "draws"}`;
  const inShare = () =>
    shared === 0 ? "nothing shared" : shared === 1 ? "all shared" : `${shared} of it shared`;

  function sentence() {
    const [first] = topK(means, 1);
    return (
      `Clouds of deviation ${deviation}, ${inShare()}: this draw takes ` +
      `${expertsInWords(experts)}. Expert ${first} was chosen in ${counts[first]} of ` +
      `${inDraws()}; in endless draws its share is ${fixed(inclusion[first], 3)}.`
    );
  }

  hint(form);
  slider(hand, "Deviation", {
    last: 60,
    position: Math.round(10 * deviation),
    ends: [0, 6],
    describe: () => [`\u03c3 = ${deviation}`, `${deviation}`],
    move: (position) => { deviation = position / 10; begin(); },
  });
  slider(hand, "Shared variance", {
    last: 20,
    position: Math.round(20 * shared),
    ends: [0, 1],
    describe: () => [`${shared}`, inShare()],
    move: (position) => { shared = position / 20; begin(); },
  });
  kSlider(hand, k, numExperts, (value) => { k = value; begin(); });
  const row = box("buttons");
  const [play, pause] = player(row, "draws", 200, () => draw(1));
  button(row, "Draw again", () => draw(1));
  button(row, "Draw 1000 times", () => draw(1000));
  row.prepend(play);
  hand.append(row);
  begin();
});
