// Medians of the last rounds.

export const ROUNDS = 30;

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export class Stopwatch {
  #rounds = [];
  total = 0; // rounds ever added

  get count() {
    return this.#rounds.length;
  }

  // times: {network: ms} of one round
  add(times) {
    this.total += 1;
    this.#rounds.push(times);
    if (this.#rounds.length > ROUNDS) this.#rounds.shift();
  }

  // {network: median ms}
  times() {
    return this.#over((round, name) => round[name]);
  }

  // {network: how many times as fast as the baseline}; the ratios are taken within the rounds
  speeds(baseline) {
    return this.#over((round, name) => round[baseline] / round[name]);
  }

  #over(value) {
    const names = Object.keys(this.#rounds[0]);
    return Object.fromEntries(names.map((name) => [name, median(this.#rounds.map((round) => value(round, name)))]));
  }
}
