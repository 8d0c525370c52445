// A face cut out of a picture: the same, level for level, as slimnet/predict/faces.py with Pillow.
// A picture is {data, width, height}: RGBA bytes, rows from the top.

const CHANNELS = 4;

// The box {x, y, width, height} lies within the picture. What is tilted by `level` degrees or more is turned upright.
export function cut(picture, { x, y, width, height }, tilt, level) {
  return Math.abs(tilt) < level ? cropped(picture, x, y, width, height) : turned(picture, x, y, width, height, tilt);
}

function cropped({ data, width: stride }, left, top, width, height) {
  const pixels = new Uint8Array(width * height * CHANNELS);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * stride + left) * CHANNELS;
    pixels.set(data.subarray(from, from + width * CHANNELS), y * width * CHANNELS);
  }
  return { data: pixels, width, height };
}

// As in Python, from 15 digits after the point on.
const rounded = (x) => Number(x.toFixed(15));
const clamp = (x, most) => Math.min(Math.max(x, 0), most);

// Pillow's Image.rotate(degrees, BILINEAR, center=…) of what lies around the box; outside of the picture all is black.
function turned(picture, left, top, width, height, degrees) {
  const reach = Math.trunc(Math.hypot(width, height) / 2) + 2;
  const [middleX, middleY] = [left + width / 2, top + height / 2];
  const [startX, startY] = [Math.trunc(middleX) - reach, Math.trunc(middleY) - reach];
  const side = 2 * reach + 1;
  const [centreX, centreY] = [middleX - startX, middleY - startY];
  const angle = (-(((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const [a, b, d, e] = [Math.cos(angle), Math.sin(angle), -Math.sin(angle), Math.cos(angle)].map(rounded);
  const c = a * -centreX + b * -centreY + centreX;
  const f = d * -centreX + e * -centreY + centreY;
  const pixels = new Uint8Array(width * height * CHANNELS);
  const level = (x, y, channel) => {
    const [inX, inY] = [startX + x, startY + y];
    const isInside = inX >= 0 && inY >= 0 && inX < picture.width && inY < picture.height;
    return isInside ? picture.data[(inY * picture.width + inX) * CHANNELS + channel] : 0;
  };
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += CHANNELS) {
      const [outX, outY] = [left - startX + column + 0.5, top - startY + row + 0.5];
      const [inX, inY] = [a * outX + b * outY + c, d * outX + e * outY + f];
      if (inX < 0 || inX >= side || inY < 0 || inY >= side) continue;
      const [x, y] = [Math.floor(inX - 0.5), Math.floor(inY - 0.5)];
      const [dx, dy] = [inX - 0.5 - x, inY - 0.5 - y];
      const [x0, x1, y0] = [clamp(x, side - 1), clamp(x + 1, side - 1), clamp(y, side - 1)];
      const y1 = y + 1 >= 0 && y + 1 < side ? y + 1 : y0;
      for (let channel = 0; channel < CHANNELS; channel++) {
        const upper = level(x0, y0, channel) + (level(x1, y0, channel) - level(x0, y0, channel)) * dx;
        const lower = level(x0, y1, channel) + (level(x1, y1, channel) - level(x0, y1, channel)) * dx;
        pixels[to + channel] = upper + (lower - upper) * dy; // towards zero
      }
    }
  }
  return { data: pixels, width, height };
}
