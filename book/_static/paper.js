// On paper the solutions stand together at the end of the chapter, and not below the exercises that they give away.
{
  let putBack = [];

  function gather() {
    const solutions = document.querySelectorAll(".bd-article section.exercise .cell.tag_hide-cell");
    if (!solutions.length || putBack.length) return;
    const end = document.createElement("section");
    end.className = "solutions";
    end.innerHTML = '<h2 id="solutions">Solutions</h2>';
    for (const solution of solutions) {
      const exercise = solution.closest("section.exercise");
      const [number] = exercise.querySelector("h2").textContent.match(/\d+\.\d+/);
      const place = document.createElement("p");
      place.className = "solution-place";
      place.innerHTML = `<a href="#solution-${number}">The solution is at the end of the chapter.</a>`;
      const heading = Object.assign(document.createElement("h3"), {
        id: `solution-${number}`,
        textContent: `Solution ${number}`,
      });
      solution.replaceWith(place);
      end.append(heading, solution);
      putBack.push(() => place.replaceWith(solution));
    }
    const chapter = document.querySelector(".bd-article > section");
    chapter.append(end);
    putBack.push(() => end.remove());
  }

  addEventListener("beforeprint", gather);
  addEventListener("afterprint", () => {
    putBack.forEach(step => step());
    putBack = [];
  });
}
