// Pictures from a camera, asked for only when somebody clicks.

const REASONS = {
  NotAllowedError: 'The camera was not allowed: allow it in the settings of the browser for this page.',
  NotFoundError: 'No camera was found.',
  NotReadableError: 'The camera is in use elsewhere.',
};

export class Camera {
  #video;
  #stream;

  constructor(video) {
    this.#video = video;
  }

  static isPossible() {
    return Boolean(navigator.mediaDevices?.getUserMedia);
  }

  get isOn() {
    return Boolean(this.#stream);
  }

  // Throws a line for people.
  async start(onEnd) {
    const wanted = { video: { facingMode: 'user', width: { ideal: 640 }, height: { ideal: 480 } }, audio: false };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera does not start: ${error.message}`);
    }
    for (const track of this.#stream.getTracks()) track.addEventListener('ended', onEnd);
    this.#video.srcObject = this.#stream;
    await this.#video.play();
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = undefined;
    this.#video.srcObject = null;
  }

  // The next frame that is shown, as an ImageBitmap; undefined when the camera has stopped meanwhile.
  async next() {
    await new Promise((resolve) => requestAnimationFrame(resolve));
    if (!this.isOn || !this.#video.videoWidth) return undefined;
    return createImageBitmap(this.#video);
  }
}
