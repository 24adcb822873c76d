bring("selection", ({ logits, k, ways }, { root, form, hand }) => {
  const probabilities = softmax(logits);
  const numExperts = logits.length;

  function choose(number) {
    const experts = topK(logits, number);
    const gates = {
      softmax: softmaxOverChosen(logits, experts),
      renormalised: renormalise(probabilities, experts),
      kept: keep(probabilities, experts),
    };
    const sums = Object.values(gates).map((values) => fixed(sum(values), 3));
    // One scale for all four, which are to be compared.
    const scale = around([...probabilities, ...Object.values(gates).flat()]);
    const all = { chosen: experts, scale, legend: "the K best outlined" };
    const draw = (before) => {
      const three = Object.entries(gates).map(([way, values], i) => {
        const label = (gate, expert) => (experts.includes(expert) ? share(gate) : "");
        const ghost = before && scattered(before.gates[way], before.experts, numExperts);
        const words = { label, ghost, chosen: experts, scale, reading: `sum ${sums[i]}` };
        return bars(way, ways[way], scattered(values, experts, numExperts), words);
      });
      const first = bars("probabilities", "Softmax over all experts", probabilities, all);
      return { main: [first, three[0]], side: three.slice(1) };
    };
    show(
      root,
      { k: number, probabilities, experts, gates },
      draw,
      `K = ${number}: ${expertsInWords(experts)}. The three ways' gates sum to ${listing(sums)}.`,
    );
  }

  hint(form);
  kSlider(hand, k, numExperts, choose);
  choose(k);
});
