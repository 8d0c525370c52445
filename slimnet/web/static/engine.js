// The page's end of the worker: one question at a time, in the order asked.

export class Engine {
  #worker;
  #broken; // rejects when the worker itself fails
  #last = Promise.resolve();

  // The worker begins to load the runtime's module at once.
  constructor(backend) {
    this.#worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module', name: backend });
    this.#broken = new Promise((_, reject) => {
      this.#worker.onerror = (event) => reject(new Error(event.message || 'The worker could not be started: is there a network?'));
    });
    this.#broken.catch(() => {}); // told when something is asked
  }

  // binary: WebAssembly of the runtime → {threads}
  load(model, binary) {
    return this.#ask({ type: 'load', model, binary }, [binary]);
  }

  // network: as the site lists it; data: of its file. Throws a line where it does not run.
  add({ name, temperature = 1 }, data) {
    return this.#ask({ type: 'add', name, temperature, data }, [data]);
  }

  // settings: of what finds faces, as the site has them; data: of its file. Throws a line where it does not run.
  addDetector(settings, data) {
    return this.#ask({ type: 'addDetector', settings, data }, [data]);
  }

  // faces: {least: side of the smallest one in pixels, orWhole: whether the whole picture is classified where there is none};
  // without it, and without a detector, the whole picture is.
  // → {answers: [{face: {box, confidence, tilt} or undefined, picture: as the network sees it, probabilities:
  // {network: Float64Array}}], finding: ms or undefined, preparing: ms}
  frame(bitmap, faces) {
    return this.#ask({ type: 'frame', bitmap, faces }, [bitmap]);
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
    const answered = new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }) => {
        if (data.type === 'done') resolve(data);
        else reject(Object.assign(new Error(data.text), { isTrap: data.isTrap }));
      };
      this.#worker.postMessage(message, transfer);
    });
    return Promise.race([answered, this.#broken]);
  }
}
