// Follows the run, and shows what is chosen, by putting fresh parts of the page in the place of old ones. All that is
// chosen stands in the query of the address, so that it can be kept, sent, and read by the server.
"use strict";
(() => {
  const QUIET = 30000; // without any event in it, the connection is lost
  const SOONEST = 1000; // between two looks at what is new
  const LONGEST = 10000; // between two tries to connect

  const byId = (id) => document.getElementById(id);
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const chosen = () => new URLSearchParams(location.search);

  document.documentElement.classList.add("scripted");

  // Parts.

  let isStale = false; // the list of samples

  const put = (name, text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html").body.children;
    for (const part of [...fresh]) {
      const old = byId(part.id);
      if (!old) continue;
      for (const details of old.querySelectorAll("details[open]")) {
        part.querySelector(`#${details.id}`)?.setAttribute("open", "");
      }
      if (old.outerHTML === part.outerHTML) continue;
      // What is listed stays, and is listed again where it is of another step now.
      if (name === "live" && part.id === "sample-list" && !old.querySelector(".unlisted")) {
        isStale ||= old.dataset.step !== part.dataset.step;
        continue;
      }
      // A form that somebody is at stays as it is.
      if (part.id.endsWith("-form") && old.contains(document.activeElement)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      const scrolled = [...old.querySelectorAll(".scroll")].map((region) => [region.scrollLeft, region.scrollTop]);
      old.replaceWith(document.adoptNode(part));
      part.querySelectorAll(".scroll").forEach((region, place) => {
        [region.scrollLeft, region.scrollTop] = scrolled[place] ?? [0, 0];
      });
      if (focused) byId(focused)?.focus({ preventScroll: true });
    }
    showSlider();
    announce();
  };

  const loading = new Map();

  // The part for what is chosen now; an older question for the same part is given up.
  const load = async (name, more = {}) => {
    loading.get(name)?.abort();
    const asked = new AbortController();
    loading.set(name, asked);
    const query = chosen().toString();
    const asks = new URLSearchParams({ ...more, ...Object.fromEntries(chosen()) });
    const answer = await fetch(`/parts/${name}?${asks}`, { signal: asked.signal, cache: "no-store" });
    const text = await answer.text();
    if (!answer.ok) throw new Error(JSON.parse(text).error ?? answer.statusText);
    if (loading.get(name) !== asked) return;
    // What was chosen meanwhile may stand in it as it was before.
    if (query === chosen().toString()) put(name, text);
    else await load(name, more);
  };

  const loadInto = async (name, id, more) => {
    const place = byId(id);
    place.setAttribute("aria-busy", "true");
    try {
      await load(name, more);
    } catch (error) {
      if (error.name === "AbortError") return;
      const said = document.createElement("p");
      said.className = "refusal";
      said.textContent = error instanceof TypeError ? "convergd does not answer." : `${error.message}.`;
      byId(id).replaceChildren(said);
    }
    byId(id).removeAttribute("aria-busy");
  };

  const choose = (changes) => {
    const query = chosen();
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) query.delete(name);
      else query.set(name, value);
    }
    history.replaceState(null, "", `${location.pathname}?${query}`);
  };

  // What is new is announced in one sentence, and only when it is another.
  const announce = () => {
    const said = byId("state").dataset.headline;
    const place = byId("announcement");
    if (place.textContent !== said) place.textContent = said;
  };

  // The slider.

  const slider = byId("pair-choice");

  const showSlider = () => {
    const { count, place, step } = byId("strength-figure").dataset;
    if (place === undefined) return;
    const isMoved = slider.matches(":active") || asking;
    slider.max = count - 1;
    slider.disabled = count < 2;
    if (isMoved) return;
    slider.value = place;
    slider.setAttribute("aria-valuetext", step);
    byId("pair-shown").value = step;
  };

  let wanted = null;
  let asking = false;
  slider.addEventListener("input", async () => {
    // At its end it goes on with the run.
    wanted = Number(slider.value) === Number(slider.max) ? null : slider.value;
    choose({ pair: wanted });
    if (asking) return;
    asking = true;
    let shown;
    do {
      shown = wanted;
      await loadInto("strength", "strength-figure");
    } while (shown !== wanted);
    asking = false;
    showSlider();
  });

  // Other choices.

  const showMonitor = (monitor) => {
    choose({ monitor });
    byId("monitor-choice").value = monitor;
    return loadInto("monitor", "monitor-figure");
  };

  document.addEventListener("change", (event) => {
    if (event.target.id === "monitor-choice") showMonitor(event.target.value);
  });

  const list = (changes) => {
    choose(changes);
    return loadInto("samples", "sample-list");
  };

  const explain = async (step, sample) => {
    choose({ step, sample });
    for (const link of byId("sample-list").querySelectorAll("a[data-sample]")) {
      const isIt = link.dataset.sample === sample;
      link.closest("li").classList.toggle("chosen", isIt);
      if (isIt) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    await loadInto("sample", "sample");
    const heading = byId("sample-heading");
    heading?.focus({ preventScroll: true });
    heading?.scrollIntoView({ block: "start" });
  };

  document.addEventListener("submit", (event) => {
    event.preventDefault();
    const data = new FormData(event.target);
    if (data.has("step")) {
      byId("sample").replaceChildren();
      list({ step: data.get("step"), samples: 0, sample: null });
    }
  });

  // Links within the page lead to what they would without a script.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const target = new URL(link.href);
    if (target.origin !== location.origin || target.pathname !== location.pathname || !target.search) return;
    event.preventDefault();
    const query = target.searchParams;
    if (link.closest("#panels")) {
      showMonitor(query.get("monitor"));
      byId("monitors").scrollIntoView({ block: "start" });
      byId("monitor-choice").focus({ preventScroll: true });
    } else if (link.dataset.sample !== undefined) {
      explain(query.get("step"), query.get("sample"));
    } else if (query.has("samples")) {
      list({ samples: query.get("samples"), ...(query.has("step") && { step: query.get("step") }) });
    }
  });

  // Samples are extracted for those who look at them.
  let isInSight = false;
  const listIfWanted = () => {
    const isWanted = isStale || byId("sample-list").querySelector(".unlisted");
    if (!isInSight || !isWanted || !byId("step-choice")) return;
    isStale = false;
    loadInto("samples", "sample-list", { samples: 0 });
  };
  const watcher = new IntersectionObserver((entries) => {
    isInSight = entries.at(-1).isIntersecting;
    listIfWanted();
  });
  watcher.observe(byId("samples"));

  // The run.

  const connection = byId("connection");
  let seen = new Date();
  let isNew = false;
  let isLooking = false;

  const say = (state, text) => {
    document.body.dataset.connection = state;
    if (connection.textContent !== text) connection.textContent = text;
  };

  let isConnected = false;

  const sayConnected = () => {
    if (isConnected) say("live", byId("state").dataset.over === undefined ? "Live" : "Connected; the run is over");
  };

  const at = () => seen.toLocaleTimeString();

  const look = async () => {
    if (isLooking) return;
    isLooking = true;
    while (isNew && !document.hidden) {
      isNew = false;
      try {
        await load("live");
        seen = new Date();
        sayConnected();
        listIfWanted();
      } catch (error) {
        // The next event, or the next connection, asks again.
        if (error.name !== "AbortError" && isConnected) say("lost", `No fresh state; this is the state of ${at()}`);
      }
      await wait(SOONEST);
    }
    isLooking = false;
  };

  const wake = () => {
    isNew = true;
    look();
  };

  let shownRun = null;
  let delay = SOONEST;
  let hangUp = null; // while there is a connection
  let hasEnded = false;

  // A page that nobody sees holds no connection, of which a browser has few.
  const connect = () => {
    if (hangUp || document.hidden) return;
    const events = new EventSource("/events");
    let silence;

    hangUp = () => {
      hangUp = null;
      isConnected = false;
      clearTimeout(silence);
      events.close();
    };

    const lose = () => {
      if (!hangUp) return;
      hangUp();
      say(
        hasEnded ? "ended" : "lost",
        hasEnded ? `convergd has ended; this is its last state, of ${at()}` : `Connection lost; this is the state of ${at()}`,
      );
      setTimeout(connect, delay);
      delay = Math.min(2 * delay, LONGEST);
    };

    const hear = () => {
      clearTimeout(silence);
      silence = setTimeout(lose, QUIET);
    };

    events.addEventListener("hello", (event) => {
      // Another run, or another version of this page.
      if (shownRun !== null && shownRun !== event.data) location.reload();
      shownRun = event.data;
      delay = SOONEST;
      hasEnded = false;
      isConnected = true;
      sayConnected();
      hear();
      wake();
    });
    for (const name of ["pair", "decision", "state"]) {
      events.addEventListener(name, () => {
        hear();
        wake();
      });
    }
    events.addEventListener("beat", hear);
    events.addEventListener("end", () => {
      hasEnded = true;
      lose();
    });
    events.addEventListener("error", lose);
    hear();
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hangUp?.();
    else connect();
  });

  say("connecting", "Connecting");
  connect();
})();
