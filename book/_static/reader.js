// What a reader has read and predicted. It is kept in their browser and sent nowhere; where a browser keeps nothing, it
// lasts as long as the page is open.
{
  const memory = new Map();
  const root = new URL(document.documentElement.dataset.content_root, location).pathname;
  const book = `moe-tutorial ${root}`;
  const keyOf = (kind, address) =>
    `moe-tutorial ${new URL(address, location).pathname.replace(/\.html$/, "")} ${kind}`;

  function recall(key) {
    try {
      return localStorage.getItem(key) ?? memory.get(key);
    } catch {
      return memory.get(key);
    }
  }

  function keep(key, value) {
    try {
      localStorage.setItem(key, value);
    } catch {
      memory.set(key, value);
    }
  }

  function keys() {
    let kept = [];
    try {
      kept = Object.keys(localStorage).filter(key => key.startsWith(book));
    } catch {
      // nothing is kept but what this page remembers
    }
    return [...kept, ...memory.keys()];
  }

  function forget() {
    for (const key of keys()) {
      memory.delete(key);
      try {
        localStorage.removeItem(key);
      } catch {
        // it was in memory
      }
    }
  }

  function make(tag, properties, ...content) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...content);
    return element;
  }

  // --- predictions ---

  function meet(question) {
    const result = document.getElementById(`${question.id}-result`);
    const line = result.querySelector(".pick");
    const note = question.querySelector(".pick-note");
    const radios = [...question.querySelectorAll("input")];
    const unpicked = [...note.childNodes];
    const answer = result.dataset.answer;

    function show() {
      const pick = recall(keyOf(question.id, location));
      const picked = radios.find(radio => radio.value === pick);
      for (const radio of radios) radio.checked = radio === picked;
      line.classList.toggle("same", pick === answer);
      line.classList.toggle("other", Boolean(picked) && pick !== answer);
      if (!picked) {
        note.replaceChildren(...unpicked);
        line.replaceChildren();
        return;
      }
      const on = make("a", { href: `#${result.id}` }, "go to the result");
      const back = make("a", { href: `#${question.id}` }, "Back to the question");
      note.replaceChildren(`You picked ${pick}. Read on, or `, on, ".");
      if (pick === answer) {
        line.replaceChildren(`You picked ${pick}, and so it is. `, back);
        return;
      }
      const words = picked.parentElement.querySelector(".option").cloneNode(true);
      words.querySelectorAll("[id]").forEach(element => element.removeAttribute("id"));
      line.replaceChildren(`You picked ${pick}, “`, words, `” It turned out to be ${answer}. `, back);
    }

    question.addEventListener("change", event => {
      keep(keyOf(question.id, location), event.target.value);
      show();
    });
    return show;
  }

  const predictions = [...document.querySelectorAll("fieldset.predict")].map(meet);

  // --- chapters that were read ---

  // Where the mark of a link stands: the first page and the links at a page's end have room for a word.
  const placeOf = link => link.closest(".chapters li") ?? link.querySelector(".prev-next-subtitle") ?? link;

  function showRead() {
    for (const link of document.querySelectorAll(".bd-links a, .chapters a, .prev-next-area a")) {
      if (link.hash) continue; // a part of the page that is open
      const place = placeOf(link);
      const mark = place.querySelector(".read-mark");
      const read = recall(keyOf("read", link.href));
      if (!read) mark?.remove();
      else if (!mark) place.append(make("span", { className: "read-mark" }, make("span", {}, " read")));
    }
  }

  function showCount() {
    const list = document.querySelector(".chapters");
    if (!list) return;
    const chapters = [...list.querySelectorAll("li a")];
    const read = chapters.filter(link => recall(keyOf("read", link.href))).length;
    const note = document.querySelector(".progress-note") ?? make("p", { className: "progress-note", tabIndex: -1 });
    if (!keys().length) {
      note.remove();
      return;
    }
    const button = make("button", { type: "button" }, "Forget my progress");
    button.addEventListener("click", () => {
      forget();
      show();
      note.replaceChildren("Your progress is forgotten.");
      list.after(note);
      note.focus();
    });
    const count = `You have read ${read} of the ${chapters.length} chapters. This and your predictions are kept in your browser and nowhere else. `;
    note.replaceChildren(count, button);
    list.after(note);
  }

  // A chapter counts as read when its summary has been on the screen.
  const summary = document.querySelector("#summary > h2");
  if (summary) {
    const observer = new IntersectionObserver(entries => {
      if (!entries.some(entry => entry.isIntersecting)) return;
      observer.disconnect();
      keep(keyOf("read", location), "yes");
      showRead();
    });
    observer.observe(summary);
  }

  function show() {
    predictions.forEach(showPick => showPick());
    showRead();
    showCount();
  }
  addEventListener("pageshow", show); // also when a reader comes back to a page that the browser has kept
  show();
}
