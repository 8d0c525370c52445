// The page: a picture in, the table out.

import { Camera } from './camera.js';
import { draw, drawSeen } from './draw.js';
import { Engine } from './engine.js';
import { DECODING } from './pixels.js';
import { listen, showExamples } from './sources.js';
import { ROUNDS, Stopwatch } from './stopwatch.js';
import { Table } from './table.js';

const MOST_PIXELS = 64e6;
const WARM_UP = 2000; // milliseconds of rounds that are not counted: browsers compile what runs often a second time
const PATIENCE = 10000; // milliseconds that a still picture is timed for
const FEWEST_ROUNDS = 5; // before a time is shown
const PAUSE = 3000; // milliseconds between two announcements of what the camera shows
const RUNTIMES = { wasm: 'WebAssembly', webgpu: 'WebGPU' };

const part = (id) => document.getElementById(id);
const camera = new Camera(part('video'));
const announced = { text: '', at: 0 };
let site;
let model;
let running; // what is there for one backend: {engine, table, watch, baseline, conditions, warm}
let picture; // the last one, as a Blob
let turn = 0; // of pictures: a later one ends what an earlier one still does
let loads = 0; // of backends, likewise

function fail(error) {
  part('error').textContent = error.message;
  part('error').hidden = false;
  progress('');
}

function progress(text) {
  part('progress').textContent = text;
  part('progress').hidden = !text;
}

// Tell those who do not see the page.
function announce(text, { live = false } = {}) {
  const now = performance.now();
  if (live && (text === announced.text || now - announced.at < PAUSE)) return;
  Object.assign(announced, { text, at: now });
  part('announcement').textContent = text;
}

async function readJson(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is not there (${response.status}): build the site again.`);
  return response.json();
}

// Load the networks for a backend, and run the last picture on them.
async function start(backend) {
  stopCamera();
  turn += 1;
  const mine = ++loads;
  running?.engine.close();
  running = undefined;
  enable(false);
  part('error').hidden = true;
  progress('Loading the runtime …');
  const engine = new Engine(progress);
  try {
    const { networks, failures, threads } = await engine.load(site, model, backend);
    if (mine !== loads) return engine.close();
    const there = site.networks.filter(({ name }) => networks.includes(name));
    const main = networks.includes(site.main) ? site.main : networks[0];
    const table = new Table(part('table'), model.labels, there, main);
    const conditions = RUNTIMES[backend] + (backend === 'wasm' ? `, ${threads} thread${threads > 1 ? 's' : ''}` : '');
    running = { engine, table, watch: new Stopwatch(), baseline: there[0].name, conditions, warm: 0 };
    part('main').textContent = main;
    part('more').hidden = !table.hasMore;
    progress('');
    if (failures.length) fail(new Error(failures.join(' ')));
    enable(true);
    announce('Ready: choose a picture.');
    if (picture) showPicture(picture);
  } catch (error) {
    if (mine === loads) fail(error);
  }
}

function enable(ready) {
  document.body.classList.toggle('ready', ready);
  for (const control of document.querySelectorAll('.sources button, .sources input')) control.disabled = !ready;
  part('camera').disabled ||= !Camera.isPossible();
  part('no-camera').hidden = Camera.isPossible();
}

function clear() {
  running.best = undefined;
  part('headline').textContent = 'No answer';
  part('headline').parentElement.classList.remove('unsure');
  part('seen-figure').hidden = true;
  running.table.clear();
}

// The headline; true where the answer is unsure.
function showAnswer() {
  const { label, share, probability } = running.best;
  const unsure = probability < threshold();
  part('headline').textContent = unsure ? `Unsure: perhaps ${label} ${share}` : `${label} ${share}`;
  part('headline').parentElement.classList.toggle('unsure', unsure);
  return unsure;
}

const threshold = () => Number(part('unsure').value);

function showThreshold() {
  part('unsure-value').textContent = `${(100 * threshold()).toFixed(0)} %`;
  if (running?.best) showAnswer();
}

async function classify(bitmap, { live, mine }) {
  let seen;
  try {
    seen = await running.engine.frame(bitmap);
  } catch (error) {
    if (mine === turn) clear(); // what is there is of another picture
    throw error;
  }
  if (mine !== turn) return;
  drawSeen(part('seen'), seen.picture);
  part('seen-figure').hidden = false;
  running.best = running.table.update(seen.probabilities);
  const { label, share } = running.best;
  const words = showAnswer() ? `unsure, perhaps ${label}` : label;
  announce(live ? words : `${words}, ${share}`, { live });
  running.preparing = seen.preparing;
}

async function timeOnce() {
  const { engine, table, watch, baseline, conditions, preparing } = running;
  const start = performance.now();
  const { times } = await engine.round();
  running.warm += performance.now() - start;
  if (running.warm < WARM_UP) return;
  watch.add(times);
  if (watch.count < FEWEST_ROUNDS) return;
  table.time(watch.times(), watch.speeds(baseline));
  part('conditions').textContent =
    `Times are of one run: medians of the last ${watch.count} rounds in this browser, after a warm-up (${conditions}). ` +
    `Preparing the picture took ${preparing.toFixed(1)} ms more.`;
}

async function decode(blob) {
  const bitmap = await createImageBitmap(blob, DECODING).catch(() => {
    throw new Error(`${blob.name || 'What was given'} is no picture that this browser can read.`);
  });
  const { width, height } = bitmap;
  if (width * height <= MOST_PIXELS) return bitmap;
  bitmap.close();
  throw new Error(`The picture has ${width} × ${height} pixels: at most ${MOST_PIXELS / 1e6} million can be read.`);
}

async function showPicture(blob) {
  stopCamera();
  const mine = ++turn;
  part('error').hidden = true;
  try {
    const bitmap = await decode(blob);
    if (mine !== turn) return;
    picture = blob;
    if (!running) return;
    draw(part('preview'), bitmap, bitmap.width, bitmap.height);
    document.body.classList.add('shown', 'busy');
    await classify(bitmap, { live: false, mine });
    const [end, enough] = [performance.now() + PATIENCE, running.watch.total + ROUNDS];
    while (mine === turn && performance.now() < end && running.watch.total < enough) await timeOnce();
  } catch (error) {
    if (mine === turn) fail(error);
  } finally {
    if (mine === turn) document.body.classList.remove('busy');
  }
}

async function startCamera() {
  const mine = ++turn;
  part('error').hidden = true;
  try {
    await camera.start(stopCamera);
    if (mine !== turn) return camera.stop();
    document.body.classList.add('shown', 'filming');
    part('camera').textContent = 'Stop the camera';
    while (camera.isOn && mine === turn) {
      const bitmap = await camera.next();
      if (!bitmap) continue;
      await classify(bitmap, { live: true, mine });
      await timeOnce();
    }
  } catch (error) {
    if (mine === turn) fail(error);
    stopCamera();
  }
}

function stopCamera() {
  if (!camera.isOn) return;
  const { videoWidth, videoHeight } = part('video');
  if (videoWidth) draw(part('preview'), part('video'), videoWidth, videoHeight);
  camera.stop();
  document.body.classList.remove('filming');
  part('camera').textContent = 'Use the camera';
}

// WebGPU needs an adapter, and a browser in which WebAssembly can wait for it.
async function hasWebGPU() {
  if (!site.webgpu || !navigator.gpu || !('Suspending' in WebAssembly)) return false;
  return Boolean(await navigator.gpu.requestAdapter().catch(() => null));
}

async function open() {
  enable(false);
  try {
    [site, model] = await Promise.all([readJson('site.json'), readJson('model.json')]);
  } catch (error) {
    return fail(error);
  }
  part('unsure').value = model.unsure_below ?? 0;
  part('unsure').addEventListener('input', showThreshold);
  showThreshold();
  listen(showPicture);
  showExamples(part('examples'), site.examples, showPicture);
  part('camera').addEventListener('click', () => (camera.isOn ? stopCamera() : startCamera()));
  part('more').addEventListener('click', ({ target }) => {
    running.table.all = !running.table.all;
    target.textContent = running.table.all ? 'Show the likeliest labels' : 'Show every label';
  });
  part('backends').addEventListener('change', ({ target }) => start(target.value));
  await start('wasm');
  part('backends').hidden = !(await hasWebGPU());
}

document.getElementById('unserved').remove();
open();
