"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const style = getComputedStyle(document.documentElement);
  const color = name => style.getPropertyValue(name).trim();
  const palette = i => color("--c" + i % 6);
  const names = [...new Set(data.cells.flatMap(cell => cell.contestants.map(one => one.name)))];
  const colorOf = name => palette(names.indexOf(name));
  const median = values => { const s = [...values].sort((a, b) => a - b), m = s.length >> 1; return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2; };
  const element = (tag, parent, text) => { const e = document.createElement(tag); if (text !== undefined) { e.textContent = text; } parent?.append(e); return e; };
  const time = ns => ns == null ? "" : ns >= 1e6 ? +(ns / 1e6).toPrecision(3) + " ms" : ns >= 1e3 ? +(ns / 1e3).toPrecision(3) + " µs" : +ns.toPrecision(3) + " ns";
  const count = n => n == null ? "" : n >= 1e6 ? +(n / 1e6).toPrecision(3) + "M" : n >= 1e3 ? +(n / 1e3).toPrecision(3) + "k" : String(+n.toPrecision(3));
  const axis = values => ({ stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") }, values });
  // Cells that differ in their depth alone are one picture.
  const families = Map.groupBy(data.cells, cell => cell.name.replace(/-qd\d+/, ""));
  const width = () => Math.max(320, Math.min(580, document.body.clientWidth - 40));

  function chart(parent, title, options, columns) {
    return new uPlot({ title, width: width(), height: 300, cursor: { drag: { x: false, y: false } }, ...options }, columns, element("div", parent));
  }

  document.getElementById("summary").textContent =
    `${data.machine.cpu}, ${data.machine.cores} cores, ${data.machine.kernel}; commit ${data.machine.commit}; ${data.startedAt.slice(0, 16).replace("T", " ")} UTC`;

  if (names.length > 0) {
    for (const place of document.querySelectorAll(".ours")) { place.textContent = names[0]; }
  }

  (function ratios() {
    const table = element("table", document.getElementById("ratios"));
    const head = element("tr", element("thead", table));
    for (const title of ["cell", "beside", "IOPS", "p50", "p99", "p99.9", "CPU per request"]) { element("th", head, title); }
    const body = element("tbody", table);
    for (const cell of data.cells) {
      for (const ratio of cell.ratios) {
        const row = element("tr", body);
        element("td", row, cell.name);
        element("td", row, ratio.peer);
        for (const [figure, more] of [["iops", true], ["p50", false], ["p99", false], ["p999", false], ["cpuPerRequest", false]]) {
          const estimate = ratio[figure], entry = element("td", row, estimate.median.toFixed(2) + " ");
          element("small", entry, `${estimate.low.toFixed(2)}–${estimate.high.toFixed(2)}`);
          entry.className = estimate.verdict === "noDifferenceSeen" ? "same" : (estimate.verdict === "higher") === more ? "better" : "worse";
        }
      }
    }
  })();

  (function throughput() {
    const parent = document.getElementById("throughput");
    for (const [family, cells] of families) {
      const pitch = names.length + 1, xs = [], spans = [];
      const columns = names.map(() => []);
      cells.forEach((cell, c) => names.forEach((name, n) => {
        xs.push(c * pitch + n);
        const one = cell.contestants.find(contestant => contestant.name === name);
        names.forEach((_, k) => columns[k].push(k === n && one ? one.medians.iops : null));
        const restarts = one ? [...Map.groupBy(one.runs, run => run.restart).values()].map(runs => median(runs.map(run => run.iops))) : [];
        spans.push(restarts.length ? [Math.min(...restarts), Math.max(...restarts)] : null);
      }));
      const bars = uPlot.paths.bars({ size: [0.9, 60] });
      const drawSpans = u => {
        u.ctx.save();
        u.ctx.strokeStyle = color("--ink");
        u.ctx.lineWidth = devicePixelRatio * 1.5;
        spans.forEach((span, i) => {
          if (!span) { return; }
          const x = u.valToPos(xs[i], "x", true), low = u.valToPos(span[0], "y", true), high = u.valToPos(span[1], "y", true), arm = 4 * devicePixelRatio;
          u.ctx.beginPath();
          u.ctx.moveTo(x, low); u.ctx.lineTo(x, high);
          u.ctx.moveTo(x - arm, low); u.ctx.lineTo(x + arm, low); u.ctx.moveTo(x - arm, high); u.ctx.lineTo(x + arm, high);
          u.ctx.stroke();
        });
        u.ctx.restore();
      };
      const most = Math.max(...spans.flatMap(span => span ?? []), ...columns.flat().map(value => value ?? 0));
      const centres = cells.map((_, c) => c * pitch + (names.length - 1) / 2);
      chart(parent, `${family}: IOPS`, {
        scales: { x: { time: false, range: [-1, cells.length * pitch - 1] }, y: { range: [0, most * 1.05] } },
        axes: [{ ...axis((_, splits) => splits.map(x => "QD" + cells[centres.indexOf(x)].cell.depth)), splits: () => centres, grid: { show: false } }, { ...axis((_, values) => values.map(count)), size: 60 }],
        series: [{ label: "cell", value: (_, x) => x == null ? "" : cells[Math.floor(x / pitch)]?.name ?? "" },
          ...names.map(name => ({ label: name, fill: colorOf(name), stroke: colorOf(name), paths: bars, points: { show: false }, value: (_, value) => count(value) }))],
        hooks: { draw: [drawSpans] },
      }, [xs, ...columns]);
    }
  })();

  (function percentiles() {
    const parent = document.getElementById("percentiles");
    for (const [family, cells] of families) {
      if (cells.length < 2) { continue; }
      const depths = cells.map(cell => cell.cell.depth);
      const figures = [["p50Ns", "p50", []], ["p99Ns", "p99", [6, 5]]];
      const series = names.flatMap(name => figures.map(([key, label, dash]) => ({
        label: `${name} ${label}`, stroke: colorOf(name), width: 2, dash, value: (_, value) => time(value),
        values: cells.map(cell => cell.contestants.find(one => one.name === name)?.medians[key] ?? null),
      }))).filter(one => one.values.some(value => value !== null));
      chart(parent, family, {
        scales: { x: { time: false, distr: 3, log: 2 }, y: { distr: 3 } },
        axes: [axis((_, values) => values.map(value => depths.includes(value) ? "QD" + value : "")), { ...axis((_, values) => values.map(value => value == null ? "" : time(value))), size: 70 }],
        series: [{ label: "depth" }, ...series.map(({ values, ...rest }) => rest)],
      }, [depths, ...series.map(one => one.values)]);
    }
  })();

  (function distribution() {
    const select = document.getElementById("cell"), parent = document.getElementById("cdf");
    const cells = data.cells.filter(cell => cell.contestants.some(one => one.runs.some(run => run.bins)));
    cells.forEach(cell => element("option", select, cell.name));
    let shown;
    function show() {
      shown?.destroy();
      parent.replaceChildren();
      const cell = cells[Math.max(0, select.selectedIndex)];
      if (!cell) { return; }
      const curves = cell.contestants.map(one => {
        const bins = new Map();
        one.runs.forEach(run => Object.entries(run.bins ?? {}).forEach(([ns, n]) => bins.set(+ns, (bins.get(+ns) ?? 0) + n)));
        return { name: one.name, bins: [...bins].sort((a, b) => a[0] - b[0]) };
      }).filter(curve => curve.bins.length);
      const xs = [...new Set(curves.flatMap(curve => curve.bins.map(bin => bin[0])))].sort((a, b) => a - b);
      const columns = curves.map(curve => {
        const total = curve.bins.reduce((sum, bin) => sum + bin[1], 0), at = new Map(curve.bins);
        let sum = 0;
        return xs.map(x => (sum += at.get(x) ?? 0, 100 * sum / total));
      });
      shown = chart(parent, cell.name, {
        width: Math.max(320, Math.min(1180, document.body.clientWidth - 40)), height: 380,
        scales: { x: { time: false, distr: 3 }, y: { range: [0, 100] } },
        axes: [{ ...axis((_, values) => values.map(value => value == null ? "" : time(value))) }, axis((_, values) => values.map(value => value + " %"))],
        series: [{ label: "latency", value: (_, x) => time(x) }, ...curves.map(curve => ({ label: curve.name, stroke: colorOf(curve.name), width: 2, value: (_, y) => y == null ? "" : y.toFixed(3) + " %" }))],
      }, [xs, ...columns]);
    }
    select.addEventListener("change", show);
    show();
  })();

  (function stages() {
    const parent = document.getElementById("stages");
    for (const [family, cells] of families) {
      const told = cells.map(cell => [cell, cell.contestants[0]?.runs.findLast(run => run.stages)?.stages]).filter(([, stage]) => stage);
      if (!told.length) { continue; }
      const labels = Object.keys(told[0][1]), xs = told.map((_, i) => i);
      // Stacked: each bar reaches up to the sum so far, and the highest is drawn first.
      const tops = labels.map((_, k) => told.map(([, stage]) => labels.slice(0, k + 1).reduce((sum, label) => sum + stage[label], 0)));
      const bars = uPlot.paths.bars({ size: [0.6, 80] });
      chart(parent, family, {
        scales: { x: { time: false, range: [-0.6, told.length - 0.4] }, y: { range: [0, 1.05 * Math.max(...tops.at(-1))] } },
        axes: [{ ...axis((_, splits) => splits.map(x => "QD" + told[x][0].cell.depth)), splits: () => xs, grid: { show: false } }, { ...axis((_, values) => values.map(time)), size: 70 }],
        series: [{ label: "cell", value: (_, x) => x == null ? "" : told[x][0].name },
          ...labels.map((label, k) => ({ label, fill: palette(k), stroke: palette(k), paths: bars, points: { show: false }, value: (_, __, ___, i) => i == null ? "" : time(told[i][1][label]) })).reverse()],
      }, [xs, ...tops.reverse()]);
    }
    if (!parent.childElementCount) { element("p", parent, "Not asked for in this comparison."); }
  })();

  (function method() {
    const list = element("dl", document.getElementById("method"));
    const add = (term, text) => { element("dt", list, term); element("dd", list, text); };
    add("command", data.command);
    add("restarts of each server", `${data.method.restarts}, ${data.method.runsPerRestart} runs of ${data.method.secondsPerRun} s each`);
    add("processors", `server ${data.method.serverCpu ?? "any"}, client ${data.method.clientCpu ?? "any"}`);
    add("machine", `${data.machine.cpu}, ${data.machine.cores} cores, ${data.machine.memoryGib} GiB, ${data.machine.fileSystem}, load before ${data.machine.loadBefore}`);
    Object.entries(data.machine.versions).forEach(([name, version]) => add(name, version));
    names.forEach(name => add(`${name} served by`, [...new Set(data.cells.flatMap(cell => cell.contestants.filter(one => one.name === name).map(one => one.command)))].join("; ")));
  })();
  document.documentElement.dataset.charts = document.querySelectorAll(".uplot").length;
})();
