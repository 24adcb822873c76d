bring("sampled", (config, { root, form, hand }) => {
  const { logits } = config;
  const numExperts = logits.length;
  const uniform = uniformSource(config.uniforms.slice(0, 3).map((u) => Math.floor(u * 2 ** 32)));
  let { selection, gates: from, k, uniforms } = config;
  let temperature = Number(config.temperature);
  let experts, inclusion, counts, draws;

  // The numbers of a draw, or the K best.
  function select() {
    const drawn = () => gumbelTopK(logits, k, temperature, uniforms);
    experts = selection === "sampled" ? drawn() : topK(logits, k);
    experts.forEach((expert) => (counts[expert] += 1));
    draws += 1;
  }

  // Another rule, another count: the draws so far came from another distribution.
  function begin() {
    pause();
    counts = Array(numExperts).fill(0);
    draws = 0;
    select();
    inclusion =
      selection === "sampled" ? inclusionProbabilities(logits, k, temperature) : [...counts];
    update();
  }

  function draw(times) {
    for (let i = 0; i < times; i++) {
      uniforms = logits.map(uniform);
      select();
    }
    update();
    return true; // there is always another one
  }

  function update() {
    const both = {
      original: softmaxOverChosen(logits, experts),
      tempered: softmaxOverChosen(logits, experts, temperature),
    };
    const other = from === "original" ? "tempered" : "original";
    buttons.forEach((made) => (made.disabled = selection === "top_k"));
    const now = {
      selection, temperature: String(temperature), k, uniforms, experts, from, counts: [...counts],
      draws, inclusion, probabilities: softmax(logits, temperature), gates: both[from],
      others: both[other],
    };
    show(root, now, (before) => panels(now, before, other), sentence());
  }

  function panels(now, before, other) {
    const { probabilities, gates, others } = now;
    const row = (values, rest) => scattered(values, experts, numExperts, rest);
    const shares = (state) => state?.counts.map((count) => count / state.draws);
    return {
      main: [
        strip(),
        bars("probabilities", "Probabilities", probabilities, {
          height: 156,
          chosen: experts,
          ghost: before?.probabilities,
          legend: "chosen ones outlined",
        }),
        bars("gates", "Gates of the chosen experts", row(gates), {
          height: 156,
          chosen: experts,
          ghost: before && scattered(before.gates, before.experts, numExperts),
          label: (gate, expert) => (experts.includes(expert) ? share(gate) : ""),
          marks: row(others, null),
          legend: `\u25c7 if ${other}`,
        }),
      ],
      side: [
        bars("counts", `Share of ${inDraws()}`, shares(now), {
          height: 174,
          chosen: experts,
          ghost: shares(before),
          marks: inclusion,
          legend: "\u25c7 exact inclusion probability",
        }),
      ],
    };
  }

  // The logits themselves, one cell an expert, shaded from the lowest to the highest.
  function strip() {
    const [lowest, highest] = [Math.min(...logits), Math.max(...logits)];
    const slot = (RIGHT - LEFT) / numExperts;
    const word = brief(logits);
    const cells = logits.map((logit, expert) => {
      const depth = 0.06 + (0.44 * (logit - lowest)) / (highest - lowest || 1);
      const more = `rx="2" fill-opacity="${at(depth)}"`;
      const cell = rect("cell", LEFT + expert * slot + 1, 22, slot - 2, 22, more);
      return cell + text(column(expert, numExperts), 37, word(logit), "tight");
    });
    const numbers = logits.map((logit, expert) => `expert ${expert} ${word(logit)}`);
    const title = "The router's logits";
    const label = `${title}: ${listing(numbers)}.`;
    return panel("logits", 48, label, [text(0, 12, title, "title start"), ...cells]);
  }

  const inDraws = () => `${draws} ${draws === 1 ? "draw" : "draws"}`;

  function sentence() {
    const [first] = topK(logits, 1);
    const [many, tau] = [expertsInWords(experts), inWords(temperature)];
    if (selection === "top_k") return `Top-K takes ${many}, every time. Temperature ${tau}.`;
    return (
      `Drawn at temperature ${tau}: ${many}. Expert ${first} was in ${counts[first]} of ` +
      `${inDraws()}; its inclusion probability is ${fixed(inclusion[first], 3)}.`
    );
  }

  choice(form, "Selection", { top_k: "Top-K", sampled: "sampled" }, selection, (value) => {
    selection = value;
    begin();
  });
  const sources = { original: "original logits", tempered: "tempered logits" };
  choice(form, "Gates from", sources, from, (value) => { from = value; update(); });
  hint(form);
  temperatureSlider(hand, temperature, (value) => { temperature = value; begin(); });
  kSlider(hand, k, numExperts, (value) => { k = value; begin(); });
  const row = box("buttons");
  const [play, pause] = player(row, "draws", 200, () => draw(1));
  const buttons = [
    play,
    button(row, "Draw again", () => draw(1)),
    button(row, "Draw 1000 times", () => draw(1000)),
  ];
  hand.append(row);
  begin();
});
