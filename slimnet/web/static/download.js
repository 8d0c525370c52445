// Files of the site, with progress: bytes that have come, of all that were asked for.

const GZIP = [0x1f, 0x8b]; // how a gzip file begins

export class Downloads {
  #files = new Map(); // file → {bytes, received, isTaken}
  #contents = new Map(); // file → promise of what nobody has taken yet
  #onProgress;

  // onProgress({received, total}): bytes, whenever some have come
  constructor(onProgress) {
    this.#onProgress = onProgress;
  }

  // Count afresh: without what was taken before.
  restart() {
    for (const [file, { isTaken }] of this.#files) if (isTaken) this.#files.delete(file);
  }

  // [{file, bytes: its size}] → their contents, ArrayBuffers; unpacked, where they are gzip files. Throws a line for people.
  // What has come by then, or still comes, is there when somebody asks again.
  async take(files) {
    const contents = await Promise.all(files.map((wanted) => this.#get(wanted)));
    for (const { file } of files) {
      this.#contents.delete(file);
      this.#files.get(file).isTaken = true;
    }
    return contents;
  }

  #get({ file, bytes }) {
    if (!this.#contents.has(file)) {
      const content = this.#fetch(file, bytes);
      this.#contents.set(file, content);
      content.catch(() => this.#contents.delete(file));
    }
    return this.#contents.get(file);
  }

  async #fetch(file, bytes) {
    const state = { bytes, received: 0, isTaken: false };
    this.#files.set(file, state);
    this.#tell();
    const counted = new TransformStream({
      transform: (chunk, controller) => {
        // A host that unpacks on the way gives more bytes than the file has.
        state.received = Math.min(bytes, state.received + chunk.length);
        this.#tell();
        controller.enqueue(chunk);
      },
    });
    const response = await ask(file);
    try {
      return await new Response(await unpacked(response.body.pipeThrough(counted))).arrayBuffer();
    } catch {
      throw new Error(`${file} did not come whole: is there a network?`);
    }
  }

  #tell() {
    const states = [...this.#files.values()];
    const sum = (key) => states.reduce((total, state) => total + state[key], 0);
    this.#onProgress({ received: sum('received'), total: sum('bytes') });
  }
}

export async function readJson(file) {
  return (await ask(file)).json();
}

// A file of the site, as a response that is well.
async function ask(file) {
  const response = await fetch(file).catch(() => {
    throw new Error(`${file} cannot be loaded: is there a network?`);
  });
  if (!response.ok) throw new Error(`${file} is not there (${response.status}): build the site again.`);
  return response;
}

// What is in a gzip stream; any other stream as it is: some hosts unpack what they send.
async function unpacked(stream) {
  const reader = stream.getReader();
  const first = await reader.read();
  const whole = new ReadableStream({
    start: (controller) => (first.done ? controller.close() : controller.enqueue(first.value)),
    pull: async (controller) => {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const isPacked = GZIP.every((byte, i) => first.value?.[i] === byte);
  return isPacked ? whole.pipeThrough(new DecompressionStream('gzip')) : whole;
}
