"use strict";
// Opens clips, ties the player to the plots, sorts the table. All text is in the page already, escaped.
(() => {
  const view = document.getElementById("clip");
  const body = document.querySelector("#table tbody");
  const options = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const SEEK_S = 0.1, FAR_S = 1, PRINT_PX = 850, PRINT_CHART_PX = 400, PRINT_SMALL_PX = 400; // before the print's zoom
  const FONT = { family: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', size: 12 };
  const AXIS = { showgrid: false, zeroline: false, automargin: false, fixedrange: true, ticks: "outside", ticklen: 4 };
  const TITLES = { showarrow: false, yshift: 3, xanchor: "left", yanchor: "bottom" };
  const PICTURES = { sizing: "stretch", layer: "below", yanchor: "top" };
  const BARS = { textposition: "outside", cliponaxis: false, marker: { line: { width: 0 } } };
  const SHARED = { // by all plots
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: FONT, showlegend: false, barmode: "overlay",
    bargap: 0.25, hoverlabel: { align: "left", font: FONT }, template: {
      layout: { xaxis: AXIS, yaxis: AXIS, annotationdefaults: TITLES, imagedefaults: PICTURES },
      data: { bar: [BARS], heatmap: [{ showscale: false }] },
    },
  };
  let open = -1, cues = {};
  const cue = new Audio(); // plays one sound of the cues at a time
  cue.addEventListener("ended", () => press(null));

  const count = Number(document.body.dataset.clips);
  // The first clip stands before this script and is drawn at once; the others stand behind it.
  const all = new Promise((resolve) => addEventListener("DOMContentLoaded", resolve));

  const order = () => (body ? [...body.rows].map((row) => Number(row.dataset.clip)) : [0]);
  const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }
  const player = () => view.querySelector("audio");

  // Maps hold a name a row and a level a cell; 0 is not resolved.
  function named(trace) {
    if (trace.type !== "heatmap") return trace;
    const levels = atob(trace.z.bdata), names = trace.meta, columns = levels.length / names.length;
    const said = (name, row) => Array.from({ length: columns }, (_, column) =>
      levels.charCodeAt(row * columns + column) ? name : `${name}, not resolved`);
    return { ...trace, text: names.map(said) };
  }

  function draw(place, plot) {
    return Plotly.newPlot(place, plot.data.map(named), { ...SHARED, ...plot.layout }, options);
  }

  async function show(index) {
    if (index === open || !(index >= 0 && index < count)) return;
    open = index;
    if (index > 0) await all;
    if (index !== open) return; // another was opened meanwhile
    view.querySelectorAll(".plot").forEach((plot) => Plotly.purge(plot));
    cue.pause();
    delete view.dataset.shown;
    view.replaceChildren(document.getElementById(`view-${index}`).content.cloneNode(true));
    mark();
    const data = await unpacked(`data-${index}`);
    if (index !== open) return;
    if (data.sound) player().src = data.sound;
    cues = data.cues || {};
    const timeline = view.querySelector("[data-plot=timeline]");
    if (data.plots.timeline) draw(timeline, data.plots.timeline);
    else if (timeline) timeline.remove();
    follow();
    view.dataset.shown = index;
    for (const place of view.querySelectorAll(".charts [data-plot]")) {
      await new Promise((resume) => setTimeout(resume)); // keys and sound come first
      if (index !== open) return;
      draw(place, data.plots[place.dataset.plot]);
    }
  }

  function mark() {
    if (!body) return;
    for (const row of body.rows) row.toggleAttribute("aria-current", Number(row.dataset.clip) === open);
    const current = body.querySelector("[aria-current]");
    current.setAttribute("aria-current", "true");
    const box = body.closest(".scroll"), head = 40;
    if (current.offsetTop < box.scrollTop + head) box.scrollTop = current.offsetTop - head;
    const below = current.offsetTop + current.offsetHeight - box.clientHeight;
    if (below > box.scrollTop) box.scrollTop = below;
    const places = order();
    const place = view.querySelector("[data-place]");
    if (place) place.textContent = `${places.indexOf(open) + 1} of ${count}`;
  }

  // The cursor: where the player is, on the axis of seconds as it is zoomed now.
  function follow() {
    const sound = player(), cursor = view.querySelector(".cursor"), plot = view.querySelector("[data-plot=timeline]");
    if (!sound || !plot) return;
    const spoken = view.querySelectorAll(".words [data-seek]");
    const place = () => {
      const { xaxis, margin } = plot.layout;
      const [first, last] = xaxis.range, width = plot.clientWidth - margin.l - margin.r;
      const share = (sound.currentTime - first) / (last - first);
      cursor.hidden = !(share >= 0 && share <= 1);
      cursor.style.transform = `translateX(${margin.l + share * width}px)`;
      for (const word of spoken) {
        const { seek, end } = word.dataset;
        word.toggleAttribute("aria-current", seek <= sound.currentTime && sound.currentTime < end);
      }
    };
    const run = () => { if (!plot.isConnected) return; place(); if (!sound.paused) requestAnimationFrame(run); };
    for (const event of ["play", "seeking", "seeked", "timeupdate", "pause"]) sound.addEventListener(event, run);
    plot.on("plotly_relayout", place);
    plot.on("plotly_afterplot", place);
    plot.on("plotly_click", (event) => { sound.currentTime = Math.max(0, event.points[0].x); });
    place();
  }

  function step(by) {
    const places = order(), next = places[places.indexOf(open) + by];
    if (next !== undefined) location.hash = `clip-${next}`;
  }

  function seek(by) {
    const sound = player();
    sound.currentTime = Math.min(Math.max(sound.currentTime + by, 0), sound.duration || 0);
  }

  const keys = {
    " ": () => (player().paused ? player().play() : player().pause()),
    ArrowLeft: (event) => seek(event.shiftKey ? -FAR_S : -SEEK_S),
    ArrowRight: (event) => seek(event.shiftKey ? FAR_S : SEEK_S),
    ArrowUp: () => step(-1),
    ArrowDown: () => step(1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    const vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
    if (vertical ? count === 1 : !player()) return;
    if (event.key === " " && event.target.closest("button")) return;
    event.preventDefault();
    keys[event.key](event);
  }, true);

  function press(pressed) {
    for (const one of view.querySelectorAll("[data-cue]")) one.textContent = one === pressed ? "■" : "▶";
  }

  function playCue(button) {
    const stops = !cue.paused && button.textContent === "■";
    cue.pause();
    press(stops ? null : button);
    if (stops) return;
    if (player()) player().pause();
    cue.src = cues[button.dataset.cue];
    cue.play();
  }

  view.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.cue) playCue(button);
    if (button.dataset.step) step(Number(button.dataset.step));
    if (button.dataset.seek && player()) player().currentTime = Number(button.dataset.seek);
  });

  function compared(one, other) {
    const keyed = (cell) => (cell.dataset.key === undefined ? NaN : Number(cell.dataset.key));
    const [a, b] = [one, other].map(keyed);
    if (!isNaN(a) && !isNaN(b)) return a - b;
    return one.textContent.localeCompare(other.textContent, "en", { numeric: true });
  }

  function sort(heading) {
    const column = heading.cellIndex, down = heading.getAttribute("aria-sort") === "ascending";
    const empty = (row) => !row.cells[column].textContent;
    const rows = [...body.rows].sort((one, other) =>
      empty(one) - empty(other) || (down ? -1 : 1) * compared(one.cells[column], other.cells[column]));
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
    mark();
  }

  if (body) {
    body.addEventListener("click", (event) => {
      location.hash = `clip-${event.target.closest("tr").dataset.clip}`;
      view.scrollIntoView({ block: "start" });
    });
    for (const heading of document.querySelectorAll("#table th")) {
      heading.dataset.name = heading.textContent;
      heading.querySelector("button").addEventListener("click", () => sort(heading));
    }
  }

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // The summary's plots are drawn when they come into view, or go to paper.
  const plots = parsed("summary-plots");
  function drawSummary(place) {
    const { summary, summaryPlot } = place.dataset, plot = plots[summary][summaryPlot];
    delete plots[summary][summaryPlot];
    if (plot) draw(place, plot);
  }
  const watcher = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) { watcher.unobserve(one.target); drawSummary(one.target); }
  }, { rootMargin: "300px" });
  document.querySelectorAll("[data-summary-plot]").forEach((place) => watcher.observe(place));

  addEventListener("beforeprint", () => {
    document.querySelectorAll("[data-summary-plot]").forEach(drawSummary);
    for (const plot of document.querySelectorAll(".js-plotly-plot")) {
      const small = plot.dataset.summaryPlot ? PRINT_SMALL_PX : PRINT_CHART_PX;
      Plotly.relayout(plot, { width: plot.dataset.plot === "timeline" ? PRINT_PX : small });
    }
  });
  addEventListener("afterprint", () => {
    for (const plot of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(plot, { width: null, autosize: true });
  });

  const asked = () => { const found = /^#clip-(\d+)$/.exec(location.hash); return found ? Number(found[1]) : order()[0]; };
  addEventListener("hashchange", () => show(asked()));
  show(Math.min(asked(), count - 1));
})();
