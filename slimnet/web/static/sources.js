// Where still pictures come from: a file, the clipboard, a drop, the examples. Each is given on as a Blob.

const first = (files) => [...(files ?? [])].find(({ type }) => type.startsWith('image/')) ?? files?.[0];

export function listen(give) {
  document.getElementById('file').addEventListener('change', ({ target }) => {
    if (target.files.length) give(target.files[0]);
    target.value = ''; // so that the same file can be chosen again
  });
  document.addEventListener('paste', ({ clipboardData }) => {
    const file = first(clipboardData?.files);
    if (file) give(file);
  });
  const dragging = (on) => document.body.classList.toggle('dragging', on);
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    dragging(true);
  });
  document.addEventListener('dragleave', ({ relatedTarget }) => {
    if (!relatedTarget) dragging(false);
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    dragging(false);
    const file = first(event.dataTransfer?.files);
    if (file) give(file);
  });
}

// examples: [{file, name}]
export function showExamples(list, examples, give) {
  list.hidden = !examples.length;
  for (const { file, name } of examples) {
    const image = Object.assign(document.createElement('img'), { src: file, alt: `Example: ${name}` });
    const button = Object.assign(document.createElement('button'), { type: 'button' });
    button.append(image);
    button.addEventListener('click', async () => give(await (await fetch(file)).blob()));
    const item = document.createElement('li');
    item.append(button);
    list.append(item);
  }
}
