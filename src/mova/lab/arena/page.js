"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const SIDES = ["left", "right"];
  const LETTER = { left: "A", right: "B" };
  const MODES = {
    both: { label: "Video and audio", question: "Which video is better, with its audio and how they go together?" },
    sound: { label: "Audio only", question: "Which audio is better?" },
    picture: { label: "Video only", question: "Which video is better, without its audio?" },
  };
  const video = { left: find("left"), right: find("right") };
  const voteButtons = [...document.querySelectorAll("[data-vote]")];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

  let rater = "";
  let mode = "both";
  let order = [];        // indices into data.pairs, as this rater sees them
  let at = 0;            // place in order
  let votes = {};        // mode -> pair id -> line of the votes file
  let skipped = new Set();
  let seen = { left: false, right: false };
  let together = false;
  let run = 0;           // number of the current playing, so that an old one stops when a new one begins
  let shownAt = 0;

  // ---- votes: kept in this browser, downloaded as JSON lines ----

  const storageName = () => "mova-arena:" + data.arena + ":" + rater;

  function load() {
    votes = {};
    try {
      const kept = JSON.parse(localStorage.getItem(storageName()) || "{}");
      for (const name of data.modes) votes[name] = Object.assign({}, kept[name]);
    } catch (error) {
      for (const name of data.modes) votes[name] = {};
      find("unsaved").hidden = false;
    }
  }

  function save() {
    try {
      localStorage.setItem(storageName(), JSON.stringify(votes));
    } catch (error) {
      find("unsaved").hidden = false;
    }
  }

  const allVotes = () => data.modes.flatMap((name) => Object.values(votes[name] || {}));
  const votesText = () => allVotes().map((vote) => JSON.stringify(vote) + "\n").join("");

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([votesText()], { type: "application/jsonl" }));
    link.download = "votes-" + data.arena + "-" + (rater.replace(/[^\p{L}\p{N}]+/gu, "-") || "rater") + ".jsonl";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // ---- order: every rater begins at another place, so that all pairs are judged when some stop early ----

  function offset(text, size) {
    let hash = 0x811c9dc5; // FNV-1a
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    return hash % size;
  }

  function begin() {
    const size = data.pairs.length;
    const start = offset([data.arena, rater, mode].join("|"), size);
    order = data.pairs.map((_, place) => (start + place) % size);
    skipped = new Set();
    const open = order.findIndex((index) => !votes[mode][data.pairs[index].id]);
    find("start").hidden = true;
    find("leave").hidden = false;
    find("place").hidden = false;
    find("who").textContent = rater + " · " + MODES[mode].label.toLowerCase();
    show(open < 0 ? size : open);
  }

  function leave() {
    stop();
    for (const id of ["arena", "done", "place", "leave"]) find(id).hidden = true;
    find("start").hidden = false;
    find("who").textContent = "";
    find("rater").focus();
  }

  // ---- one pair ----

  const pair = () => data.pairs[order[at]];

  function show(place) {
    stop();
    at = place;
    const size = order.length;
    const number = Object.keys(votes[mode]).length;
    find("progress").max = size;
    find("progress").value = number;
    find("download").disabled = allVotes().length === 0;
    const isDone = at >= size;
    find("arena").hidden = isDone;
    find("done").hidden = !isDone;
    find("count").textContent = isDone ? number + " of " + size + " judged" : "Pair " + (at + 1) + " of " + size;
    if (isDone) {
      find("done-text").textContent = number + " votes are kept in this browser" + (skipped.size ? ", " + skipped.size + " pairs were skipped" : "") +
        ". Download them and send the file to whoever asked you.";
      find("done-title").focus();
      return;
    }
    find("prompt").textContent = pair().prompt;
    find("question").textContent = MODES[mode].question;
    find("skip").hidden = true;
    find("back").disabled = at === 0;
    find("together").hidden = mode === "sound";
    find("together").setAttribute("aria-pressed", String(together));
    find("play").lastChild.textContent = "Play";
    const before = votes[mode][pair().id];
    for (const button of voteButtons) button.setAttribute("aria-pressed", String(Boolean(before) && before.vote === button.dataset.vote));
    seen = { left: false, right: false };
    for (const side of SIDES) {
      video[side].src = pair()[side].file;
      video[side].parentElement.querySelector(".cover").hidden = mode !== "sound";
      mark(side, false);
    }
    allowVotes();
    shownAt = performance.now();
    find("question").focus({ preventScroll: true });
    if (calm) say("Press Play.");
    else play();
  }

  function allowVotes() {
    const ready = seen.left && seen.right;
    for (const button of voteButtons) button.disabled = !ready;
    if (ready) {
      find("play").lastChild.textContent = "Play again";
      say("Vote with 1, 2 or 3.");
    }
  }

  function vote(choice) {
    if (find("arena").hidden || !(seen.left && seen.right)) return;
    const name = pair().id;
    votes[mode][name] = {
      arena: data.arena,
      pair: name,
      mode: mode,
      rater: rater,
      vote: choice,
      seconds: Math.round(performance.now() - shownAt) / 1000,
      voted_at: new Date().toISOString(),
    };
    skipped.delete(name);
    save();
    let next = at + 1;
    while (next < order.length && votes[mode][data.pairs[order[next]].id]) next += 1;
    show(next);
  }

  function skip() {
    if (find("skip").hidden || find("arena").hidden) return;
    skipped.add(pair().id);
    show(at + 1);
  }

  function back() {
    if (!find("start").hidden || at === 0) return;
    show(at - 1);
  }

  // ---- playing ----

  const say = (text) => { find("status").textContent = text; };

  function stop() {
    run += 1;
    for (const side of SIDES) {
      video[side].pause();
      mark(side, false);
    }
  }

  function mark(side, isPlaying) {
    find("figure-" + side).classList.toggle("playing", isPlaying);
    find("state-" + side).textContent = isPlaying ? "playing" : seen[side] ? (mode === "sound" ? "heard" : "seen") : "";
  }

  // Plays the given sides at once with the audio of one of them; true when they came to their end.
  async function playOnce(sides, heard, mine) {
    for (const side of sides) {
      const player = video[side];
      player.muted = mode === "picture" || side !== heard;
      player.volume = pair()[side].volume;
      player.currentTime = 0;
      await ready(player);
      if (mine !== run) return false;
    }
    const ends = sides.map((side) => ended(video[side], mine));
    for (const side of sides) mark(side, true);
    try {
      await Promise.all(sides.map((side) => video[side].play()));
    } catch (error) {
      if (mine === run && error.name === "NotAllowedError") say("Press Play.");
      if (error.name === "NotAllowedError" || mine !== run) { unmark(sides, mine); return false; }
    }
    const finished = (await Promise.all(ends)).every(Boolean) && mine === run;
    unmark(sides, mine);
    return finished;
  }

  function unmark(sides, mine) {
    if (mine === run) for (const side of sides) mark(side, false);
  }

  const ready = (player) => new Promise((resolve) => {
    if (player.error || (player.readyState >= 3 && !player.seeking)) return resolve();
    const done = () => { if (player.error || (player.readyState >= 3 && !player.seeking)) { clear(); resolve(); } };
    const names = ["canplay", "seeked", "error", "emptied"];
    const clear = () => names.forEach((name) => player.removeEventListener(name, done));
    names.forEach((name) => player.addEventListener(name, done));
  });

  const ended = (player, mine) => new Promise((resolve) => {
    const finish = (event) => {
      for (const name of ["ended", "error", "emptied", "pause"]) player.removeEventListener(name, finish);
      resolve(event.type === "ended" || (event.type === "pause" && player.ended));
    };
    if (player.error) return resolve(false);
    for (const name of ["ended", "error", "emptied"]) player.addEventListener(name, finish);
    player.addEventListener("pause", (event) => { if (mine !== run) finish(event); }, { once: true });
  });

  async function play() {
    if (find("arena").hidden) return;
    stop();
    const mine = run;
    let passes = [[["left"], "left"], [["right"], "right"]];
    if (together && mode === "picture") passes = [[SIDES, null]];
    if (together && mode === "both") passes = [[SIDES, "left"], [SIDES, "right"]];
    for (const [sides, heard] of passes) {
      const what = sides.length > 1 ? (heard ? "Both videos, with the audio of " + LETTER[heard] + "." : "Both videos.") : "Video " + LETTER[heard] + ".";
      say(what);
      const finished = await playOnce(sides, heard, mine);
      if (mine !== run) return;
      if (!finished) return;
      for (const side of heard ? [heard] : sides) {
        seen[side] = true;
        mark(side, false);
      }
    }
    allowVotes();
  }

  function failed(side) {
    if (find("arena").hidden || !video[side].error) return;
    stop();
    find("skip").hidden = false;
    say("Video " + LETTER[side] + " cannot be played in this browser. Skip this pair, or try another browser.");
  }

  function toggleTogether() {
    if (find("arena").hidden || mode === "sound") return;
    together = !together;
    find("together").setAttribute("aria-pressed", String(together));
    play();
  }

  // ---- wiring ----

  data.modes.forEach((name, number) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "mode", value: name, checked: number === 0 });
    label.append(input, " " + MODES[name].label);
    find("modes").append(label);
  });

  find("start").addEventListener("submit", (event) => {
    event.preventDefault();
    rater = find("rater").value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").replace(/\p{Zs}+/gu, " ").trim();
    if (!rater) {
      find("start-status").textContent = "A name is needed.";
      find("rater").focus();
      return;
    }
    find("start-status").textContent = "";
    mode = document.querySelector("[name=mode]:checked").value;
    load();
    begin();
  });
  for (const button of voteButtons) button.addEventListener("click", () => vote(button.dataset.vote));
  for (const side of SIDES) video[side].addEventListener("error", () => failed(side));
  find("play").addEventListener("click", play);
  find("together").addEventListener("click", toggleTogether);
  find("back").addEventListener("click", back);
  find("look-back").addEventListener("click", back);
  find("skip").addEventListener("click", skip);
  find("download").addEventListener("click", download);
  find("leave").addEventListener("click", leave);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input")) return;
    const actions = {
      1: () => vote("left"), 2: () => vote("tie"), 3: () => vote("right"),
      r: play, t: toggleTogether, s: skip, backspace: back,
    };
    const action = actions[event.key.toLowerCase()];
    if (action && find("start").hidden) {
      event.preventDefault();
      action();
    }
  });
})();
