// The page keeps itself for a time without a network.

// Resolves to true once the service worker has kept all that this version of the page needs; to false where that cannot be.
export async function keepOffline(version) {
  if (!navigator.serviceWorker) return false; // neither https nor this computer
  try {
    const registration = await navigator.serviceWorker.register('sw.js');
    await registration.update().catch(() => {}); // what was there may be of another version; without a network, it is what there is
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    if (!(await activated(worker))) return false;
    const name = `slimnet-site ${registration.scope} ${version}`;
    return (await caches.has(name)) || (await keepAgain(worker));
  } catch {
    return false; // the browser or the host does not allow it
  }
}

// What was kept may have been thrown away since the worker was installed.
function keepAgain(worker) {
  const { port1, port2 } = new MessageChannel();
  worker.postMessage('keep', [port2]);
  return new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data);
  });
}

function activated(worker) {
  return new Promise((resolve) => {
    const look = () => {
      if (worker.state === 'activated' || worker.state === 'redundant') resolve(worker.state === 'activated');
    };
    worker.addEventListener('statechange', look);
    look();
  });
}
