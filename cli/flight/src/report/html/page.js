// Draws the lanes of the CPUs from the page's data, with zoom and pan. Names are only ever text.
"use strict";
(() => {
  const { figures, lanes } = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const [from, until] = [lanes.from, lanes.until];

  // Flame graphs: a click on a frame makes it as wide as the graph, and one on the lowest frame shows all again.
  const LETTER = 7.2;
  for (const graph of document.querySelectorAll(".flame")) {
    const frames = [...graph.querySelectorAll("g")].map((group) => {
      const [title, rect, text] = group.children;
      const [begin, wide] = ["fg:x", "fg:w"].map((name) => Number(rect.getAttribute(name)));
      return { group, rect, text, name: title.textContent.replace(/ \([^()]*\)$/, ""), begin, end: begin + wide };
    });
    let shown = [0, Number(graph.dataset.total)];
    const fit = () => {
      const [start, stop] = shown, percent = 100 / (stop - start), pixels = graph.clientWidth / (stop - start);
      for (const { group, rect, text, name, begin, end } of frames) {
        const left = Math.max(begin, start), right = Math.min(end, stop), room = Math.floor(((right - left) * pixels - 6) / LETTER);
        group.toggleAttribute("hidden", right <= left);
        if (right <= left) continue;
        rect.setAttribute("x", `${(left - start) * percent}%`);
        rect.setAttribute("width", `${(right - left) * percent}%`);
        text.setAttribute("x", `${(left - start) * percent + 300 / graph.clientWidth}%`);
        text.textContent = name.length <= room ? name : room < 4 ? "" : `${name.slice(0, room - 1)}…`;
      }
    };
    graph.addEventListener("click", (event) => {
      const frame = frames.find(({ group }) => group.contains(event.target));
      if (frame) shown = [frame.begin, frame.end];
      fit();
    });
    new ResizeObserver(fit).observe(graph);
  }

  if (!lanes.cpus.length || until <= from) return;
  at("lanes").hidden = false;

  // How a turn ended, by its number; from MERGED on it is many turns.
  const ENDS = ["could go on", "then waited", "then waited in state D", "then ended or stopped", "was still running"];
  const MERGED = 8, SHORTEST = 1000, LEFT = 64;

  // Four numbers for each turn become times in nanoseconds since time zero.
  const cpus = lanes.cpus.map(({ cpu, turns }) => {
    const count = turns.length / 4;
    const lane = { cpu, count, from: new Float64Array(count), until: new Float64Array(count), thread: new Uint32Array(count), end: new Uint8Array(count) };
    let now = from;
    for (let i = 0; i < count; i++) {
      lane.from[i] = now += turns[4 * i];
      lane.until[i] = now += turns[4 * i + 1];
      lane.thread[i] = turns[4 * i + 2];
      lane.end[i] = turns[4 * i + 3];
    }
    return lane;
  });
  const threadName = (number) => {
    const thread = lanes.threads[number];
    return thread ? `${thread.name || "thread"} (${thread.tid})` : "another thread";
  };

  // Times with a unit. `step` is what must be told apart.
  const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const time = (ns, step) => {
    const [size, unit] = UNITS.find(([size]) => Math.abs(ns) >= size) || UNITS[3];
    const digits = Math.max(0, Math.min(9, Math.ceil(Math.log10(size / (step || Math.abs(ns) / 100 || 1)))));
    return `${ns < 0 ? "−" : ""}${(Math.abs(ns) / size).toFixed(size === 1 ? 0 : digits)} ${unit}`;
  };

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let colours;
  const look = () => {
    const [saturation, light] = style("--turn").split(" ");
    const thread = (number) => `hsl(${(number * 137.5 + 205) % 360} ${saturation} ${light})`;
    const [text, quiet, line, accent, soft, onTurn] = ["--text", "--quiet", "--line", "--accent", "--soft", "--on-turn"].map(style);
    colours = { thread, text, quiet, line, accent, soft, onTurn };
  };
  look();

  const view = { min: from, max: until };
  let chosen = -1;

  // The first turn that ends after this time.
  const after = (lane, ns) => {
    let [low, high] = [0, lane.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lane.until[middle] > ns) high = middle; else low = middle + 1;
    }
    return low;
  };

  // What stopped the recording, what killed processes, and marks; a short text each.
  const moments = [
    ...(figures.stopped ? [{ ns: 0, text: "stopped", strong: true }] : []),
    ...figures.ended.filter(({ signal }) => signal).map(({ at_ns, signal, process }) => ({ ns: at_ns - lanes.zero_ns, text: `${signal} ${process.name}` })),
    ...figures.marks.map(({ at_ns, text }) => ({ ns: at_ns - lanes.zero_ns, text: text.slice(0, 40) })),
  ];

  const draw = (u) => {
    const { ctx, bbox } = u, ratio = devicePixelRatio || 1, height = bbox.height / cpus.length;
    const x = (ns) => bbox.left + ((ns - view.min) / (view.max - view.min)) * bbox.width;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    cpus.forEach((lane, row) => {
      const gap = height > 8 * ratio ? 2 * ratio : 0, top = bbox.top + row * height + gap, tall = height - 2 * gap;
      let drawn = -1;
      for (let i = after(lane, view.min); i < lane.count && lane.from[i] < view.max; i++) {
        const left = x(lane.from[i]), right = x(lane.until[i]);
        if (right < drawn) continue; // under the last one
        const wide = Math.max(right - left, ratio), end = lane.end[i], thread = lane.thread[i];
        drawn = left + wide;
        ctx.fillStyle = thread === chosen ? colours.accent : colours.thread(thread);
        ctx.globalAlpha = chosen >= 0 && thread !== chosen ? 0.35 : 1;
        const full = end < MERGED ? tall : (tall * (end - MERGED)) / 100;
        ctx.fillRect(left, top + tall - full, wide, full);
        if (wide > 60 * ratio && end < MERGED && tall > 10 * ratio) {
          const [start, stop] = [Math.max(left, bbox.left), Math.min(right, bbox.left + bbox.width)];
          const name = threadName(thread), room = stop - start - 8 * ratio;
          if (ctx.measureText(name).width <= room) {
            ctx.fillStyle = thread === chosen ? style("--page") : colours.onTurn;
            ctx.fillText(name, start + 4 * ratio, top + tall / 2);
          }
        }
      }
    });
    ctx.globalAlpha = 1;
    const shown = moments.filter(({ ns }) => ns >= view.min && ns <= view.max);
    for (const { ns, strong } of shown) {
      ctx.fillStyle = strong ? colours.accent : colours.text;
      ctx.fillRect(x(ns) - ratio / 2, bbox.top, strong ? 2 * ratio : ratio, bbox.height);
    }
    ctx.restore();
    // Their texts are above, as far as they do not cover each other.
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "bottom";
    ctx.textAlign = "left";
    const covered = [];
    for (const { ns, text, strong } of shown) {
      const wide = ctx.measureText(text).width, left = Math.min(x(ns), bbox.left + bbox.width - wide);
      if (covered.some(([begin, end]) => left < end && left + wide > begin)) continue;
      covered.push([left, left + wide + 8 * ratio]);
      ctx.fillStyle = strong ? colours.accent : colours.text;
      ctx.fillText(text, left, bbox.top - 3 * ratio);
    }
    ctx.restore();
  };

  const axis = (more) => ({
    stroke: () => colours.quiet, font: "12px system-ui, sans-serif",
    grid: { stroke: () => colours.line, width: 1 }, ticks: { stroke: () => colours.line, width: 1, size: 5 }, ...more,
  });
  const times = (u, splits, _axis, _space, step) => splits.map((ns) => (ns === 0 ? "0" : time(ns, step)));
  const width = () => at("turns").clientWidth;
  const base = (more) => ({ width: width(), legend: { show: false }, padding: [6, 28, 0, 0], ...more });

  // The time that CPUs were busy, over all of the lanes. The part that the lanes show is marked; dragging chooses another one.
  const step = (until - from) / lanes.busy.length;
  const busy = new uPlot(base({
    height: 96,
    scales: { x: { time: false, range: () => [from, until] }, y: { range: () => [0, 100] } },
    series: [{}, { stroke: () => colours.accent, width: 1, fill: () => colours.soft, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
    axes: [axis({ size: 26, values: times, space: 90 }), axis({ size: LEFT, splits: () => [0, 50, 100], values: (_, splits) => splits.map((value) => `${value} %`) })],
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
    hooks: {
      setSelect: [(u) => {
        const { left, width } = u.select;
        if (width < 2) return;
        show(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
        u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
      draw: [(u) => {
        if (view.min <= from && view.max >= until) return;
        const [left, right] = [view.min, view.max].map((ns) => u.valToPos(ns, "x", true));
        u.ctx.save();
        u.ctx.strokeStyle = colours.accent;
        u.ctx.lineWidth = devicePixelRatio || 1;
        u.ctx.strokeRect(left, u.bbox.top, Math.max(right - left, 2), u.bbox.height);
        u.ctx.restore();
      }],
    },
  }), [lanes.busy.map((_, i) => from + i * step), lanes.busy], at("busy"));

  const row = cpus.length <= 16 ? 28 : cpus.length <= 64 ? 16 : 8;
  const every = Math.ceil(14 / row);
  const chart = new uPlot(base({
    height: cpus.length * row + 50,
    padding: [20, 28, 0, 0],
    scales: { x: { time: false, range: () => [view.min, view.max] }, y: { range: () => [0, cpus.length], dir: -1 } },
    series: [{}, { points: { show: false } }],
    axes: [
      axis({ size: 30, values: times, space: 90 }),
      axis({ size: LEFT, grid: { show: false }, ticks: { show: false }, splits: () => cpus.map((_, i) => i + 0.5),
        values: (_, splits) => splits.map((value, i) => (i % every ? "" : `CPU ${cpus[i].cpu}`)) }),
    ],
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    hooks: { drawAxes: [draw] },
  }), [[from, until], [null, null]], at("turns"));

  // Shows these times, as far as there are some.
  const show = (min, max) => {
    const wide = Math.min(Math.max(max - min, SHORTEST), until - from);
    const middle = (min + max) / 2;
    view.min = Math.min(Math.max(middle - wide / 2, from), until - wide);
    view.max = view.min + wide;
    chart.setScale("x", { min: view.min, max: view.max });
    busy.redraw(false);
    describe();
  };
  const describe = () => {
    const range = at("range"), wide = view.max - view.min;
    range.dataset.from = view.min;
    range.dataset.until = view.max;
    const end = figures.stopped ? time(view.max, wide / 100) : view.max >= until ? "the end" : time(view.max, wide / 100);
    const who = chosen < 0 ? "" : `; ${threadName(chosen)} ran ${time(ran(chosen))} of it`;
    range.textContent = `${time(wide)} from ${time(view.min, wide / 100)} to ${end}${who}`;
  };
  // How long a thread ran in the part that is shown, without turns that are drawn together with others.
  const ran = (thread) => cpus.reduce((sum, lane) => {
    for (let i = after(lane, view.min); i < lane.count && lane.from[i] < view.max; i++) {
      if (lane.thread[i] !== thread || lane.end[i] >= MERGED) continue;
      sum += Math.min(lane.until[i], view.max) - Math.max(lane.from[i], view.min);
    }
    return sum;
  }, 0);
  const zoom = (factor, centre) => {
    const middle = centre === undefined ? (view.min + view.max) / 2 : centre;
    show(middle - (middle - view.min) * factor, middle + (view.max - middle) * factor);
  };
  const pan = (part) => {
    const by = (view.max - view.min) * part;
    const allowed = Math.min(Math.max(by, from - view.min), until - view.max);
    show(view.min + allowed, view.max + allowed);
  };
  const choose = (thread) => {
    chosen = thread;
    chart.redraw(false);
    describe();
  };

  // The turn under the pointer.
  const over = chart.over;
  const found = (event) => {
    const box = over.getBoundingClientRect();
    const ns = view.min + ((event.clientX - box.left) / box.width) * (view.max - view.min);
    const lane = cpus[Math.floor(((event.clientY - box.top) / box.height) * cpus.length)];
    if (!lane) return { ns };
    const near = ((view.max - view.min) / box.width) * 2, i = after(lane, ns - near);
    return i < lane.count && lane.from[i] <= ns + near ? { ns, lane, i } : { ns, lane };
  };
  const tip = at("tip");
  const tell = (event) => {
    const { lane, i } = found(event);
    tip.hidden = i === undefined;
    if (tip.hidden) return;
    const [begin, end] = [lane.from[i], lane.until[i]], how = lane.end[i];
    const thread = lanes.threads[lane.thread[i]];
    const lines = [
      thread && thread.pid && thread.pid !== thread.tid ? `CPU ${lane.cpu}, thread of process ${thread.pid}` : `CPU ${lane.cpu}`,
      `${time(end - begin)} from ${time(begin, (end - begin) / 10)}`,
      how < MERGED ? ENDS[how] : `many short turns, most of them of this thread; the CPU was busy for ${how - MERGED} %`,
    ];
    const head = document.createElement("b");
    head.textContent = threadName(lane.thread[i]);
    tip.replaceChildren(head, ...lines.map((line) => Object.assign(document.createElement("span"), { textContent: line })));
    const { width: wide, height: tall } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - wide - 8))}px`;
    tip.style.top = `${event.clientY + 18 + tall > innerHeight ? event.clientY - tall - 12 : event.clientY + 18}px`;
  };

  let drag = null;
  over.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / over.clientWidth);
    else zoom(Math.exp(Math.max(-200, Math.min(200, event.deltaY)) / 250), found(event).ns);
    tell(event);
  }, { passive: false });
  over.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, min: view.min, max: view.max, moved: false };
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    if (!drag) return tell(event);
    const moved = event.clientX - drag.x;
    if (!drag.moved && Math.abs(moved) < 4) return;
    drag.moved = true;
    tip.hidden = true;
    const by = (-moved / over.clientWidth) * (drag.max - drag.min);
    show(drag.min + by, drag.max + by);
  });
  over.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) {
      const { lane, i } = found(event);
      const thread = i === undefined ? -1 : lane.thread[i];
      choose(thread === chosen ? -1 : thread);
      tell(event);
    }
    drag = null;
  });
  over.addEventListener("pointercancel", () => { drag = null; });
  over.addEventListener("pointerleave", () => { tip.hidden = true; });

  const keys = {
    ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2),
    0: () => show(from, until), Home: () => show(from, until), Escape: () => choose(-1),
  };
  at("turns").addEventListener("keydown", (event) => {
    const act = !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  at("all").addEventListener("click", keys.Home);
  at("in").addEventListener("click", keys["+"]);
  at("out").addEventListener("click", keys["-"]);

  // Rows of tables lead to their times.
  for (const line of document.querySelectorAll("tr[data-from]")) {
    const [begin, end] = [line.dataset.from - lanes.zero_ns, line.dataset.until - lanes.zero_ns];
    if (begin > until || end < from) continue;
    const go = document.createElement("button");
    const cell = line.cells[0];
    go.type = "button";
    go.className = "go";
    go.title = "Show it in the lanes";
    go.textContent = cell.textContent;
    go.addEventListener("click", () => {
      const room = Math.max((end - begin) * 0.5, 1e6);
      show(begin - room, end + room);
      at("lanes").scrollIntoView({ block: "start" });
    });
    cell.replaceChildren(go);
  }

  const about = [
    "Wheel or + and − zoom, dragging or arrow keys move, a click marks a thread. Dragging in the upper chart chooses a time.",
  ];
  if (lanes.merged) about.push(`${lanes.merged.toLocaleString("en")} of ${lanes.turns.toLocaleString("en")} turns are drawn together with their neighbours: those shorter than 1/${lanes.part.toLocaleString("en")} of their distance from time 0.`);
  if (figures.completeness.from_ns - lanes.zero_ns < from || figures.completeness.until_ns - lanes.zero_ns > until) about.push("The recording is longer than these lanes.");
  at("about").textContent = about.join(" ");

  const redraw = () => {
    look();
    [busy, chart].forEach((u) => u.redraw(false));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => [busy, chart].forEach((u) => u.width !== width() && u.setSize({ width: width(), height: u.height }))).observe(at("turns"));
  show(from, until);
})();
