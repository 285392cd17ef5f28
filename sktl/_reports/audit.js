"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const findings = [...document.querySelectorAll(".finding")];
  const sections = [...document.querySelectorAll("section[data-kind]")];
  const cards = new Map(findings.map((finding) => [finding, [...finding.querySelectorAll(".card")]]));
  const cardsIn = (finding) => cards.get(finding);
  const actions = [["keep", "e", "K", "e", "ep"], ["drop", "d", "", "D", "rop"]];
  if (data.classes.length || data.kind === "numbers") actions.push(["relabel", "r", "", "R", "elabel"]);
  // A test image without numbers has no row in which a number could be changed.
  const canRelabel = (image) => data.kind !== "numbers" || data.images[image][3].length > 0;
  document.documentElement.classList.add("js");

  // ------------------------------------------------------------------------------------------------ decisions
  // Number of an image -> {decision, label}. `history` holds what undo restores: [image, decision before].
  const decisions = new Map();
  const history = [];
  const cardsOf = new Map();
  for (const card of document.querySelectorAll(".card")) {
    const image = Number(card.dataset.image);
    if (!cardsOf.has(image)) cardsOf.set(image, []);
    cardsOf.get(image).push(card);
  }

  // Browsers may refuse to keep anything, above all for files; reading the attribute is then an error already.
  let isKept = true;
  function stored(action) {
    try {
      return action(window.localStorage);
    } catch {
      isKept = false;
      find("storage-note").hidden = false;
      find("storage-note").textContent =
        "This browser does not keep decisions for this page. Download them before you close it.";
      return null;
    }
  }
  function isDecision(value) {
    return Array.isArray(value) && Number.isInteger(value[0]) && data.images[value[0]] &&
      ["keep", "drop", "relabel"].includes(value[1]) && typeof value[2] === "string";
  }
  function restore() {
    let kept = [];
    try {
      kept = JSON.parse(stored((storage) => storage.getItem(data.key)) ?? "[]");
    } catch {
      kept = []; // written by something else
    }
    decisions.clear();
    for (const [image, decision, label] of (Array.isArray(kept) ? kept : []).filter(isDecision)) {
      decisions.set(image, { decision, label });
    }
  }
  let isDownloaded = true;
  function keepAll() {
    const rows = [...decisions].map(([image, { decision, label }]) => [image, decision, label]);
    stored((storage) => storage.setItem(data.key, JSON.stringify(rows)));
  }
  function set(image, value) {
    if (value) decisions.set(image, value);
    else decisions.delete(image);
    isDownloaded = decisions.size === 0;
    keepAll();
    show(image);
    count();
  }
  function decide(image, decision, label = "") {
    const before = decisions.get(image);
    const isSame = before && before.decision === decision && before.label === label;
    history.push([image, before]);
    set(image, isSame ? undefined : { decision, label });
  }
  function undo() {
    if (!history.length) return;
    const [image, before] = history.pop();
    set(image, before);
    const card = active && Number(active.dataset.image) === image ? active : cardsOf.get(image)[0];
    if (!card.closest(".finding").hidden) activate(card);
  }

  // ------------------------------------------------------------------------------------------------ what is shown
  // As the page shows names: characters that would turn the order of letters around are marks.
  const plain = (text) => text.slice(0, 400).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\ufffd");
  const words = {
    keep: () => "Keep",
    drop: () => "Drop",
    relabel: (label) => `Relabel: ${plain(label) || "no label"}`,
  };
  function show(image) {
    const value = decisions.get(image);
    for (const card of cardsOf.get(image)) {
      const finding = card.closest(".finding");
      if (value) card.dataset.decision = value.decision;
      else delete card.dataset.decision;
      if (isDecided(finding)) decided.add(finding);
      else decided.delete(finding);
      card.querySelector(".decision").textContent = value ? words[value.decision](value.label) : "";
      for (const button of card.querySelectorAll("[data-do]")) {
        button.setAttribute("aria-pressed", String(value?.decision === button.dataset.do));
      }
    }
  }
  // A pair is decided when one image goes or gets another label, or both stay.
  function isDecided(finding) {
    const values = cardsIn(finding).map((card) => card.dataset.decision);
    return values.some((value) => value === "drop" || value === "relabel") || values.every((value) => value === "keep");
  }
  const decided = new Set();
  const toDecide = findings.filter((finding) => cardsIn(finding).length);
  function count() {
    const numbers = { keep: 0, drop: 0, relabel: 0 };
    for (const { decision } of decisions.values()) numbers[decision] += 1;
    const [n, of] = [decided.size, toDecide.length].map((number) => number.toLocaleString("en"));
    find("counter").textContent =
      `${n} of ${of} decided: ${numbers.keep} keep, ${numbers.drop} drop, ${numbers.relabel} relabel`;
    find("undo").disabled = !history.length;
    find("download").disabled = !decisions.size;
  }
  // Buttons of thousands of findings would take seconds, so they are made when a finding comes near the window.
  function equip(finding) {
    if (finding.dataset.equipped) return;
    finding.dataset.equipped = "true";
    for (const card of cardsIn(finding)) {
      for (const [name, key, before, letter, after] of actions) {
        if (name === "relabel" && !canRelabel(Number(card.dataset.image))) continue;
        const button = document.createElement("button");
        const underlined = document.createElement("u");
        underlined.textContent = letter;
        button.append(before, underlined, after);
        button.type = "button";
        button.dataset.do = name;
        button.setAttribute("aria-keyshortcuts", key);
        card.querySelector(".buttons").append(button);
      }
      show(Number(card.dataset.image));
    }
  }
  const nearby = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) equip(entry.target);
    }
  }, { rootMargin: "1000px" });
  findings.forEach((finding) => nearby.observe(finding));

  // ------------------------------------------------------------------------------------------------ filters
  let kind = "";
  const namesIn = (finding) => cardsIn(finding).map((card) => data.images[card.dataset.image][2]).join("\n");
  const textOf = new Map(findings.map((one) => [one, `${one.textContent}\n${namesIn(one)}`.toLowerCase()]));
  function filter() {
    const sought = find("search").value.toLowerCase();
    const undecided = find("undecided").checked;
    let n = 0;
    for (const section of sections) {
      const isWanted = !kind || section.dataset.kind === kind;
      let ofSection = 0;
      for (const finding of section.querySelectorAll(".finding")) {
        const isShown = isWanted && textOf.get(finding).includes(sought) && !(undecided && decided.has(finding));
        finding.hidden = !isShown;
        ofSection += isShown;
      }
      section.hidden = !ofSection;
      n += ofSection;
    }
    find("nothing").hidden = n > 0 || !findings.length;
    find("nothing").textContent = "No finding matches.";
    for (const button of document.querySelectorAll(".kinds button")) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    }
  }

  // ------------------------------------------------------------------------------------------------ moving
  let active = null;
  function activate(card) {
    active = card;
    equip(card.closest(".finding"));
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }
  const visible = () => toDecide.filter((finding) => !finding.hidden);
  function move(step) {
    const all = visible();
    const at = active ? all.indexOf(active.closest(".finding")) : step > 0 ? -1 : all.length;
    if (all[at + step]) activate(cardsIn(all[at + step])[0]);
  }
  // After the last finding, the search goes on with the first.
  function moveToUndecided() {
    const all = visible();
    const after = all.indexOf(active?.closest(".finding")) + 1;
    const next = [...all.slice(after), ...all.slice(0, after)].find((finding) => !decided.has(finding));
    if (next) activate(cardsIn(next)[0]);
  }
  function turn(step) {
    if (!active) return;
    const pair = cardsIn(active.closest(".finding"));
    const card = pair[pair.indexOf(active) + step];
    if (card) activate(card);
  }
  // After a decision by key: to the other image of a pair if that is still to be decided, else to the next finding.
  function advance() {
    const finding = active.closest(".finding");
    const open = cardsIn(finding).find((card) => !card.dataset.decision);
    if (decided.has(finding)) move(1);
    else if (open) activate(open);
  }
  function act(card, name, byKey) {
    active = card;
    const image = Number(card.dataset.image);
    if (name === "relabel") {
      if (canRelabel(image)) choose(image, byKey);
    } else {
      decide(image, name);
      if (byKey) advance();
    }
  }

  // ------------------------------------------------------------------------------------------------ relabel
  const dialog = find("dialog");
  const allCodes = [...data.classes.keys()];
  let choosing = null;
  function choose(image, byKey) {
    const [, , name, own, suggestions] = data.images[image];
    choosing = { image, byKey };
    find("dialog-name").textContent = plain(name);
    const picture = active.querySelector("img");
    find("dialog-picture").replaceChildren(...(picture ? [picture.cloneNode()] : []));
    const control = { labels: boxes, numbers: fields }[data.kind] ?? list;
    find("dialog-choice").replaceChildren(control(own, suggestions));
    dialog.showModal();
    const first = find("dialog-choice").querySelector("select, input");
    first.focus();
    if (data.kind === "numbers") first.select(); // a typed number replaces the suggested one
  }
  function chosenBefore() {
    const value = decisions.get(choosing.image);
    return value?.decision === "relabel" ? value.label : null;
  }
  function list(own, suggestions) {
    const select = document.createElement("select");
    const suggested = suggestions.flat().filter((code) => !own.includes(code));
    const others = allCodes.filter((code) => !suggested.includes(code) && !own.includes(code));
    for (const code of [...suggested, ...others]) {
      const hint = suggested.includes(code) ? " (suggested)" : "";
      select.add(new Option(plain(data.classes[code]) + hint, String(code)));
    }
    select.size = Math.min(Math.max(select.options.length, 2), 10);
    select.setAttribute("aria-label", "New label");
    const code = data.classes.indexOf(chosenBefore());
    select.selectedIndex = Math.max(0, [...select.options].findIndex((option) => option.value === String(code)));
    return select;
  }
  function boxes(own, suggestions) {
    const group = document.createElement("div");
    const before = chosenBefore();
    const suggested = suggestions[0] ?? own;
    const changed = allCodes.filter((code) => suggested.includes(code) !== own.includes(code));
    const order = [...new Set([...changed, ...suggested, ...own, ...allCodes])];
    for (const code of order) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = String(code);
      const isSuggested = suggested.includes(code);
      box.checked = before === null ? isSuggested : `, ${before}, `.includes(`, ${data.classes[code]}, `);
      const hint = isSuggested === own.includes(code) ? "" : isSuggested ? " (suggested)" : " (suggested: no)";
      label.append(box, " ", plain(data.classes[code]) + hint);
      group.append(label);
    }
    return group;
  }
  function fields(own, suggestions) {
    const group = document.createElement("div");
    const suggested = suggestions[0] ?? own;
    const shown = chosenBefore()?.split(", ") ?? suggested;
    own.forEach((_, k) => {
      const label = document.createElement("label");
      const field = document.createElement("input");
      field.type = "number";
      field.step = "any";
      field.required = true;
      field.value = shown[k] ?? "";
      label.append(own.length > 1 ? `New number ${k + 1} ` : "New number ", field);
      if (suggestions.length) label.append(` (suggested: ${suggested[k]})`);
      group.append(label);
    });
    return group;
  }
  function chosenLabel() {
    const numbers = [...find("dialog-choice").querySelectorAll("input[type=number]")];
    if (!numbers.every((field) => field.reportValidity())) return undefined;
    if (numbers.length) return numbers.map((field) => field.value).join(", ");
    const select = find("dialog-choice").querySelector("select");
    if (select) return select.value === "" ? null : data.classes[Number(select.value)];
    const codes = [...find("dialog-choice").querySelectorAll("input:checked")].map((box) => Number(box.value));
    return codes.sort((a, b) => a - b).map((code) => data.classes[code]).join(", ");
  }
  function relabel() {
    const label = chosenLabel();
    if (label === undefined) return; // the dialog stays open for a valid number
    const { image, byKey } = choosing;
    dialog.close();
    if (label === null) return;
    const before = decisions.get(image);
    if (before?.decision !== "relabel" || before.label !== label) decide(image, "relabel", label);
    if (byKey) advance();
  }
  dialog.addEventListener("close", () => active?.focus({ preventScroll: true }));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
      event.preventDefault();
      relabel();
    }
  });
  find("dialog-choice").addEventListener("dblclick", (event) => event.target.closest("option") && relabel());
  find("dialog-ok").addEventListener("click", relabel);
  find("dialog-cancel").addEventListener("click", () => dialog.close());

  // ------------------------------------------------------------------------------------------------ download
  // Spreadsheets run cells that begin with these as formulas. An apostrophe in front makes them text; it is put in
  // front of apostrophes, too, so that apply_decisions can remove it without doubt.
  const FORMULA = /^[=+\-@\t\r\n'\uff1d\uff0b\uff0d\uff20]/;
  function cell(value) {
    const text = String(value);
    const safe = FORMULA.test(text) ? `'${text}` : text;
    return /[",;\r\n\t]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }
  function csv() {
    const rows = [...decisions].map(([image, { decision, label }]) => {
      const [part, position, name] = data.images[image];
      return [part, position, name, decision, label, data.n_images[part], data.contents[image]];
    });
    rows.sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] === "train" ? -1 : 1));
    const heading = ["part", "position", "name", "decision", "label", "n_images", "content"];
    return [heading, ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
  }
  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not at once: the browser has to read it first
    isDownloaded = true;
  }

  // ------------------------------------------------------------------------------------------------ events
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const card = event.target.closest(".card");
    if (card && button?.dataset.do) act(card, button.dataset.do, false);
    else if (card) active = card;
    else if (button && "kind" in button.dataset) {
      kind = button.dataset.kind;
      filter();
    }
  });
  document.addEventListener("focusin", (event) => {
    active = event.target.closest(".card") ?? active;
  });
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    ArrowLeft: () => turn(-1), ArrowRight: () => turn(1),
    n: moveToUndecided, u: undo,
  };
  // Not while a key is held down, which would decide about one image after the other.
  for (const [name, key] of actions) {
    keys[key] = (event) => !event.repeat && active && !active.closest(".finding").hidden && act(active, name, true);
  }
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input[type=search], select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping || dialog.open) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    keys[key](event);
  });
  find("undo").addEventListener("click", undo);
  find("download").addEventListener("click", download);
  find("search").addEventListener("input", filter);
  find("undecided").addEventListener("change", filter);
  // The same page in another tab.
  window.addEventListener("storage", (event) => {
    if (event.key !== data.key) return;
    restore();
    for (const image of cardsOf.keys()) show(image);
    count();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!isKept && !isDownloaded) event.preventDefault();
  });

  restore();
  for (const image of decisions.keys()) show(image);
  count();
})();
