// Joins the parts of the page.

import { address, ask, change, setFeed } from "./api.js";
import { Call } from "./call.js";
import { Camera, SIZES } from "./camera.js";
import { Panel, nice } from "./panel.js";
import { Stage } from "./stage.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
const VIEWS = ["restyled", "split", "original", "classes", "matte"];
const PRESETS = "cbs-presets";

let recording = null;
let fading;

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("there");
  clearTimeout(fading);
  fading = setTimeout(() => $("toast").classList.remove("there"), 2600);
}

function note(text) {
  $("note").hidden = !text;
  if (text) $("note").textContent = text;
}

const failed = (error) => toast(error.message);

const stage = new Stage(async (frame, x, y) => {
  try {
    const { class: index, name } = await ask("pick", "POST", { frame, x, y });
    toast(nice(panel.picked(index, name, [x, y])));
  } catch (error) {
    failed(error);
  }
});

const panel = new Panel((part) => change(part, failed));

const stream = new Stream({
  onFrame(head, pictures) {
    stage.draw(head, pictures);
    if (camera.on) camera.shown(head.tag);
  },
  onState: showState,
  onOpen(own) {
    note("");
    call.stop();
    document.body.dataset.connected = "true";
    // A camera's feed is a new one each time: it goes on with the look that there was.
    restore = own && panel.look.compositor ? { ...panel.look, only: null } : null;
  },
  onLost(refused) {
    document.body.dataset.connected = "false";
    if (!refused) note("Connection lost. Trying again…");
  },
  onRefused: (why) => note(nice(why)),
  onPreparing: (what) => note(`${nice(what)}…`),
  onAnswer: (told) => (told.answer ? call.answered(told.answer) : call.unanswered(told.unanswered)),
});
const camera = new Camera(stream);
const call = new Call({
  say: (message) => stream.say(message),
  onPicture(picture) {
    if (stream.views.length === 1) stage.draw({ frame: 0 }, [picture]);
  },
  onOver: (why) => toast(`WebRTC is not to be had (${why}): pictures go by WebSocket`),
});
camera.quiet = () => call.on;
let restore = null;

let offered = null;

async function offer() {
  try {
    const [styles, classes] = await Promise.all([ask("styles"), ask("classes")]);
    panel.offer(styles, classes);
    await showDevices();
  } catch (error) {
    offered = null; // it is asked for again with the next state
    note(error.message);
  }
}

async function showState(told) {
  if (!panel.classes.length) await (offered ??= offer());
  if (!panel.classes.length) return;
  setFeed(told.feed);
  if (restore) {
    const look = restore;
    restore = null;
    change(look, failed);
    return;
  }
  panel.state(told);
  camera.size = told.look.size;
  if (camera.on && told.webrtc && Call.possible && !call.tried) call.start(camera.media, told.look.size);
  $("source").textContent = camera.on ? `My camera · ${call.on ? "WebRTC" : "WebSocket"}` : told.source;
  $("fps").textContent = told.fps ? told.fps.toFixed(told.fps < 10 ? 1 : 0) : "–";
  await showLatency(told);
  $("dropped").textContent = told.dropped;
  $("slow").textContent = told.slow ? `${told.slow} ${Math.round(told.stages[told.slow])} ms` : "–";
  const names = told.in_view.map((one) => one.name).join(", ");
  $("picture").setAttribute("aria-label", `Live picture: ${names || "no class found"}`);
  showRecording(told);
  if (told.error) note(told.error);
  else if (document.body.dataset.connected === "true") note("");
  $("export").href = address("preset.yaml");
}

// By WebRTC nothing tells when a frame is shown: it is the server's time and the way, at least.
async function showLatency(told) {
  const way = await call.roundTrip();
  const known = camera.on ? camera.latency : told.latency_p50;
  const least = way === null || told.age_p50 === null ? null : Math.round(told.age_p50 + way * 1000);
  const shown = call.on ? least : known;
  $("latency").textContent = shown === null ? "–" : `${call.on ? "≥ " : ""}${shown} ms`;
}

function showRecord(now) {
  recording = now;
  $("record").setAttribute("aria-pressed", String(Boolean(recording)));
  const seconds = Math.floor(recording?.seconds ?? 0);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  $("record-text").textContent = recording ? clock : "Record";
}

function showRecording(told) {
  showRecord(told.recording);
  const shown = told.recordings.map((one) => one.name).join();
  if ($("recordings").dataset.shown === shown) return;
  $("recordings").dataset.shown = shown;
  $("recordings").replaceChildren(...told.recordings.map((one) => {
    const item = document.createElement("li");
    const link = Object.assign(document.createElement("a"), {
      href: address(`recordings/${one.name}`), textContent: one.name, download: one.name,
    });
    item.append(one.error ? one.name : link, one.error ?? `${one.frames} frames${one.note && ` (${one.note})`}`);
    return item;
  }));
}

function view(name) {
  const input = document.querySelector(`input[name=view][value=${name}]`);
  input.checked = true;
  stage.split(name === "split");
  stream.show(name === "split" ? ["restyled", "original"] : [name]);
}

async function record() {
  const ends = Boolean(recording);
  try {
    const told = await ask("recording", ends ? "DELETE" : "POST");
    showRecord(ends ? null : { seconds: 0 }); // the next click may come before the next state
    toast(ends ? `${told.name}: ${told.frames} frames` : "Recording");
  } catch (error) {
    failed(error);
  }
}

function photo() {
  const link = document.createElement("a");
  link.href = address("photo.png");
  link.download = "";
  link.click();
  toast("Picture taken");
}

async function startCamera() {
  try {
    await camera.start();
    if (!stream.camera) stream.open(true);
    else await call.replace(camera.media);
  } catch (error) {
    toast(`No camera: ${error.message}`);
  }
}

async function toggleCamera() {
  if (camera.on) {
    camera.stop();
    call.stop();
    stream.open(false);
  } else await startCamera();
  panel.seen.clear();
  $("camera").setAttribute("aria-pressed", String(camera.on));
  await showDevices();
}

// Of the visitor, while that is what is seen; else of the server, where it has any to choose from.
async function showDevices() {
  let told = { devices: [], sizes: [] };
  try {
    if (camera.on) {
      const all = await camera.devices();
      const devices = all.map((one, at) => [one.label || `Camera ${at + 1}`, one.deviceId]);
      told = { devices, sizes: SIZES, device: camera.device ?? devices[0]?.[1], size: camera.asked };
    } else {
      told = await ask("source");
      told.devices = told.devices.map((name) => [name, name]);
    }
  } catch (error) {
    failed(error);
  }
  fill("device", told.devices, told.device);
  fill("asked", told.sizes.map((size) => [size.replace("x", " × "), size]), told.size);
}

function fill(id, options, chosen) {
  $(`${id}-row`).hidden = !options.length;
  $(id).replaceChildren(...options.map(([text, value]) => new Option(text, value)));
  if (options.some(([, value]) => value === chosen)) $(id).value = chosen;
}

async function chooseDevice(part) {
  if (camera.on) {
    Object.assign(camera, part.device ? part : { asked: part.size });
    await startCamera();
    return;
  }
  try {
    await ask("source", "PATCH", part);
  } catch (error) {
    failed(error);
  }
  await showDevices();
}

function presets() {
  try {
    return JSON.parse(localStorage.getItem(PRESETS) ?? "[]");
  } catch {
    return [];
  }
}

function keepPresets(list) {
  localStorage.setItem(PRESETS, JSON.stringify(list));
  showPresets();
}

function showPresets() {
  $("presets").replaceChildren(...presets().map(({ name, look }, at) => {
    const item = document.createElement("li");
    const use = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    const away = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
    away.setAttribute("aria-label", `Forget ${name}`);
    use.addEventListener("click", () => {
      const gone = Object.keys(panel.look.routes).filter((one) => !(one in look.routes));
      panel.set({ ...look, routes: { ...look.routes, ...Object.fromEntries(gone.map((one) => [one, null])) } });
      toast(name);
    });
    away.addEventListener("click", () => keepPresets(presets().filter((_, other) => other !== at)));
    item.append(use, away);
    return item;
  }));
}

function keepPreset() {
  const list = presets();
  const numbers = list.map((one) => Number(one.name.match(/^Look (\d+)$/)?.[1] ?? 0));
  const name = `Look ${Math.max(0, ...numbers) + 1}`;
  keepPresets([...list, { name, look: { ...panel.look, only: null } }]);
  toast(`${name} is kept in this browser`);
}

const KEYS = {
  "[": () => panel.stronger(-10),
  "]": () => panel.stronger(10),
  n: () => panel.step(1),
  s: () => panel.nextStyle(),
  p: photo,
  r: record,
  c: () => toggleCamera(),
  "?": () => $("help").showModal(),
  Escape: () => panel.choose(null),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.matches("select, input:not([type=range]):not([type=radio]):not([type=checkbox])")) return;
  const act = KEYS[event.key] ?? (VIEWS[event.key - 1] && (() => view(VIEWS[event.key - 1])));
  if (!act) return;
  event.preventDefault();
  act();
});

$("views").addEventListener("change", (event) => view(event.target.value));
$("record").addEventListener("click", record);
$("photo").addEventListener("click", photo);
$("camera").addEventListener("click", () => toggleCamera());
$("device").addEventListener("change", (event) => chooseDevice({ device: event.target.value }));
$("asked").addEventListener("change", (event) => chooseDevice({ size: event.target.value }));
$("keep-preset").addEventListener("click", keepPreset);
$("help-open").addEventListener("click", () => $("help").showModal());

showPresets();
view("restyled");
stream.open(false);
