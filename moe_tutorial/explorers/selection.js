bring("selection", ({ logits, k }, { root, form, panels }) => {
  const probabilities = softmax(logits);

  function show(number) {
    const chosen = topK(logits, number);
    const gates = {
      softmax: softmaxOverChosen(logits, chosen),
      renormalised: renormalise(probabilities, chosen),
      kept: keep(probabilities, chosen),
    };
    drawBars(panels.probabilities, probabilities, { chosen });
    const sums = Object.entries(gates).map(([way, values]) => {
      drawGates(panels[way], values, chosen);
      const total = fixed(sum(values), 3);
      panels[way].querySelector(".reading").textContent = `sum ${total}`;
      return total;
    });
    report(
      root,
      { k: number, probabilities, experts: chosen, gates },
      `K = ${number}: ${number > 1 ? "experts" : "expert"} ${listing(chosen)}. ` +
        `The three ways' gates sum to ${listing(sums)}.`,
    );
  }

  kSlider(form, k, logits.length, show);
  show(k);
});
