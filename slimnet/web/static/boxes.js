// The faces of a picture for the eye: their boxes over it, and a list to choose one from.

const SAME = 0.3; // the least overlap of a face with itself in the frame before

// Of boxes {x, y, width, height}: area shared ÷ area covered together.
function overlap(a, b) {
  const width = Math.max(0, Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x));
  const height = Math.max(0, Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y));
  return (width * height) / (a.width * a.height + b.width * b.height - width * height);
}

const area = ({ width, height }) => width * height;
const crosses = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

export class Boxes {
  #layer;
  #list;
  #onChoose;
  #boxes = []; // in pixels of the picture
  #size = [1, 1]; // of the picture
  #wanted; // the box that somebody has chosen
  chosen = 0;

  // layer: lies over the picture; list: of buttons; onChoose(number of the face)
  constructor(layer, list, onChoose) {
    [this.#layer, this.#list, this.#onChoose] = [layer, list, onChoose];
    new ResizeObserver(() => this.#placeWords()).observe(layer);
  }

  // boxes: of the faces of a picture of [width, height]; live: of the next frame, so that a face that was chosen stays chosen.
  show(boxes, size, { live = false } = {}) {
    if (!live) this.#wanted = undefined;
    [this.#boxes, this.#size] = [boxes, size];
    const largest = boxes.reduce((best, box, i) => (area(box) > area(boxes[best]) ? i : best), 0);
    const known = this.#wanted ? boxes.findIndex((box) => overlap(box, this.#wanted) >= SAME) : -1;
    this.chosen = known >= 0 ? known : largest;
    if (known >= 0) this.#wanted = boxes[known];
    this.#fill(this.#layer, boxes.length, () => this.#makeBox());
    this.#fill(this.#list, boxes.length, (i) => this.#makeButton(i));
    this.#list.hidden = boxes.length < 2;
    boxes.forEach(({ x, y, width, height }, i) => {
      const { style } = this.#layer.children[i];
      [style.left, style.width] = [x, width].map((value) => `${(100 * value) / size[0]}%`);
      [style.top, style.height] = [y, height].map((value) => `${(100 * value) / size[1]}%`);
      this.#layer.children[i].dataset.box = [x, y, width, height];
    });
  }

  // answers: {words: of the box, full: of the list, unsure} of each face
  tell(answers) {
    answers.forEach(({ words, full, unsure }, i) => {
      const [box, button] = [this.#layer.children[i], this.#list.children[i].firstChild];
      const number = answers.length > 1 ? `${i + 1} ` : '';
      box.firstChild.replaceChildren(number, Object.assign(document.createElement('span'), { textContent: words }));
      button.textContent = `${i + 1} ${full}`;
      for (const part of [box, button]) part.classList.toggle('unsure', unsure);
      box.classList.toggle('chosen', i === this.chosen && answers.length > 1);
      button.setAttribute('aria-pressed', i === this.chosen);
    });
    this.#placeWords();
  }

  choose(number) {
    [this.chosen, this.#wanted] = [number, this.#boxes[number]];
    this.#onChoose(number);
  }

  // As many children as there are faces: those that are there stay, and keep the focus.
  #fill(parent, count, make) {
    while (parent.children.length > count) parent.lastChild.remove();
    while (parent.children.length < count) parent.append(make(parent.children.length));
  }

  #makeBox() {
    const box = document.createElement('div');
    box.append(document.createElement('p'));
    box.addEventListener('click', () => this.choose([...this.#layer.children].indexOf(box)));
    return box;
  }

  #makeButton(number) {
    const button = Object.assign(document.createElement('button'), { type: 'button' });
    button.addEventListener('click', () => this.choose(number));
    const item = document.createElement('li');
    item.append(button);
    return item;
  }

  // Words stand above their box, or below it, within the picture; where they would cover others, the number alone stays.
  #placeWords() {
    const { clientWidth: wide, clientHeight: high } = this.#layer;
    const [across, down] = [wide / this.#size[0], high / this.#size[1]];
    const taken = [];
    const order = this.#boxes.map((_, i) => i).sort((a, b) => (b === this.chosen) - (a === this.chosen));
    for (const i of order) {
      const [box, { firstChild: words }] = [this.#boxes[i], this.#layer.children[i]];
      const [left, top] = [box.x * across, box.y * down];
      const places = () => {
        const { offsetWidth: width, offsetHeight: height } = words;
        const x = Math.max(0, Math.min(left, wide - width));
        const within = [top - height, top + box.height * down].filter((y) => y >= 0 && y + height <= high);
        return [...within, top].map((y) => ({ left: x, top: y, right: x + width, bottom: y + height }));
      };
      const free = (place) => !taken.some((other) => crosses(place, other));
      words.classList.remove('short');
      let place = places().find(free);
      if (!place) {
        words.classList.add('short');
        place = places().find(free) ?? places()[0];
      }
      taken.push(place);
      const [line, { style }] = [this.#layer.children[i].clientLeft, words]; // they are placed from within the box's line
      [style.left, style.top] = [place.left - left, place.top - top].map((value) => `${value - line}px`);
    }
  }
}
