// The same as _serve.py, for packages of npm: orders in, answers out, a JSON object a line.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');

const LEAST = 3;

/** Where a package lies: NODE_PATH is the folder of all. */
const folder = (name) => path.join(process.env.NODE_PATH, ...name.split('/'));

/** The pixels of a .npy file of uint8 (N, H, W): one Uint8Array a face. */
function readFaces(file) {
  const bytes = fs.readFileSync(file);
  const begin = 10 + bytes.readUInt16LE(8);
  const found = /'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+), (\d+), (\d+)\)/.exec(bytes.toString('latin1', 10, begin));
  if (!found || bytes[6] !== 1) throw new Error(`${file} does not hold uint8 (N, H, W)`);
  const [count, height, width] = found.slice(1).map(Number);
  const faces = [];
  for (let i = 0; i < count; i++) faces.push(new Uint8Array(bytes.subarray(begin + i * height * width, begin + (i + 1) * height * width)));
  return { faces, height, width };
}

/** The grey pixels three times over, as RGB. */
function asRgb(grey) {
  const rgb = new Uint8Array(3 * grey.length);
  for (let i = 0; i < grey.length; i++) rgb.fill(grey[i], 3 * i, 3 * i + 3);
  return rgb;
}

/** TensorFlow.js on its WebAssembly backend, with one thread. */
async function startWasm(tf, wasm) {
  wasm.setWasmPaths(path.join(folder('@tensorflow/tfjs-backend-wasm'), 'dist') + path.sep);
  wasm.setThreadsCount(1);
  await tf.setBackend('wasm');
  await tf.ready();
}

async function timed(name, next, seconds) {
  const ns = [];
  const began = process.hrtime.bigint();
  const processor = process.cpuUsage();
  const passed = () => Number(process.hrtime.bigint() - began);
  while (ns.length < LEAST || passed() < seconds * 1e9) {
    const face = next();
    const start = process.hrtime.bigint();
    await name(face);
    ns.push(Number(process.hrtime.bigint() - start));
  }
  const used = process.cpuUsage(processor);
  return { ns, busy: (used.user + used.system) * 1e3 / passed() };
}

/** Do as told until stdin ends. `ways`: name → (face, height, width) → label or null, the first the one that counts. */
async function serve(ways, packages) {
  const say = (value) => fs.writeSync(Number(process.env.PEER_ANSWERS), `${JSON.stringify(value)}\n`);
  const versions = { node: process.versions.node };
  for (const name of packages) versions[name] = JSON.parse(fs.readFileSync(path.join(folder(name), 'package.json'), 'utf8')).version;
  say({ ready: { versions, ways: Object.keys(ways) } });
  const kept = new Map();
  let turn = 0;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if (!kept.has(order.faces)) kept.set(order.faces, readFaces(order.faces));
    const { faces, height, width } = kept.get(order.faces);
    if (order.do === 'answer') {
      const labels = [];
      for (const face of faces) labels.push(await ways[order.way](face, height, width));
      fs.writeFileSync(order.out, JSON.stringify(labels));
      say({ faces: labels.length });
    } else {
      const first = Object.values(ways)[0];
      say(await timed((face) => first(face, height, width), () => faces[turn++ % faces.length], order.seconds));
    }
  }
}

module.exports = { asRgb, folder, serve, startWasm };
