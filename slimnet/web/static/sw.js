// The service worker: keeps the files of this site, as site.json lists them, and nothing else.
// Of the cache comes whatever is in it; the network is asked first for the page itself alone, since another site may have taken
// its place: then what was kept is thrown away.

const VERSION = '$site'; // hash of the site's content
const SCOPE = self.registration.scope;
const OWN = 'slimnet-site ' + SCOPE + ' '; // an origin may have many sites: each has caches of its own
const CACHE = OWN + VERSION;
const PAGE = 'index.html';
const LIST = 'site.json';
const PATIENCE = 3000; // milliseconds that the network has to give the page, where a kept one is there

const address = (name) => new URL(name, SCOPE).href;
const kept = (url) => caches.match(url, { cacheName: CACHE });

// From the host, not from the browser's own cache: all files are of one version.
async function fetched(name) {
  const url = name === PAGE ? SCOPE : address(name); // some hosts lead from index.html to the folder
  const response = await fetch(url, { cache: 'no-cache' });
  if (!response.ok) throw new Error(name + ': ' + response.status);
  return response;
}

async function keep() {
  const response = await fetched(LIST);
  const { version, offline } = await response.clone().json();
  if (version !== VERSION) throw new Error('the site is just being replaced');
  const cache = await caches.open(CACHE);
  await cache.put(address(LIST), response);
  await Promise.all(offline.map(async (name) => cache.put(address(name), await fetched(name))));
}

async function install() {
  await keep();
  await self.skipWaiting();
}

async function activate() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(OWN) && name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function isListed(url) {
  const list = await kept(address(LIST));
  return Boolean(list) && (await list.json()).files.some((name) => address(name) === url);
}

// The page: from the host, if it answers soon; else the kept one.
async function page(request) {
  const old = await kept(address(PAGE));
  if (!old) return fetch(request);
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE));
  const answer = await Promise.race([fetch(request, { cache: 'no-cache' }), late]).catch(() => undefined);
  if (!answer || answer.status >= 500) return old;
  if (await isReplaced(answer.clone())) await forget();
  return answer;
}

async function isReplaced(answer) {
  if (answer.ok) return !(await answer.text()).includes('content="' + VERSION + '"');
  return answer.status === 404 || answer.status === 410;
}

async function forget() {
  await caches.delete(CACHE);
  await self.registration.unregister();
}

// Any other file of the site: the kept one, else the host's, which is kept from then on.
async function file(request, url) {
  const old = await kept(url);
  if (old || !(await isListed(url))) return old ?? fetch(request);
  const response = await fetch(request);
  if (response.ok && (await caches.has(CACHE))) await (await caches.open(CACHE)).put(url, response.clone());
  return response;
}

self.addEventListener('install', (event) => event.waitUntil(install()));
self.addEventListener('activate', (event) => event.waitUntil(activate()));
self.addEventListener('message', (event) => {
  const answer = (isKept) => event.ports[0].postMessage(isKept);
  event.waitUntil(keep().then(() => answer(true), () => answer(false)));
});
self.addEventListener('fetch', (event) => {
  const { request } = event;
  const [url] = request.url.split(/[?#]/, 1);
  if (request.method !== 'GET' || !url.startsWith(SCOPE)) return;
  if (request.mode !== 'navigate') event.respondWith(file(request, url));
  else if (url === SCOPE || url === address(PAGE)) event.respondWith(page(request));
});
