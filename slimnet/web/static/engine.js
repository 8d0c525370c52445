// The page's end of the worker: one question at a time, in the order asked.

export class Engine {
  #worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
  #last = Promise.resolve();
  #onProgress;

  constructor(onProgress) {
    this.#onProgress = onProgress;
  }

  // → {networks: names that run, failures: lines, threads}
  load(site, model, backend) {
    return this.#ask({ type: 'load', site, model, backend });
  }

  // → {picture: as the network sees it, probabilities: {network: Float64Array}, preparing: ms}
  frame(bitmap) {
    return this.#ask({ type: 'frame', bitmap }, [bitmap]);
  }

  // → {times: {network: ms}}
  round() {
    return this.#ask({ type: 'round' });
  }

  close() {
    this.#worker.terminate();
  }

  #ask(message, transfer = []) {
    const answer = this.#last.then(() => this.#send(message, transfer));
    this.#last = answer.catch(() => {});
    return answer;
  }

  #send(message, transfer) {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }) => {
        if (data.type === 'done') resolve(data);
        else if (data.type === 'error') reject(new Error(data.text));
        else this.#onProgress(data.text);
      };
      this.#worker.onerror = (event) => reject(new Error(event.message || 'the worker could not be started.'));
      this.#worker.postMessage(message, transfer);
    });
  }
}
