// As much of a browser as the script of a report needs: runs it, moves the mouse, prints what is to be read.
"use strict";
const fs = require("fs");
class Node {
  constructor(tag, text = "") { Object.assign(this, {tag, textContent: text, children: [], attributes: {}, style: {}, heard: {}}); }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  appendChild(child) { this.children.push(child); return child; }
  append(child) { this.appendChild(child); }
  replaceChildren() { this.children = []; }
  replaceWith(other) { this.replaced = other; }
  addEventListener(name, act) { this.heard[name] = act; }
  setPointerCapture() {}
  getBoundingClientRect() { return {left: 0, top: 0, width: 760, height: 280}; }
  querySelector(tag) { return this.children.find(child => child.tag === tag); }
  all(tag) { return this.children.flatMap(child => [...(child.tag === tag ? [child] : []), ...child.all(tag)]); }
  tell(name, event) { this.heard[name]({preventDefault() {}, pointerId: 1, deltaY: 0, ...event}); }
}
const [script, chart] = process.argv.slice(2);
const figure = new Node("figure"), picture = new Node("img");
figure.appendChild(new Node("script", chart));
global.document = {
  createElementNS: (_, tag) => new Node(tag), createElement: tag => new Node(tag),
  querySelectorAll: what => what === "figure.chart" ? [figure] : [picture],
};
eval(fs.readFileSync(script, "utf8"));
const svg = figure.querySelector("svg"), frame = picture.replaced, told = {};
const seen = name => {
  told[name] = {
    caption: figure.querySelector("figcaption").children.map(child => child.textContent.trim()),
    points: svg.all("polyline").map(line => line.attributes.points.split(" ").filter(Boolean).length),
  };
};
seen("start");
svg.tell("pointermove", {clientX: 408}); seen("hover");
for (let k = 0; k < 4; k++) svg.tell("wheel", {clientX: 408, deltaY: -1});
svg.tell("pointerleave"); seen("zoomed");
svg.tell("pointerdown", {clientX: 400}); svg.tell("pointermove", {clientX: 200}); svg.tell("pointerup");
svg.tell("pointermove", {clientX: 408}); seen("moved");
svg.tell("dblclick"); seen("back");
frame.tell("wheel", {clientX: 10, clientY: 10, deltaY: -1});
told.picture = picture.style.transform;
frame.tell("dblclick");
told.pictureBack = picture.style.transform;
console.log(JSON.stringify(told));
