bring("sampled", (config, { root, form }) => {
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
  }

  function update() {
    const probabilities = softmax(logits, temperature);
    const original = softmaxOverChosen(logits, experts);
    const temperedGates = softmaxOverChosen(logits, experts, temperature);
    const both = { original, tempered: temperedGates };
    const other = from === "original" ? "tempered" : "original";
    const [gates, others] = [both[from], both[other]];
    const words = { others, legend: `\u25c7 if ${other}` };
    buttons.forEach((made) => (made.disabled = selection === "top_k"));
    show(
      root,
      {
        main: [
          strip(),
          bars("probabilities", "Probabilities", probabilities, {
            chosen: experts,
            legend: "chosen ones outlined",
          }),
          gateBars("gates", "Gates of the chosen experts", gates, experts, numExperts, words),
        ],
        side: [countBars()],
      },
      {
        selection, temperature: String(temperature), k, uniforms, probabilities, experts, from,
        gates, others, counts, draws, inclusion,
      },
      sentence(),
    );
  }

  // The logits themselves, one cell an expert, shaded from the lowest to the highest.
  function strip() {
    const lowest = Math.min(...logits);
    const spread = Math.max(...logits) - lowest || 1;
    const slot = (RIGHT - LEFT) / numExperts;
    const cells = logits.map((logit, expert) => {
      const depth = 0.06 + (0.44 * (logit - lowest)) / spread;
      return (
        `<rect class="cell" x="${at(LEFT + expert * slot + 1)}" y="22" width="${at(slot - 2)}" ` +
        `height="22" rx="2" fill-opacity="${at(depth)}"/>` +
        text(column(expert, numExperts), 37, fixed(logit, 1), "", 'letter-spacing="-0.4"')
      );
    });
    const numbers = logits.map((logit, expert) => `expert ${expert} ${fixed(logit, 1)}`);
    const title = "The router's logits";
    const label = `${title}: ${listing(numbers)}.`;
    return panel("logits", 48, label, [text(0, 12, title, "title start"), ...cells], {});
  }

  const inDraws = () => `${draws} ${draws === 1 ? "draw" : "draws"}`;

  function countBars() {
    const shares = counts.map((count) => count / draws);
    return bars("counts", `Drawn in ${inDraws()}`, shares, {
      height: 174,
      label: (_, e) => (counts[e] < 10000 ? counts[e] : `${Math.floor(counts[e] / 1000)}k`),
      chosen: experts,
      marks: inclusion,
      legend: "\u25c7 exact inclusion probability",
      notes: ["\u03c0", inclusion.map(share)],
    });
  }

  function sentence() {
    const [first] = topK(logits, 1);
    const [many, tau] = [expertsInWords(experts), inWords(temperature)];
    if (selection === "top_k") return `Top-K takes ${many}, every time. Temperature ${tau}.`;
    return (
      `Drawn at temperature ${tau}: ${many}. Expert ${first} was in ${counts[first]} of ` +
      `${inDraws()}; its inclusion probability is ${fixed(inclusion[first], 3)}.`
    );
  }

  const rules = { top_k: "Top-K", sampled: "sampled" };
  choice(form, "Selection", rules, selection, (value) => {
    selection = value;
    begin();
  });
  temperatureSlider(form, temperature, (value) => {
    temperature = value;
    begin();
  });
  kSlider(form, k, numExperts, (value) => {
    k = value;
    begin();
  });
  const sources = { original: "original logits", tempered: "tempered logits" };
  choice(form, "Gates from", sources, from, (value) => {
    from = value;
    update();
  });
  const row = element("div", { class: "moe-buttons" });
  const buttons = [
    button(row, "Draw again", () => draw(1)),
    button(row, "Draw 1000 times", () => draw(1000)),
  ];
  form.append(row);
  begin();
});
