// The page: a picture in, the table out.

import { Boxes } from './boxes.js';
import { Camera } from './camera.js';
import { Downloads, readJson } from './download.js';
import { draw, drawSeen } from './draw.js';
import { Engine } from './engine.js';
import { keepOffline } from './offline.js';
import { DECODING } from './pixels.js';
import { listen, showExamples } from './sources.js';
import { ROUNDS, Stopwatch } from './stopwatch.js';
import { Table } from './table.js';

const MOST_PIXELS = 64e6;
const WARM_UP = 2000; // milliseconds of rounds that are not counted: browsers compile what runs often a second time
const PATIENCE = 10000; // milliseconds that a still picture is timed for
const FEWEST_ROUNDS = 5; // before a time is shown
const PAUSE = 3000; // milliseconds between two announcements of what the camera shows
const CAMERA_LEAST = 40; // pixels: side of the smallest face that is looked for in what the camera shows; it spares the largest look
const RUNTIMES = { wasm: 'WebAssembly', webgpu: 'WebGPU' };

const part = (id) => document.getElementById(id);
const boxes = new Boxes(part('boxes'), part('faces'), showFace);
const camera = new Camera(part('video'));
const downloads = new Downloads((state) => isLoading && showProgress(state));
const announced = { text: '', at: 0 };
let isLoading = false;
let described; // {site, model}
let running; // what is there for one backend: {backend, engine, isLean, binary, table, watch, baseline, conditions, warm, isComplete,
// detector: '' (none), 'coming', 'there'; seen: what the last picture gave}
let picture; // the last one, as a Blob
let turn = 0; // of pictures: a later one ends what an earlier one still does
let loads = 0; // of backends, likewise

// again: what to do when somebody asks to try again
function fail(error, again) {
  part('error-text').textContent = error.message;
  part('error').hidden = false;
  part('again').hidden = !again;
  part('again').onclick = again;
}

function forgive() {
  part('error').hidden = true;
}

// Tell those who do not see the page.
function announce(text, { live = false } = {}) {
  const now = performance.now();
  if (live && (text === announced.text || now - announced.at < PAUSE)) return;
  Object.assign(announced, { text, at: now });
  part('announcement').textContent = text;
}

function tell(state) {
  isLoading = false;
  part('bar').hidden = true;
  part('state').textContent = state;
}

function showProgress({ received, total }) {
  const [come, all] = [received, total].map((bytes) => (bytes / 1e6).toFixed(1));
  Object.assign(part('bar'), { max: total, value: received, hidden: false });
  part('bar').setAttribute('aria-valuetext', `${come} of ${all} megabytes`);
  part('state').textContent = `Loading the networks: ${come} of ${all} MB`;
}

async function describe() {
  if (described) return described;
  const [site, model] = await Promise.all([readJson('site.json'), readJson('model.json')]);
  showExamples(part('examples'), site.examples, showPicture);
  part('unsure').value = model.unsure_below ?? 0;
  part('looking').hidden = !site.faces?.detector;
  part('no-detector').hidden = !site.faces || Boolean(site.faces.detector);
  showThreshold();
  return (described = { site, model });
}

// Load the runtime for a backend and the networks, and run the last picture: as soon as one network is there, and with all.
async function start(backend, { whole = false } = {}) {
  stopCamera();
  turn += 1;
  const mine = ++loads;
  running?.engine.close();
  running = undefined;
  document.body.classList.remove('ready', 'busy', 'finding');
  part('conditions').textContent = ''; // of another backend
  enableCamera();
  forgive();
  tell('Loading the networks …');
  announce('Loading the networks.');
  isLoading = true;
  const engine = new Engine(backend);
  downloads.restart();
  const failures = [];
  try {
    const { site, model } = await describe();
    const queue = [...site.networks].sort((a, b) => (b.name === site.main) - (a.name === site.main));
    const { lean, ...all } = site.runtime[backend];
    const isLean = Boolean(lean) && !whole && !self.crossOriginIsolated; // threads call more than the lean one has
    const [binary, first] = await downloads.take([isLean ? lean : all, queue[0]]);
    const { threads } = await engine.load(model, binary);
    const conditions = RUNTIMES[backend] + (backend === 'wasm' ? `, ${threads} thread${threads > 1 ? 's' : ''}` : '');
    let there = site.networks;
    for (const network of queue) {
      const data = network === queue[0] ? first : (await downloads.take([network]))[0];
      const failure = await engine.add(network, data).then(
        () => '',
        (error) => error.message,
      );
      if (mine !== loads) return engine.close();
      if (failure && isLean) {
        engine.close();
        return start(backend, { whole: true }); // which has what the lean one may lack
      } else if (failure) {
        failures.push(failure);
        there = there.filter((other) => other !== network);
      } else if (!running) {
        running = { backend, engine, isLean, binary: (isLean ? lean : all).file, conditions, watch: new Stopwatch(), warm: 0, isComplete: false, main: network.name, detector: site.faces?.detector ? 'coming' : '' };
        showTable(there);
        enableCamera();
        if (picture) showPicture(picture);
        else announce('Ready: choose a picture.');
      }
    }
    if (!running) throw new Error(failures.join(' '));
    await complete(there, failures);
  } catch (error) {
    if (running?.engine !== engine) engine.close();
    if (mine !== loads) return;
    tell('Not everything is loaded.');
    fail(error, () => start(backend));
  }
}

// Of a picture: what the lean binary lacks, the whole one has.
function failOn(error) {
  if (error.isTrap && running?.isLean) start(running.backend, { whole: true });
  else fail(error);
}

// networks: those that run here, or are to come
function showTable(networks) {
  running.table = new Table(part('table'), described.model.labels, networks, running.main);
  running.baseline = networks[0].name;
  part('main').textContent = running.main;
  part('more').hidden = !running.table.hasMore;
}

// All networks that run are there.
async function complete(networks, failures) {
  if (failures.length) showTable(networks);
  running.isComplete = true;
  document.body.classList.add('ready');
  if (picture && described.site.networks.length > 1 && !camera.isOn) showPicture(picture);
  if (failures.length) fail(new Error(failures.join(' ')));
  tell('Ready.');
  const there = running;
  await addDetector();
  if (there !== running) return;
  const kept = await keepOffline(described.site.version);
  if (!kept) return;
  await fetch(running.binary); // through the service worker, which keeps what is seldom needed once somebody needs it
  document.body.classList.add('offline');
  tell('Ready. From now on, this page works offline, too.');
}

// What finds faces comes when everything else is there. The last picture is then looked at again.
async function addDetector() {
  const there = running;
  const { detector } = described.site.faces ?? {};
  if (!detector) return;
  try {
    const [data] = await downloads.take([detector]);
    if (there !== running) return;
    await there.engine.addDetector(detector, data);
    if (there !== running) return;
    there.detector = 'there';
    document.body.classList.add('finding');
    if (picture && isFinding() && !camera.isOn) showPicture(picture);
  } catch (error) {
    if (there !== running) return;
    if (error.isTrap && there.isLean) return start(there.backend, { whole: true });
    there.detector = '';
    fail(new Error(`Faces cannot be found: ${error.message}`), () => {
      forgive();
      there.detector = 'coming';
      addDetector();
    });
    showLooked();
  }
}

const isFinding = () => !part('looking').hidden && part('find').checked;

function enableCamera() {
  part('camera').disabled = !running || !Camera.isPossible();
  part('no-camera').hidden = Camera.isPossible();
}

// Take the answer away.
function clear(words = 'No answer') {
  document.body.classList.add('answered');
  running.best = undefined;
  running.seen = undefined;
  boxes.show([], [1, 1]);
  showLooked();
  part('headline').textContent = words;
  part('headline').parentElement.classList.remove('unsure');
  part('seen-figure').hidden = true;
  running.table.clear();
}

// The headline and the boxes; true where the answer is unsure.
function showAnswer() {
  const { label, share, probability } = running.best;
  const unsure = probability < threshold();
  part('headline').textContent = unsure ? `Unsure: perhaps ${label} ${share}` : `${label} ${share}`;
  part('headline').parentElement.classList.toggle('unsure', unsure);
  boxes.tell(running.seen.answers.filter(({ face }) => face).map(({ probabilities }) => told(running.table.best(probabilities))));
  return unsure;
}

// What is said of a face beside others.
function told({ label, share, probability }) {
  const unsure = probability < threshold();
  const words = (text) => (unsure ? `unsure: ${text}` : text);
  return { words: words(`${label} ${(100 * probability).toFixed(0)} %`), full: words(`${label} ${share}`), label, unsure };
}

// One of the faces that were found, or the whole picture: what the network sees of it, the table and the headline.
function showFace(number) {
  if (!running?.seen) return undefined;
  const answer = running.seen.answers[number];
  drawSeen(part('seen'), answer.picture);
  part('seen-figure').hidden = false;
  running.best = running.table.update(answer.probabilities);
  showLooked();
  return showAnswer();
}

// What the answer is of.
function showLooked() {
  const { seen, detector } = running;
  const count = seen?.answers.filter(({ face }) => face).length ?? 0;
  const isWhole = seen?.answers.length && !count;
  part('which').textContent = count > 1 ? ` of face ${boxes.chosen + 1} of ${count}` : '';
  part('looked').textContent = !isWhole || !isFinding() ? ''
    : seen.finding !== undefined ? 'No face was found: this is of the whole picture.'
    : detector === 'coming' ? 'Of the whole picture, until what finds faces is loaded.'
    : 'Of the whole picture.';
}

const threshold = () => Number(part('unsure').value);

function showThreshold() {
  part('unsure-value').textContent = `${(100 * threshold()).toFixed(0)} %`;
  if (running?.seen && running.best) showAnswer();
}

async function classify(bitmap, { live, mine }) {
  const size = [bitmap.width, bitmap.height];
  const faces = live ? { least: CAMERA_LEAST, orWhole: false } : { least: 0, orWhole: true };
  let seen;
  try {
    seen = await running.engine.frame(bitmap, isFinding() ? faces : undefined);
  } catch (error) {
    if (mine === turn) clear(); // what is there is of another picture
    throw error;
  }
  if (mine !== turn) return;
  running.seen = seen;
  boxes.show(seen.answers.flatMap(({ face }) => (face ? [face.box] : [])), size, { live });
  if (!seen.answers.length) {
    clear('No face found');
    return announce('No face found', { live });
  }
  const unsure = showFace(seen.answers.length > 1 ? boxes.chosen : 0);
  document.body.classList.add('answered');
  announce(spoken(seen.answers, unsure, live), { live });
}

// For those who do not see the page; of what the camera shows, only what does not change with every frame.
function spoken(answers, unsure, live) {
  const { label, share } = running.best;
  if (answers.length === 1) return `${unsure ? `unsure, perhaps ${label}` : label}${live ? '' : `, ${share}`}`;
  const words = answers.map(({ probabilities }) => told(running.table.best(probabilities)));
  return `${answers.length} faces: ${words.map(({ label: one, unsure: is }) => (is ? `unsure, perhaps ${one}` : one)).join('; ')}`;
}

// Time all networks, once they are there, on what was classified last.
async function timeOnce() {
  if (!running.isComplete || !running.seen) return;
  const { engine, table, watch, baseline, conditions, seen } = running;
  const start = performance.now();
  const { times } = await engine.round();
  running.warm += performance.now() - start;
  if (running.warm < WARM_UP) return;
  watch.add(times);
  if (watch.count < FEWEST_ROUNDS) return;
  table.time(watch.times(), watch.speeds(baseline));
  part('conditions').textContent =
    `Times are of one run: medians of the last ${watch.count} rounds in this browser, after a warm-up (${conditions}). ` +
    `Preparing the picture took ${seen.preparing.toFixed(1)} ms more` +
    (seen.finding === undefined ? '.' : `, finding faces ${seen.finding.toFixed(0)} ms.`);
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
  if (part('again').hidden) forgive(); // what can be tried again stays to be seen
  try {
    const bitmap = await decode(blob);
    if (mine !== turn) return;
    picture = blob;
    show(bitmap, bitmap.width, bitmap.height);
    boxes.show([], [1, 1]);
    if (!running) {
      document.body.classList.remove('answered');
      part('headline').parentElement.classList.remove('unsure');
      part('headline').textContent = 'The answer follows when a network is there.';
      return bitmap.close();
    }
    document.body.classList.add('busy');
    await classify(bitmap, { live: false, mine });
    if (!running.isComplete) return;
    const [end, enough] = [performance.now() + PATIENCE, running.watch.total + ROUNDS];
    while (mine === turn && performance.now() < end && running.watch.total < enough) await timeOnce();
  } catch (error) {
    if (mine === turn) failOn(error);
  } finally {
    if (mine === turn) document.body.classList.remove('busy');
  }
}

function show(source, width, height) {
  draw(part('preview'), source, width, height);
  setShape(width, height);
  document.body.classList.add('shown');
}

// The frame has the shape of what is in it, so that boxes lie where they belong.
function setShape(width, height) {
  part('frame').style.setProperty('--ratio', width / height);
}

async function startCamera() {
  const mine = ++turn;
  if (part('again').hidden) forgive();
  try {
    await camera.start(stopCamera);
    if (mine !== turn) return camera.stop();
    boxes.show([], [1, 1]);
    document.body.classList.add('shown', 'filming');
    part('camera').textContent = 'Stop the camera';
    while (camera.isOn && mine === turn) {
      const bitmap = await camera.next();
      if (!bitmap) continue;
      setShape(bitmap.width, bitmap.height);
      await classify(bitmap, { live: true, mine });
      await timeOnce();
    }
  } catch (error) {
    if (mine === turn) failOn(error);
    stopCamera();
  }
}

function stopCamera() {
  if (!camera.isOn) return;
  const { videoWidth, videoHeight } = part('video');
  if (videoWidth) show(part('video'), videoWidth, videoHeight);
  camera.stop();
  document.body.classList.remove('filming');
  part('camera').textContent = 'Use the camera';
}

// WebGPU needs an adapter, and a browser in which WebAssembly can wait for it.
async function hasWebGPU() {
  if (!described?.site.runtime.webgpu || !navigator.gpu || !('Suspending' in WebAssembly)) return false;
  return Boolean(await navigator.gpu.requestAdapter().catch(() => null));
}

async function open() {
  part('unsure').addEventListener('input', showThreshold);
  listen(showPicture);
  part('file').disabled = false;
  part('camera').addEventListener('click', () => (camera.isOn ? stopCamera() : startCamera()));
  part('more').addEventListener('click', ({ target }) => {
    running.table.all = !running.table.all;
    target.textContent = running.table.all ? 'Show the likeliest labels' : 'Show every label';
  });
  part('looking').addEventListener('change', () => {
    if (running && picture && !camera.isOn) showPicture(picture);
  });
  part('backends').addEventListener('change', ({ target }) => start(target.value));
  await start('wasm');
  part('backends').hidden = !(await hasWebGPU());
}

document.getElementById('unserved').remove();
open();
