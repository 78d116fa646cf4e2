// Shows a page of our own when the server cannot be reached. Nothing else is kept: what the dashboard shows is of now.
const KEPT = "omniroute-offline";

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.add(new Request("offline", { cache: "reload" }))));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => { event.waitUntil(self.clients.claim()); });

self.addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate" || event.request.method !== "GET") return;
  event.respondWith(fetch(event.request).catch(async () => (await caches.match("offline")) || Response.error()));
});
