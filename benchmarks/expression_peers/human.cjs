// @vladmandic/human: its emotion.json on the face, prepared as the package's own code says (64×64, grey, -1 to 1), in TensorFlow.js
// on WebAssembly. Its own interface takes pictures in which its detector finds the face first.
'use strict';

const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs-core');
const { loadGraphModel } = require('@tensorflow/tfjs-converter');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const { asRgb, folder, serve, startWasm } = require('./_serve.cjs');

const LABELS = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'];
const LUMA = [0.2989, 0.587, 0.114];

/** The network, from the package's files. */
async function load(models) {
  const { modelTopology, weightsManifest } = JSON.parse(fs.readFileSync(path.join(models, 'emotion.json'), 'utf8'));
  const files = weightsManifest.flatMap((group) => group.paths).map((name) => fs.readFileSync(path.join(models, name)));
  const weightData = new Uint8Array(Buffer.concat(files)).buffer;
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  return loadGraphModel(tf.io.fromMemory({ modelTopology, weightSpecs, weightData }));
}

async function main() {
  await startWasm(tf, wasm);
  const model = await load(path.join(folder('@vladmandic/human'), 'models'));
  const [, side] = model.inputs[0].shape.slice(1);
  const whole = async (face, height, width) => {
    const shares = tf.tidy(() => {
      const picture = tf.div(tf.tensor4d(asRgb(face), [1, height, width, 3], 'float32'), 255);
      const grey = tf.sum(tf.mul(tf.image.resizeBilinear(picture, [side, side], false), LUMA), 3, true);
      return model.execute(tf.mul(tf.sub(grey, 0.5), 2));
    });
    const data = await shares.data();
    shares.dispose();
    return LABELS[data.indexOf(Math.max(...data))];
  };
  await serve({ 'the face as it is': whole }, ['@vladmandic/human', '@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm']);
}

main();
