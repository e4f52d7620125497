// Charts that can be zoomed (wheel), moved (drag), put back (double click) and read (hover); pictures too.
"use strict";
const NS = "http://www.w3.org/2000/svg", W = 760, H = 280, L = 64, R = 12, T = 10, B = 28;
const COLOURS = ["#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#999999"];
const put = (parent, tag, attributes, text) => {
  const made = document.createElementNS(NS, tag);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
};
const short = v => v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4));

for (const figure of document.querySelectorAll("figure.chart")) {
  const {x, series} = JSON.parse(figure.querySelector("script").textContent);
  const all = series.flatMap(s => s.points.map(p => p[0]));
  const whole = [Math.min(...all), Math.max(...all)];
  let seen = [...whole];
  const svg = put(figure, "svg", {viewBox: `0 0 ${W} ${H}`, class: "plot"});
  const told = figure.appendChild(document.createElement("figcaption"));
  const draw = mouse => {
    svg.replaceChildren();
    const inside = series.map(s => s.points.filter(p => p[0] >= seen[0] && p[0] <= seen[1]));
    const ys = inside.flat().map(p => p[1]);
    let low = Math.min(...ys), high = Math.max(...ys);
    if (!ys.length) { low = 0; high = 1; }
    if (low === high) { low -= 1; high += 1; }
    const span = seen[1] - seen[0] || 1;
    const px = v => L + (v - seen[0]) / span * (W - L - R), py = v => H - B - (v - low) / (high - low) * (H - T - B);
    for (let k = 0; k <= 4; k++) {
      const y = low + (high - low) * k / 4, at = seen[0] + span * k / 4;
      put(svg, "line", {x1: L, x2: W - R, y1: py(y), y2: py(y), class: "grid"});
      put(svg, "text", {x: L - 6, y: py(y) + 4, "text-anchor": "end"}, short(y));
      put(svg, "text", {x: px(at), y: H - 8, "text-anchor": "middle"}, short(at));
    }
    inside.forEach((points, k) => put(svg, "polyline", {
      points: points.map(p => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join(" "),
      stroke: COLOURS[k % COLOURS.length], class: "curve"}));
    const at = mouse === undefined ? undefined : seen[0] + (mouse - L) / (W - L - R) * span;
    if (at !== undefined) put(svg, "line", {x1: mouse, x2: mouse, y1: T, y2: H - B, class: "cursor"});
    told.replaceChildren();
    series.forEach((s, k) => {
      const label = told.appendChild(document.createElement("span"));
      label.style.color = COLOURS[k % COLOURS.length];
      label.textContent = s.name + " ";
      if (at === undefined || !inside[k].length) return;
      const near = inside[k].reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      put(svg, "circle", {cx: px(near[0]), cy: py(near[1]), r: 3, fill: COLOURS[k % COLOURS.length]});
      label.textContent += `${short(near[1])} at ${x} ${short(near[0])} `;
    });
  };
  const place = event => {
    const box = svg.getBoundingClientRect();
    return (event.clientX - box.left) / box.width * W;
  };
  let held;
  svg.addEventListener("wheel", event => {
    event.preventDefault();
    const centre = seen[0] + (place(event) - L) / (W - L - R) * (seen[1] - seen[0]);
    const scale = event.deltaY > 0 ? 1.25 : 0.8;
    seen = [Math.max(whole[0], centre + (seen[0] - centre) * scale), Math.min(whole[1], centre + (seen[1] - centre) * scale)];
    draw(place(event));
  }, {passive: false});
  svg.addEventListener("pointerdown", event => { held = place(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointerup", () => { held = undefined; });
  svg.addEventListener("pointerleave", () => { held = undefined; draw(); });
  svg.addEventListener("dblclick", () => { seen = [...whole]; draw(); });
  svg.addEventListener("pointermove", event => {
    const now = place(event);
    if (held !== undefined) {
      const width = seen[1] - seen[0], moved = (held - now) / (W - L - R) * width;
      const first = Math.min(Math.max(seen[0] + moved, whole[0]), whole[1] - width);
      seen = [first, first + width];
      held = now;
    }
    draw(now);
  });
  draw();
}

for (const inner of document.querySelectorAll("img, svg.graph")) {
  const frame = document.createElement("div");
  frame.className = "frame";
  inner.replaceWith(frame);
  frame.append(inner);
  let size = 1, dx = 0, dy = 0, held;
  const show = () => { inner.style.transform = `translate(${dx}px,${dy}px) scale(${size})`; };
  frame.addEventListener("wheel", event => {
    if (!event.ctrlKey && size === 1 && event.deltaY > 0) return;
    event.preventDefault();
    const box = frame.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const next = Math.max(1, size * (event.deltaY > 0 ? 0.8 : 1.25));
    dx = next === 1 ? 0 : x - (x - dx) * next / size;
    dy = next === 1 ? 0 : y - (y - dy) * next / size;
    size = next;
    show();
  }, {passive: false});
  frame.addEventListener("pointerdown", event => { held = [event.clientX - dx, event.clientY - dy]; event.preventDefault(); });
  frame.addEventListener("pointermove", event => { if (held && size > 1) { dx = event.clientX - held[0]; dy = event.clientY - held[1]; show(); } });
  for (const end of ["pointerup", "pointerleave"]) frame.addEventListener(end, () => { held = undefined; });
  frame.addEventListener("dblclick", () => { size = 1; dx = dy = 0; show(); });
}
