"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = data.metrics;
const $ = (id) => document.getElementById(id);
const names = Object.keys(all.scenes);
const state = { scene: Object.keys(data.maps)[0], layer: "labels", scale: 1, x: 0, y: 0 };

function make(tag, text, facts = {}) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(facts)) node.setAttribute(key, value);
  return node;
}
const known = (value) => value !== null && value !== undefined;
const digits = (value, most) => known(value) ? value.toLocaleString("en", { maximumSignificantDigits: most }) : "–";
const usd = (value) => known(value) ? "$" + (value && Math.abs(value) < 1 ? digits(value, 2) : value.toFixed(2)) : "–";
const percent = (value) => known(value) ? (100 * value).toFixed(1) + " %" : "–";
const seconds = (s) => s < 100 ? s.toFixed(1) + " s" : s < 7200 ? (s / 60).toFixed(1) + " min" : (s / 3600).toFixed(1) + " h";
const rgb = (parts) => `rgb(${parts.join(",")})`;

function head() {
  const one = names.length === 1 ? names[0] : `${names.length} scenes`;
  document.title = `${one} – batchseg report`;
  $("title").textContent = one;
  const models = Object.entries(data.models).map(([tier, name]) => `${tier}: ${name}`).join(" · ");
  const chunks = all.chunks, whole = chunks.done + chunks.empty, missing = chunks.failed + chunks.not_run;
  $("subtitle").textContent = data.made ? `${models} · ${data.made}` : models;
  const tiles = [
    ["area", known(all.area_km2) ? digits(all.area_km2, 5) + " km²" : digits(all.valid_px / 1e6, 4) + " Mpx"],
    ["cost", usd(all.cost_usd)], ["cost per km²", usd(all.cost_usd_per_km2)],
    ["mean IoU", known(all.miou) ? all.miou.toFixed(3) : "no reference"],
    ["mean confidence", percent(all.mean_confidence)], ["tiles to the heavy model", percent(all.heavy_share)],
    ["wall time", seconds(all.wall_s)], ["chunks", `${whole} of ${whole + missing}`],
  ];
  for (const [label, value] of tiles) {
    const tile = make("div", null, { class: label === "chunks" && missing ? "tile bad" : "tile", "data-tile": label });
    tile.append(make("b", value), make("span", label));
    $("tiles").append(tile);
  }
  $("footer").textContent = `Recipe ${all.fingerprint} · ` +
    Object.entries(all.versions || {}).map(([name, version]) => `${name} ${version}`).join(" · ");
}

function row(cells, tag = "td") {
  const line = make("tr");
  for (const cell of cells) {
    if (cell instanceof Node) { const td = make(tag); td.append(cell); line.append(td); } else line.append(make(tag, cell));
  }
  return line;
}

function named(colour, name) {
  const span = make("span");
  span.append(make("i", null, { class: "swatch", style: `background:${colour}` }), document.createTextNode(name));
  return span;
}

function legend() {
  const figures = all.scenes[state.scene], table = $("legend");
  table.replaceChildren();
  const layer = data.layers[state.layer];
  $("legendtitle").textContent = { labels: "Classes", tier: "Tiers", none: "Classes" }[state.layer] || layer.title[0].toUpperCase() + layer.title.slice(1);
  if (layer && layer.kind === "measure") {
    table.append(row([make("div", null, { class: "ramp", style: "display:block;width:auto;height:16px;margin:0" })]), row([`${Math.round(100 * data.least[state.layer])} % to 100 %`]));
    if (state.layer === "confidence") table.append(row([`mean ${percent(figures.mean_confidence)}`]), row([`The ramp begins at 1 / ${data.classes.length}: a label is the most probable of ${data.classes.length} classes.`]));
    return;
  }
  if (state.layer === "tier") {
    table.append(row(["", "tiles"], "th"));
    const counts = data.tiles[state.scene] || [];
    data.tiers.forEach((tier, i) => { if (counts[i]) table.append(row([named(rgb(tier.rgb), tier.name), digits(counts[i], 9)])); });
    if (figures.tiles.skipped) table.append(row(["nothing to label", digits(figures.tiles.skipped, 9)]));
    return;
  }
  if (layer && state.layer !== "labels") {
    for (const one of layer.classes) table.append(row([named(rgb(one.rgb), one.name)]));
    return;
  }
  const px = Object.values(figures.class_px).reduce((sum, one) => sum + one, 0);
  table.append(row(["class", known(figures.class_area_km2) ? "km²" : "Mpx", "share", "IoU"], "th"));
  for (const one of data.classes) {
    const area = known(figures.class_area_km2) ? digits(figures.class_area_km2[one.name], 4) : digits(figures.class_px[one.name] / 1e6, 4);
    const iou = figures.iou && known(figures.iou[one.name]) ? figures.iou[one.name].toFixed(3) : "–";
    const line = row([named(rgb(one.rgb), one.name), area, px ? percent(figures.class_px[one.name] / px) : "–", iou]);
    line.dataset.class = one.name;
    table.append(line);
  }
  const mean = known(figures.miou) ? figures.miou.toFixed(3) : "–";
  table.append(row(["all", known(figures.area_km2) ? digits(figures.area_km2, 4) : digits(figures.valid_px / 1e6, 4), "", mean]));
}

function confusion() {
  const matrix = all.scenes[state.scene].confusion, table = $("confusion");
  table.replaceChildren();
  if (!matrix) { table.append(row(["no reference labels for this scene"])); return; }
  table.append(row(["", ...data.classes.map((one) => one.name)], "th"));
  matrix.forEach((counts, i) => {
    const sum = counts.reduce((a, b) => a + b, 0), line = make("tr");
    line.append(make("th", data.classes[i].name));
    counts.forEach((count, j) => {
      const share = sum ? count / sum : 0;
      const base = i === j ? "29,111,165" : "200,60,40", ink = share > 0.55 ? "#fff" : "inherit";
      const text = !sum ? "" : share >= 0.0005 ? (100 * share).toFixed(1) : count ? "<0.1" : "0";
      line.append(make("td", text, { style: `background:rgba(${base},${Math.sqrt(share)});color:${ink}`, title: `${count} px`, "data-px": count }));
    });
    table.append(line);
  });
}

function bars(id, facts, show) {
  const most = Math.max(...Object.values(facts), 1e-12);
  for (const [name, value] of Object.entries(facts)) {
    if (!value) continue;
    const line = make("div", null, { "data-bar": name });
    const track = make("span");
    track.append(make("i", null, { style: `width:${100 * value / most}%` }));
    line.append(make("span", name.replace("_", " ")), track, make("span", show(value)));
    $(id).append(line);
  }
}

function seams() {
  const table = $("seams"), scores = all.scenes[state.scene].seam;
  table.replaceChildren(row(["between", "score"], "th"));
  const words = { tile: "tiles", chunk: "chunks", tier: "tiles of different tiers", same_tier: "tiles of one tier" };
  for (const [key, value] of Object.entries(scores)) table.append(row([words[key] || key, known(value) ? value.toFixed(2) : "–"]));
}

function crops() {
  $("crops").replaceChildren();
  for (const crop of data.maps[state.scene].crops) {
    const figure = make("div", null, { class: "crop" }), pictures = make("div");
    for (const source of [crop.scene, crop.pictures.labels, crop.pictures.confidence])
      if (source) pictures.append(make("img", null, { src: source, alt: "" }));
    figure.append(pictures, make("p", `${percent(crop.confidence)} at row ${crop.row}, column ${crop.col}`));
    figure.onclick = () => { look(crop.col + 128, crop.row + 128, 1); $("view").scrollIntoView({ block: "center" }); };
    $("crops").append(figure);
  }
  if (!data.maps[state.scene].crops.length) $("crops").append(make("p", "no confidence layer", { class: "note" }));
}

function ramp(share) {
  const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const at = Math.min(share, 0.9999) * 4, i = Math.floor(at);
  return rgb(stops[i].map((low, k) => Math.round(low + (stops[i + 1][k] - low) * (at - i))));
}

function chunkMap() {
  const old = $("stage").querySelector("svg");
  if (old) old.remove();
  const what = $("colour").value, map = data.maps[state.scene], chunks = data.chunks[state.scene];
  $("scale").hidden = !what;
  if (!what) return;
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${map.width} ${map.height}`);
  const values = chunks.map((one) => one[what]).filter(known), low = Math.min(...values), high = Math.max(...values);
  const format = { cost: usd, confidence: percent, attempts: (value) => digits(value, 3) }[what];
  $("scale").replaceChildren(`${what} per chunk: ${values.length ? format(low) : "–"}`, make("i", null, { class: "ramp" }), values.length ? format(high) : "–");
  for (const chunk of chunks) {
    const rect = document.createElementNS(space, "rect"), value = chunk[what];
    const left = chunk.col * data.chunk_px, top = chunk.row * data.chunk_px;
    const facts = { x: left, y: top, width: Math.min(data.chunk_px, map.width - left), height: Math.min(data.chunk_px, map.height - top) };
    for (const [key, number] of Object.entries(facts)) rect.setAttribute(key, number);
    rect.setAttribute("fill", known(value) ? ramp(high > low ? (value - low) / (high - low) : 0.5) : "#94a3b8");
    rect.setAttribute("fill-opacity", "0.75");
    rect.onpointermove = (event) => tip(event, `chunk ${chunk.row}_${chunk.col}, ${chunk.kind}\ncost ${usd(chunk.cost)}\nconfidence ${percent(chunk.confidence)}\nattempts ${chunk.attempts}`);
    rect.onpointerleave = () => { $("tip").hidden = true; };
    svg.append(rect);
  }
  $("stage").append(svg);
}

function tip(event, text) {
  const box = $("view").getBoundingClientRect();
  $("tip").textContent = text;
  $("tip").hidden = false;
  $("tip").style.left = `${Math.min(event.clientX - box.left + 14, box.width - 190)}px`;
  $("tip").style.top = `${Math.min(event.clientY - box.top + 14, box.height - 90)}px`;
}

function place() {
  $("stage").style.transform = `translate(${state.x}px,${state.y}px) scale(${state.scale})`;
}

function fit() {
  const map = data.maps[state.scene], view = $("view").getBoundingClientRect();
  state.scale = Math.min(view.width / map.width, view.height / map.height);
  state.x = (view.width - map.width * state.scale) / 2;
  state.y = (view.height - map.height * state.scale) / 2;
  place();
}

function look(col, row_, scale) {
  const view = $("view").getBoundingClientRect();
  Object.assign(state, { scale, x: view.width / 2 - col * scale, y: view.height / 2 - row_ * scale });
  place();
}

function layers() {
  const map = data.maps[state.scene];
  $("layers").replaceChildren();
  for (const name of [...Object.keys(map.layers), "none"]) {
    const button = make("button", name, { "data-layer": name, class: name === state.layer ? "on" : "" });
    button.onclick = () => { state.layer = name; layers(); legend(); };
    $("layers").append(button);
  }
  $("stage").querySelectorAll("img.layer").forEach((image) => { image.hidden = image.dataset.layer !== state.layer; });
}

function show(scene) {
  state.scene = scene;
  const map = data.maps[scene], stage = $("stage");
  if (state.layer !== "none" && !(state.layer in map.layers)) state.layer = "labels";
  stage.replaceChildren();
  Object.assign(stage.style, { width: `${map.width}px`, height: `${map.height}px` });
  if (map.scene) stage.append(make("img", null, { src: map.scene, class: "scene", alt: "scene" }));
  for (const [name, source] of Object.entries(map.layers)) {
    const image = make("img", null, { src: source, class: "layer", "data-layer": name, alt: name });
    image.style.opacity = $("opacity").value / 100;
    stage.append(image);
  }
  const size = `${map.width.toLocaleString("en")} × ${map.height.toLocaleString("en")} px`;
  $("mapnote").textContent = `${scene}, ${size}. Drag to move, wheel to zoom.` + (map.scene ? "" : ` The scene itself is not shown: ${map.scene_note}.`);
  const figures = all.scenes[scene], warnings = [map.map_area_note, figures.area_note && `area unknown: ${figures.area_note}`, figures.layout_note, figures.nodata_note, figures.labels_note, data.scores_note].filter(Boolean);
  $("warnings").textContent = warnings.join(" · ");
  $("warnings").hidden = !warnings.length;
  layers(); legend(); confusion(); seams(); crops(); chunkMap(); fit();
}

function scenes() {
  if (names.length < 2) { $("scenescard").remove(); $("scene").hidden = true; return; }
  $("scenes").append(row(["scene", "km²", "mIoU", "confidence", "cost", "chunks", "missing"], "th"));
  for (const name of names) {
    const one = all.scenes[name], chunks = one.chunks;
    $("scenes").append(row([name, digits(one.area_km2, 4), known(one.miou) ? one.miou.toFixed(3) : "–", percent(one.mean_confidence),
      usd(one.cost_usd), chunks.done + chunks.empty, chunks.failed + chunks.not_run]));
    if (name in data.maps) $("scene").append(make("option", name, { value: name }));
  }
}

function givenUp() {
  const tasks = Object.entries(all.quarantined);
  if (!tasks.length) { $("givenupcard").remove(); return; }
  for (const [task, story] of tasks.slice(0, 50)) $("givenup").append(row([task, story[story.length - 1]]));
  if (tasks.length > 50) $("givenup").append(row([`and ${tasks.length - 50} more`, "metrics.json has them all"]));
}

const view = $("view");
let grip = null;
view.onpointerdown = (event) => { grip = [event.clientX - state.x, event.clientY - state.y]; view.setPointerCapture(event.pointerId); };
view.onpointermove = (event) => { if (grip) { state.x = event.clientX - grip[0]; state.y = event.clientY - grip[1]; place(); } };
view.onpointerup = view.onpointercancel = () => { grip = null; };
view.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = view.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const factor = Math.exp(-event.deltaY / 400), scale = Math.min(Math.max(state.scale * factor, 0.002), 40);
  state.x = x - (x - state.x) * scale / state.scale;
  state.y = y - (y - state.y) * scale / state.scale;
  state.scale = scale;
  place();
}, { passive: false });
$("opacity").oninput = () => document.querySelectorAll("#stage img.layer").forEach((image) => { image.style.opacity = $("opacity").value / 100; });
$("colour").onchange = chunkMap;
$("fit").onclick = fit;
$("scene").onchange = () => show($("scene").value);

head();
scenes();
givenUp();
bars("cost", all.cost, usd);
bars("seconds", data.seconds, seconds);
show(state.scene);
