bring("temperature", ({ logits, temperature }, { root, form, panels }) => {
  const { left, right, zero, unit } = panels.entropy.dataset;
  const x = (position) => Number(left) + ((right - left) * position) / LAST;

  function show(tau) {
    const probabilities = softmax(logits, tau);
    const undecided = entropy(probabilities);
    const [best] = topK(probabilities, 1);
    drawBars(panels.probabilities, probabilities);
    const place = `translate(${x(positionOf(tau)).toFixed(2)} ${(zero - unit * undecided).toFixed(2)})`;
    panels.entropy.querySelector(".here").setAttribute("transform", place);
    const fair = fixed(Math.exp(undecided), 1);
    panels.entropy.querySelector(".reading").textContent = `${fixed(undecided, 2)} nats`;
    report(
      root,
      { temperature: String(tau), probabilities, entropy: undecided },
      `Temperature ${inWords(tau)}: expert ${best} leads with probability ` +
        `${fixed(probabilities[best], 3)}. Entropy ${fixed(undecided, 2)} nats, as undecided as a ` +
        `fair choice among ${fair} experts.`,
    );
  }

  temperatureSlider(form, Number(temperature), show);
  show(Number(temperature));
});
