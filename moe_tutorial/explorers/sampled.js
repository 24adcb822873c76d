bring("sampled", (config, { root, form, panels }) => {
  const { logits } = config;
  const numExperts = logits.length;
  const uniform = uniformSource(config.uniforms.slice(0, 3).map((u) => Math.floor(u * 2 ** 32)));
  let { selection, gates: from, k, uniforms } = config;
  let temperature = Number(config.temperature);
  let experts, inclusion, counts, draws;

  // The numbers of a draw, or the K best.
  function select() {
    experts = selection === "sampled" ? gumbelTopK(logits, k, temperature, uniforms) : topK(logits, k);
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
    show();
  }

  function draw(times) {
    for (let i = 0; i < times; i++) {
      uniforms = logits.map(uniform);
      select();
    }
    show();
  }

  function show() {
    const probabilities = softmax(logits, temperature);
    const original = softmaxOverChosen(logits, experts);
    const temperedGates = softmaxOverChosen(logits, experts, temperature);
    const [gates, others] = from === "original" ? [original, temperedGates] : [temperedGates, original];
    drawBars(panels.probabilities, probabilities, { chosen: experts });
    drawGates(panels.gates, gates, experts, others);
    panels.gates.querySelector(".legend").textContent =
      from === "original" ? "\u25c7 if tempered" : "\u25c7 if original";
    drawBars(panels.counts, counts.map((count) => count / draws), {
      label: (_, expert) => (counts[expert] < 10000 ? counts[expert] : `${Math.floor(counts[expert] / 1000)}k`),
      chosen: experts,
      marks: inclusion,
    });
    panels.counts.querySelector(".title").textContent =
      `Drawn in ${draws} ${draws === 1 ? "draw" : "draws"}`;
    panels.counts.querySelectorAll(".note").forEach((note, e) => (note.textContent = share(inclusion[e])));
    buttons.forEach((made) => (made.disabled = selection === "top_k"));
    report(
      root,
      {
        selection, temperature: String(temperature), k, uniforms, probabilities, experts, from,
        gates, others, counts, draws, inclusion,
      },
      sentence(),
    );
  }

  function sentence() {
    const [first] = topK(logits, 1);
    const many = `${k > 1 ? "experts" : "expert"} ${listing(experts)}`;
    if (selection === "top_k") return `Top-K takes ${many}, every time. Temperature ${inWords(temperature)}.`;
    return (
      `Drawn at temperature ${inWords(temperature)}: ${many}. Expert ${first} was in ${counts[first]} of ` +
      `${draws} ${draws === 1 ? "draw" : "draws"}; its inclusion probability is ${fixed(inclusion[first], 3)}.`
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
    show();
  });
  const row = element("div", { class: "moe-buttons" });
  const buttons = [button(row, "Draw again", () => draw(1)), button(row, "Draw 1000 times", () => draw(1000))];
  form.append(row);
  begin();
});
