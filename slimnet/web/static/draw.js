// Pictures for the eye: none of this reaches a network.

const LONGEST = 640; // pixels

// Draw what a canvas can draw, made smaller if it is large.
export function draw(canvas, source, width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  canvas.getContext('2d').drawImage(source, 0, 0, canvas.width, canvas.height);
}

// Draw what a network sees, pixel by pixel.
export function drawSeen(canvas, { data, width, height, channels }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = data[i * channels + (channels === 1 ? 0 : c)];
    image.data[4 * i + 3] = 255;
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').putImageData(image, 0, 0);
}
