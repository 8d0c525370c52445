// How a picture becomes a network's input: the same, level for level, as slimnet/preprocess.py with Pillow.
// A picture is {data, width, height, channels}: bytes, channels interleaved, rows from the top.

const PRECISION = 22; // bits of a filter's weights in Pillow: 32 - 8 for the pixel - 2 for the sum

// RGBA bytes → grey (1 channel: ITU-R 601-2 luma, rounded as Pillow does) or RGB (3); transparency is dropped.
export function convert({ data, width, height }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    if (channels === 1) {
      pixels[to++] = (data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471 + 0x8000) >> 16;
    } else {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
  }
  return { data: pixels, width, height, channels };
}

// For each of `to` positions: where the triangle over `from` positions starts, and its weights in units of 2^-22.
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, position) => {
    const centre = (position + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: end - start }, (_, i) => {
      return Math.max(0, 1 - Math.abs((i + start - centre + 0.5) * (1 / support)));
    });
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { start, weights: Int32Array.from(weights, (weight) => Math.trunc(0.5 + (weight / sum) * 2 ** PRECISION)) };
  });
}

// Filter along lines. Of source and target: the first byte of line i, and the bytes from one position to the next.
function pass(source, target, filters, count, [firstIn, stepIn], [firstOut, stepOut]) {
  for (let line = 0; line < count; line++) {
    const base = firstIn(line);
    let out = firstOut(line);
    for (const { start, weights } of filters) {
      let sum = 1 << (PRECISION - 1);
      for (let i = 0, at = base + start * stepIn; i < weights.length; i++, at += stepIn) sum += source[at] * weights[i];
      target[out] = Math.min(255, sum >> PRECISION);
      out += stepOut;
    }
  }
  return target;
}

// Pillow's Image.resize(…, Resampling.BILINEAR): antialiased, first along rows, each pass rounded to bytes.
export function resize(picture, width, height) {
  const { channels } = picture;
  let { data } = picture;
  if (width !== picture.width) {
    const along = (side) => [(line) => Math.trunc(line / channels) * side * channels + (line % channels), channels];
    const target = new Uint8Array(width * picture.height * channels);
    data = pass(data, target, triangles(picture.width, width), picture.height * channels, along(picture.width), along(width));
  }
  if (height !== picture.height) {
    const down = [(line) => line, width * channels];
    const target = new Uint8Array(width * height * channels);
    data = pass(data, target, triangles(picture.height, height), width * channels, down, down);
  }
  return { data, width, height, channels };
}

function crop({ data, width: stride, channels }, left, top, width, height) {
  const pixels = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * stride + left) * channels;
    pixels.set(data.subarray(from, from + width * channels), y * width * channels);
  }
  return { data: pixels, width, height, channels };
}

// As Python rounds.
export function roundHalfEven(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

// Resize until it covers width × height, then cut out the centre.
export function fit(picture, width, height) {
  if (picture.width === width && picture.height === height) return picture;
  const scale = Math.max(height / picture.height, width / picture.width);
  const coveringWidth = Math.max(width, roundHalfEven(picture.width * scale));
  const coveringHeight = Math.max(height, roundHalfEven(picture.height * scale));
  const covering = resize(picture, coveringWidth, coveringHeight);
  return crop(covering, (coveringWidth - width) >> 1, (coveringHeight - height) >> 1, width, height);
}

// Bytes → float32, channels first: byte · (1 / std / 255) + (-mean / std), each step rounded to float32.
export function normalise({ data, width, height, channels }, { mean, std }) {
  const area = width * height;
  const values = new Float32Array(area * channels);
  for (let channel = 0; channel < channels; channel++) {
    const factor = Math.fround(1 / std[channel] / 255);
    const shift = Math.fround(-mean[channel] * (1 / std[channel]));
    for (let i = 0; i < area; i++) {
      values[channel * area + i] = Math.fround(data[i * channels + channel] * factor) + shift;
    }
  }
  return values;
}

// RGBA bytes → the picture as the network sees it, and its input (1, C, H, W).
export function prepare(rgba, preprocessing) {
  const [height, width] = preprocessing.size;
  const picture = fit(convert(rgba, preprocessing.channels), width, height);
  return { picture, values: normalise(picture, preprocessing) };
}
