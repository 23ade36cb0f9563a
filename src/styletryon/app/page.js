"use strict";

// What the server calls this tab, and lets its choices and its try-on belong to.
const visit = [...crypto.getRandomValues(new Uint8Array(24))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const find = (id) => document.getElementById(id);
const chosen = { person: 0, garment: 1 };
let room = null;
let running = null;

// ------------------------------------------------------------------------------------------------ asking the server
async function ask(method, path, body, options = {}) {
  const headers = { "X-Visit": visit };
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const answer = await fetch(path, { method, headers, body, ...options });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.message || "Something went wrong here; please try again.");
  }
  return answer;
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const parts = (rest + (value || "")).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
    if (done) return;
  }
}

function told(handler) {
  return async (...given) => {
    find("trouble").hidden = true;
    try {
      await handler(...given);
    } catch (error) {
      if (error.name === "AbortError") return;
      find("trouble").textContent = error.message;
      find("trouble").hidden = false;
      find("trouble").scrollIntoView({ block: "nearest" });
    }
  };
}

// ------------------------------------------------------------------------------------------------------- what is seen
function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

function show(view) {
  find("before").src = view.before;
  find("after").src = view.after;
  for (const id of ["before", "after", "line"]) find(id).hidden = false;
  find("status").textContent = view.status;
  find("legend").replaceChildren(...view.legend.map(([name, colour]) => {
    const swatch = element("i");
    swatch.style.background = `rgb(${colour})`;
    return element("span", {}, swatch, name);
  }));
  find("parts").replaceChildren(...view.parts.flatMap(({ title, note, pictures }) => [
    element("h3", {}, title),
    note ? element("p", {}, note) : element("div", {}, ...pictures.map(([name, src]) =>
      element("figure", {}, element("img", { src, alt: `${title}: ${name}` }), element("figcaption", {}, name)))),
  ]));
  find("bars").replaceChildren(...view.bars.flatMap(([title, value]) => [
    element("span", {}, title),
    element("meter", { min: 0, max: 1, value, title }),
    element("span", {}, value.toFixed(2)),
  ]));
  for (const id of ["download-picture", "download-report", "poses-again", "reset"]) find(id).disabled = false;
}

function choose(role, choice, source) {
  chosen[role] = choice;
  const picture = find(`${role}-picture`).querySelector("img");
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  picture.src = source;
  // Of the wardrobe it is known.
  if (role === "garment") find("worn").hidden = typeof choice === "number";
  for (const [index, button] of [...find(`${role}-wardrobe`).children].entries()) {
    button.setAttribute("aria-pressed", String(index === choice));
  }
}

const scales = () => [...find("scales").querySelectorAll("input")].map((input) => Number(input.value));
const look = () => document.querySelector("#look input:checked").value;

function setScales(value) {
  for (const input of find("scales").querySelectorAll("input")) {
    input.value = value;
    input.previousElementSibling.textContent = value.toFixed(2);
  }
}

// ------------------------------------------------------------------------------------------------------ what is done
const upload = (role) => told(async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  const answer = await ask("PUT", `pictures/${role}`, file);
  choose(role, answer.headers.get("X-Key"), URL.createObjectURL(await answer.blob()));
});

const tryOn = told(async () => {
  running = new AbortController();
  const [bar, text] = find("progress").children;
  bar.value = 0;
  text.textContent = "Waiting";
  find("try-on").disabled = true;
  find("stop").hidden = find("progress").hidden = false;
  try {
    const asked = {
      ...chosen,
      region: document.querySelector("#region input:checked").value,
      preset: document.querySelector("#preset input:checked").value,
      keep: find("keep").querySelector("input").checked,
      worn: JSON.parse(document.querySelector("#worn input:checked").value),
      look: look(),
    };
    const answer = await ask("POST", "try-on", asked, { signal: running.signal });
    for await (const news of lines(answer)) {
      if (news.message) throw new Error(news.message);
      if (news.view) {
        setScales(1);
        show(news.view);
      } else {
        bar.value = news.share;
        text.textContent = news.text;
      }
    }
  } finally {
    running = null;
    find("try-on").disabled = false;
    find("stop").hidden = find("progress").hidden = true;
  }
  await drawPoses();
});

// While one change is drawn, only the newest of those that follow is kept.
let drawing = false;
let newer = false;
const redraw = told(async () => {
  newer = true;
  if (drawing) return;
  drawing = true;
  try {
    while (newer) {
      newer = false;
      const answer = await ask("POST", "redraw", { scales: scales(), look: look() });
      const view = await answer.json();
      if (!running) show(view);
    }
  } finally {
    drawing = false;
  }
});

async function drawPoses() {
  const answer = await ask("POST", "poses");
  const { pictures } = await answer.json();
  find("poses").replaceChildren(...pictures.map((src) => element("img", { src, alt: "The outfit in another pose" })));
}

const download = (path, name) => told(async () => {
  const answer = await ask("GET", path);
  const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});

// -------------------------------------------------------------------------------------------------------- the page
function radios(id, choices, first) {
  find(id).append(...choices.map(([value, title]) =>
    element("label", {}, element("input", { type: "radio", name: id, value, checked: value === first }), ` ${title}`)));
}

const open = told(async () => {
  room = await (await ask("GET", "room")).json();
  radios("region", room.regions, "top");
  radios("preset", room.presets, "balanced");
  radios("look", room.looks, "photograph");
  radios("worn", [["null", "Find out"], ["true", "Who wears it"], ["false", "The garment alone"]], "null");
  for (const role of ["person", "garment"]) {
    find(`${role}-wardrobe`).append(...Array.from({ length: room.people }, (_, index) => {
      const picture = element("img", { src: `people/${index}/small`, alt: `Rendered person ${index + 1}` });
      const button = element("button", { type: "button" }, picture);
      button.addEventListener("click", () => choose(role, index, `people/${index}`));
      return button;
    }));
    choose(role, chosen[role], `people/${chosen[role]}`);
    find(`${role}-upload`).querySelector("input").addEventListener("change", upload(role));
  }
  find("scales").append(...room.groups.map(([id, title]) => {
    const input = element("input", { id: `scale-${id}`, type: "range", min: 0, max: 2, step: 0.05, value: 1 });
    const label = element("label", {}, title, element("output", {}, "1.00"), input);
    input.addEventListener("input", () => {
      input.previousElementSibling.textContent = Number(input.value).toFixed(2);
      if (!find("reset").disabled) redraw();
    });
    return label;
  }));
  find("try-on").addEventListener("click", tryOn);
  find("stop").addEventListener("click", () => running && running.abort());
  find("line").addEventListener("input", (event) => find("after").style.setProperty("--at", `${event.target.value}%`));
  find("look").addEventListener("change", () => { if (!find("reset").disabled) redraw(); });
  find("reset").addEventListener("click", () => { setScales(1); redraw(); });
  find("poses-again").addEventListener("click", told(drawPoses));
  find("download-picture").addEventListener("click", download("result.png", "tryon.png"));
  find("download-report").addEventListener("click", download("report.json", "report.json"));
  addEventListener("pagehide", () => navigator.sendBeacon("leave", visit));
});

open();
