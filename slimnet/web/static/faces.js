// Where the faces of a picture are: the same as BlazeFace of slimnet/detect/ and FaceFinder of slimnet/predict/.
// What is asked of the network, and what its numbers mean, the site says ({sizes, multiple, stride, confidence, overlap, inside,
// enough, frame}): they are those of Python.

import { convert, resize, roundHalfEven } from './preprocess.js';

const LEVELS = Float32Array.from({ length: 256 }, (_, level) => Math.fround(Math.fround(level / 127.5) - 1));
const NUMBERS = 16; // of each cell: centre, width, height, and six points, of which the first two are the eyes

export class FaceFinder {
  #run;
  #settings;

  // run(values, height, width): (1, 3, height, width) → {scores, boxes, rows, columns}: (1, rows, columns) and (16, …), float32
  constructor(run, settings) {
    [this.#run, this.#settings] = [run, settings];
  }

  // A picture {data, width, height}, RGBA → [{box: {x, y, width, height}, confidence, tilt: degrees}], from left to right, whole
  // pixels within the picture. least: side of the smallest face that is asked for, in pixels.
  async find(rgba, least) {
    const { sizes, enough, overlap: most, inside: mostInside, frame } = this.#settings;
    const picture = convert(rgba, 3);
    const longest = Math.max(picture.width, picture.height);
    const found = [];
    for (const [number, size] of sizes.entries()) {
      const before = sizes[number - 1];
      if (number && !(longest > before && (least * before) / longest < enough)) continue;
      const { values, height, width, scale } = look(picture, size, number ? this.#settings.multiple : size);
      found.push(...this.#decoded(await this.#run(values, height, width), scale));
    }
    const faces = suppressed(found, most, mostInside).map((face) => whole(framed(face, frame), picture));
    const large = faces.filter(({ box }) => Math.min(box.width, box.height) >= Math.max(1, least));
    return large.sort((a, b) => compared(a.box, b.box));
  }

  // Hits of one look, in pixels of the picture.
  #decoded({ scores, boxes, rows, columns }, scale) {
    const { stride, confidence: least } = this.#settings;
    const found = [];
    for (let at = 0; at < rows * columns; at++) {
      const confidence = 1 / (1 + Math.exp(-Math.min(80, Math.max(-80, scores[at]))));
      if (!(confidence >= least)) continue;
      const [x0, y0] = [((at % columns) + 0.5) * stride, (Math.floor(at / columns) + 0.5) * stride];
      const values = Array.from({ length: NUMBERS }, (_, k) => boxes[k * rows * columns + at]);
      const [width, height] = values.slice(2);
      if (!(values.every(Number.isFinite) && width > 0 && height > 0)) continue;
      const [x, y] = [values[0] + x0 - width / 2, values[1] + y0 - height / 2];
      const [left, right] = [4, 6].map((k) => [(values[k] + x0) / scale, (values[k + 1] + y0) / scale]);
      const tilt = (Math.atan2(right[1] - left[1], right[0] - left[0]) * 180) / Math.PI;
      found.push({ x: x / scale, y: y / scale, width: width / scale, height: height / scale, confidence, tilt });
    }
    return found;
  }
}

// RGB resized so that its longer side is `size`, padded with black below and right to multiples of `multiple`.
function look(picture, size, multiple) {
  const scale = size / Math.max(picture.width, picture.height);
  const [inWidth, inHeight] = [picture.width, picture.height].map((side) => Math.max(1, roundHalfEven(side * scale)));
  const [width, height] = [inWidth, inHeight].map((side) => Math.ceil(side / multiple) * multiple);
  const { data } = resize(picture, inWidth, inHeight);
  const values = new Float32Array(3 * width * height).fill(LEVELS[0]);
  for (let y = 0, from = 0; y < inHeight; y++) {
    for (let x = 0; x < inWidth; x++) {
      for (let channel = 0; channel < 3; channel++) values[(channel * height + y) * width + x] = LEVELS[data[from++]];
    }
  }
  return { values, height, width, scale };
}

function shared(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return width > 0 && height > 0 ? width * height : 0;
}

// Area that two boxes share, as a share of what they cover together, in [0, 1].
function overlap(a, b) {
  const area = shared(a, b);
  return area ? area / (a.width * a.height + b.width * b.height - area) : 0;
}

function inside(a, b) {
  return shared(a, b) / Math.min(a.width * a.height, b.width * b.height);
}

// The most confident of those that overlap, best first.
function suppressed(faces, most, mostInside) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.confidence - a.confidence)) {
    if (kept.every((other) => overlap(face, other) <= most && inside(face, other) <= mostInside)) kept.push(face);
  }
  return kept;
}

// The square that is cut out for a box.
function framed({ x, y, width, height, confidence, tilt }, { factor, rise }) {
  const root = Math.sqrt(width * height);
  const side = factor * root;
  const [middle, centre] = [x + width / 2, y + height / 2 - rise * root];
  return { x: middle - side / 2, y: centre - side / 2, width: side, height: side, confidence, tilt };
}

// In whole pixels, within the picture.
function whole({ x, y, width, height, confidence, tilt }, picture) {
  const [left, top] = [x, y].map((edge) => Math.max(0, roundHalfEven(edge)));
  const right = Math.min(picture.width, roundHalfEven(x + width));
  const bottom = Math.min(picture.height, roundHalfEven(y + height));
  return { box: { x: left, y: top, width: right - left, height: bottom - top }, confidence, tilt };
}

function compared(a, b) {
  return a.x - b.x || a.y - b.y || a.width - b.width || a.height - b.height;
}
