// The table of results: a column a network, a row a label, and what each network costs.

const FEW = 20; // up to so many labels, all are shown in their own order
const TOP = 12; // of more, the likeliest

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(2)} MB`);
const milliseconds = (ms) => `${ms < 100 ? ms.toPrecision(3) : ms.toFixed(0)} ms`;

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const head = (text, scope) => element('th', { scope, textContent: text });

export class Table {
  #labels;
  #networks; // {name, bytes}, the first one is the baseline
  #main; // the network that the headline speaks for
  #rows = new Map(); // label number → {row, cells}
  #costs = {};
  #body;
  #all = false;
  #probabilities; // the last ones

  constructor(table, labels, networks, main) {
    [this.#labels, this.#networks, this.#main] = [labels, networks, main];
    const names = networks.map(({ name }) => head(name, 'col'));
    this.#body = element('tbody');
    const costs = element('tbody', { className: 'costs' });
    const kinds = [['size', 'Size'], ['time', 'Time per frame']];
    if (networks.length > 1) kinds.push(['speed', 'Speed']); // there is something to compare with
    if (networks.some(({ accuracy }) => accuracy)) kinds.unshift(['accuracy', 'Accuracy']);
    for (const [key, text] of kinds) {
      const cells = networks.map(() => element('td', { textContent: '–' }));
      this.#costs[key] = cells;
      costs.append(element('tr', {}, [head(text, 'row'), ...cells]));
    }
    networks.forEach(({ bytes, accuracy }, i) => {
      this.#set('size', i, bytes, size(bytes), i && `${(networks[0].bytes / bytes).toFixed(1)}× smaller`);
      if (accuracy) this.#set('accuracy', i, accuracy.value, percent(accuracy.value), `${accuracy.split}, ${accuracy.count.toLocaleString('en')}`);
    });
    table.replaceChildren(table.caption, element('thead', {}, [element('tr', {}, [head('Label', 'col'), ...names])]), this.#body, costs);
    this.#show(labels.map((_, i) => i).slice(0, labels.length > FEW ? TOP : undefined));
  }

  get hasMore() {
    return this.#labels.length > FEW;
  }

  get all() {
    return this.#all;
  }

  set all(value) {
    this.#all = value;
    if (this.#probabilities) this.update(this.#probabilities);
  }

  // → {label, share, probability} of the main network's likeliest label.
  update(probabilities) {
    this.#probabilities = probabilities;
    const main = probabilities[this.#main];
    const order = likeliest(main);
    if (this.hasMore) this.#show(this.#all ? [...main.keys()] : order.slice(0, TOP));
    for (const [label, { row, cells }] of this.#rows) {
      row.classList.toggle('top', label === order[0]);
      this.#networks.forEach(({ name }, i) => (probabilities[name] ? fill(cells[i], probabilities[name][label]) : empty(cells[i])));
    }
    return this.best(probabilities);
  }

  // The same, without showing it.
  best(probabilities) {
    const main = probabilities[this.#main];
    const [first] = likeliest(main);
    return { label: this.#labels[first], share: percent(main[first]), probability: main[first] };
  }

  // Take the probabilities away: there are none of this picture.
  clear() {
    this.#probabilities = undefined;
    for (const { row, cells } of this.#rows.values()) {
      row.classList.remove('top');
      cells.forEach(empty);
    }
  }

  // times: {network: ms}; speeds: {network: how many times as fast as the baseline}
  time(times, speeds) {
    this.#networks.forEach(({ name }, i) => {
      this.#set('time', i, times[name], milliseconds(times[name]));
      if (this.#costs.speed) this.#set('speed', i, speeds[name], `${i ? speeds[name].toFixed(2) : 1}×`, i && 'as fast as ' + this.#networks[0].name);
    });
  }

  #set(key, i, value, text, more) {
    this.#costs[key][i].replaceChildren(element('data', { value, textContent: text }));
    if (more) this.#costs[key][i].append(element('small', { textContent: more }));
  }

  #show(labels) {
    const shown = [...this.#rows.keys()];
    if (labels.length === shown.length && labels.every((label, i) => shown[i] === label)) return;
    this.#rows = new Map(labels.map((label) => [label, this.#rows.get(label) ?? this.#makeRow(label)]));
    this.#body.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
  }

  #makeRow(label) {
    const cells = this.#networks.map(() => element('td', {}, [element('data', { textContent: '–' }), bar()]));
    return { row: element('tr', {}, [head(this.#labels[label], 'row'), ...cells]), cells };
  }
}

// Numbers of the labels, the most probable first.
function likeliest(probabilities) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
}

function bar() {
  const made = element('div', { className: 'bar' }, [element('div')]);
  made.setAttribute('aria-hidden', 'true');
  return made;
}

function empty(cell) {
  const [number, { firstChild }] = cell.children;
  number.value = '';
  number.textContent = '–';
  firstChild.style.removeProperty('inline-size');
}

function fill(cell, share) {
  const [number, { firstChild }] = cell.children;
  number.value = share;
  number.textContent = percent(share);
  firstChild.style.setProperty('inline-size', `${100 * share}%`);
}
