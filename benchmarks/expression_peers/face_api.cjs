// @vladmandic/face-api: `faceExpressionNet.predictExpressions` on the face, in TensorFlow.js on WebAssembly.
'use strict';

const path = require('path');
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
const { asRgb, folder, serve, startWasm } = require('./_serve.cjs');

async function main() {
  await startWasm(tf, wasm);
  const net = faceapi.nets.faceExpressionNet;
  await net.loadFromDisk(path.join(folder('@vladmandic/face-api'), 'model'));
  const whole = async (face, height, width) => {
    const input = tf.tensor3d(asRgb(face), [height, width, 3], 'int32');
    const shares = await net.predictExpressions(input);
    input.dispose();
    return shares.asSortedArray()[0].expression;
  };
  await serve({ 'the face as it is': whole }, ['@vladmandic/face-api', '@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm']);
}

main();
