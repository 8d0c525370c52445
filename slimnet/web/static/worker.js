// Runs the networks, away from the page so that it stays responsive. Its name says which backend.
// Asked one at a time: {type: 'load', model, binary}, {type: 'add', name, data} for each network, {type: 'addDetector', settings,
// data}, {type: 'frame', bitmap, faces}, and {type: 'round'}, which times what was classified last.
// Each is answered by {type: 'done', …} or {type: 'error', text, isTrap}.

import { readPixels } from './pixels.js';
import { prepare } from './preprocess.js';

const RUNTIMES = { wasm: './runtime/ort.wasm.bundle.min.js', webgpu: './runtime/ort.jspi.bundle.min.js' };
const BLOCK = 10; // milliseconds of runs that one timing takes at least: clocks of browsers tick in up to 1 ms

const backend = self.name;
const runtime = import(RUNTIMES[backend]);
runtime.catch(() => {}); // told when it is awaited
let ort;
let preprocessing;
let networks = []; // {name, session, temperature, repeats}
let input; // what was classified last, as a tensor
let detector; // {finder, cut(picture, face)}

// binary: WebAssembly of the runtime, an ArrayBuffer
async function load({ model, binary }) {
  preprocessing = model.preprocessing;
  ort = await runtime;
  const threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = binary;
  ort.env.logLevel = 'error';
  return { threads };
}

// data: of an ONNX file, an ArrayBuffer. It is run once on nothing, which shows whether it runs here.
async function add({ name, temperature, data }) {
  try {
    const session = await ort.InferenceSession.create(new Uint8Array(data), { executionProviders: [backend] });
    const [height, width] = preprocessing.size;
    const nothing = new Float32Array(preprocessing.channels * height * width);
    await run({ session }, new ort.Tensor('float32', nothing, [1, preprocessing.channels, height, width]));
    networks.push({ name, session, temperature, repeats: 1 });
  } catch (error) {
    throw new Error(`${name} does not run here: ${firstLine(error)}`);
  }
}

// It runs on WebAssembly whatever the backend is, as in Python on the processor: both find the same faces.
async function addDetector({ settings, data }) {
  const [{ FaceFinder }, { cut }] = await Promise.all([import('./faces.js'), import('./cut.js')]); // nobody waits for them before
  const session = await ort.InferenceSession.create(new Uint8Array(data), { executionProviders: ['wasm'] });
  const look = async (values, height, width) => {
    const outputs = await run({ session }, new ort.Tensor('float32', values, [1, 3, height, width]));
    const [scores, boxes] = session.outputNames.map((name) => outputs[name]);
    const [, , rows, columns] = scores.dims;
    return { scores: scores.data, boxes: boxes.data, rows, columns };
  };
  const [side] = settings.sizes;
  await look(new Float32Array(3 * side * side), side, side);
  detector = { finder: new FaceFinder(look, settings), cut: (picture, { box, tilt }) => cut(picture, box, tilt, settings.level) };
}

const run = ({ session }, values = input) => session.run({ [session.inputNames[0]]: values });

async function probabilitiesOf(network) {
  const outputs = await run(network);
  const logits = await outputs[network.session.outputNames[0]].getData();
  if (!logits.every(Number.isFinite)) throw new Error(`${network.name} gives NaN or infinity for this picture.`);
  return softmax(logits, network.temperature);
}

function softmax(logits, temperature) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// Milliseconds a run, over as many runs as fill a block: their number grows until they do.
async function time(network) {
  const start = performance.now();
  for (let i = 0; i < network.repeats; i++) await run(network);
  const took = performance.now() - start;
  const each = took / network.repeats;
  if (took < BLOCK) network.repeats *= 2;
  return each;
}

// Every network once, in random order: what slows the machine down hits all alike.
async function round() {
  const times = {};
  for (const network of shuffled(networks)) times[network.name] = await time(network);
  return { times };
}

function shuffled(items) {
  const keyed = items.map((item) => [Math.random(), item]);
  return keyed.sort(([a], [b]) => a - b).map(([, item]) => item);
}

async function frame({ bitmap, faces }) {
  let start = performance.now();
  const pixels = readPixels(bitmap);
  bitmap.close();
  let preparing = performance.now() - start;
  start = performance.now();
  const asked = faces && detector;
  const found = asked ? await detector.finder.find(pixels, faces.least) : [];
  const finding = asked ? performance.now() - start : undefined;
  const answers = [];
  for (const face of asked && (found.length || !faces.orWhole) ? found : [undefined]) {
    start = performance.now();
    const prepared = prepare(face ? detector.cut(pixels, face) : pixels, preprocessing);
    preparing += performance.now() - start;
    answers.push({ face, picture: prepared.picture, probabilities: await classified(prepared.values) });
  }
  return { answers, finding, preparing };
}

// values: (C, H, W) → {network: probabilities}
async function classified(values) {
  const [height, width] = preprocessing.size;
  input = new ort.Tensor('float32', values, [1, preprocessing.channels, height, width]);
  const probabilities = {};
  for (const network of networks) probabilities[network.name] = await probabilitiesOf(network);
  return probabilities;
}

// A lean binary lacks what most networks never call.
const isTrap = (error) => error instanceof WebAssembly.RuntimeError || /unreachable/i.test(String(error?.message));
const firstLine = (error) => String(error?.message ?? error).split('\n')[0];
const actions = { load, add, addDetector, frame, round };

self.addEventListener('message', async ({ data }) => {
  try {
    self.postMessage({ type: 'done', ...(await actions[data.type](data)) });
  } catch (error) {
    self.postMessage({ type: 'error', text: firstLine(error), isTrap: isTrap(error) });
  }
});
