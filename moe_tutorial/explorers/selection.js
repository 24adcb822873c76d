bring("selection", ({ logits, k, ways }, { root, form }) => {
  const probabilities = softmax(logits);

  function choose(number) {
    const experts = topK(logits, number);
    const gates = {
      softmax: softmaxOverChosen(logits, experts),
      renormalised: renormalise(probabilities, experts),
      kept: keep(probabilities, experts),
    };
    const sums = Object.values(gates).map((values) => fixed(sum(values), 3));
    const three = Object.entries(gates).map(([way, values], i) =>
      gateBars(way, ways[way], values, experts, logits.length, { reading: `sum ${sums[i]}` }),
    );
    const words = { chosen: experts, legend: "the K best outlined" };
    const all = bars("probabilities", "Softmax over all experts", probabilities, words);
    show(
      root,
      { main: [all, three[0]], side: three.slice(1) },
      { k: number, probabilities, experts, gates },
      `K = ${number}: ${expertsInWords(experts)}. The three ways' gates sum to ${listing(sums)}.`,
    );
  }

  kSlider(form, k, logits.length, choose);
  choose(k);
});
