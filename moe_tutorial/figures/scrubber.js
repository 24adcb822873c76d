// Brings the scrubbers of a page to life. Without it each of them is the picture that it starts with.
for (const root of document.querySelectorAll(".scrubber:not(.live)")) {
  const { name, labels, start, lines, frames } = JSON.parse(root.querySelector("script").textContent);
  const still = root.querySelector("img");
  const scheme = "data:image/svg+xml,";
  // A frame is a list of line numbers: first come the lines of the start frame, then those of the others.
  const table = [...decodeURIComponent(still.src.slice(scheme.length)).split("\n"), ...lines];

  const picture = still.cloneNode();
  const slider = document.createElement("input");
  const readout = document.createElement("strong");
  Object.assign(slider, { type: "range", min: 0, max: labels.length - 1, value: start, autocomplete: "off" });
  slider.dataset.lmSuppressShortcuts = true; // JupyterLab would take the arrow keys for itself
  readout.ariaHidden = true; // the slider says it

  const show = () => {
    const svg = frames[slider.value].map(line => table[line]).join("\n");
    picture.src = scheme + encodeURIComponent(svg);
    picture.alt = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement.getAttribute("aria-label");
    slider.ariaValueText = readout.textContent = labels[slider.value];
  };
  slider.addEventListener("input", show);
  show();

  const label = document.createElement("label");
  label.append(name, readout, slider);
  const box = document.createElement("div");
  box.className = "frames";
  box.append(label, picture);
  root.append(box);
  root.classList.add("live");
}
