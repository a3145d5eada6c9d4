"use strict";
(() => {
  const age = document.getElementById("age");
  if (age) {
    const say = () => {
      const minutes = Math.floor((Date.now() - Date.parse(age.dataset.init)) / 60000);
      const old = minutes > 60 * Number(age.dataset.limit);
      const hours = Math.floor(minutes / 60);
      const long = hours < 48 ? hours + " h " + (minutes % 60) + " min" : Math.floor(hours / 24) + " days";
      age.textContent = old ? "OLD: started " + long + " ago. Newer ones should be here." : "Started " + long + " ago.";
      age.classList.toggle("old", old);
    };
    say();
    setInterval(say, 30000);
  }

  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const data = JSON.parse(viewer.dataset.content);
  const map = document.getElementById("map");
  const slider = document.getElementById("lead");
  const clock = document.getElementById("clock");
  const highest = document.getElementById("highest");
  const warnings = document.getElementById("warnings");
  const play = document.getElementById("play");
  const at = { field: 0, kind: 0, lead: 0 };
  let timer = 0;

  const find = (lead, kind = at.kind) => data.pictures[
    data.fields[at.field].name + " " + data.kinds[kind].name + " " + data.leads[lead].hours];

  const show = () => {
    const field = data.fields[at.field];
    const lead = data.leads[at.lead];
    const drawn = data.kinds.map((_, kind) => Boolean(find(at.lead, kind)));
    if (!drawn[at.kind] && drawn.includes(true)) at.kind = drawn.indexOf(true);
    const picture = find(at.lead);
    if (picture) {
      map.width = picture.width;
      map.height = picture.height;
      map.src = picture.name;
      map.alt = picture.alt;
    }
    map.hidden = !picture;
    slider.value = String(at.lead);
    slider.setAttribute("aria-valuetext", lead.hours + " hours ahead");
    clock.textContent = lead.hours + " h ahead, valid " + lead.valid + " UTC";
    highest.textContent = field.highest;
    warnings.replaceChildren(...data.warnings[field.name + " " + lead.hours].map((sentence) => {
      const line = document.createElement("p");
      line.textContent = sentence;
      return line;
    }));
    for (const group of ["field", "kind"]) {
      document.querySelectorAll("[data-" + group + "]").forEach((button, number) => {
        button.setAttribute("aria-pressed", String(number === at[group]));
        button.disabled = group === "kind" && !drawn[number];
      });
    }
    const next = find((at.lead + 1) % data.leads.length);
    if (next) new Image().src = next.name;
    history.replaceState(null, "", "#" + field.name + "," + data.kinds[at.kind].name + "," + lead.hours);
  };

  const turn = (group, count, step) => {
    at[group] = (at[group] + step + count) % count;
    show();
  };

  const loop = (on) => {
    clearInterval(timer);
    timer = on ? setInterval(() => turn("lead", data.leads.length, 1), 700) : 0;
    if (play) {
      play.textContent = on ? "Stop" : "Loop";
      play.setAttribute("aria-pressed", String(on));
    }
  };

  for (const group of ["field", "kind"]) {
    document.querySelectorAll("[data-" + group + "]").forEach((button, number) => {
      button.addEventListener("click", () => { at[group] = number; show(); });
    });
  }
  slider.addEventListener("input", () => { loop(false); at.lead = Number(slider.value); show(); });
  if (play) play.addEventListener("click", () => loop(!timer));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      loop(false);
      turn("lead", data.leads.length, event.key === "ArrowRight" ? 1 : -1);
    } else if (event.key === "f" || event.key === "F") {
      turn("field", data.fields.length, event.key === "f" ? 1 : -1);
    } else if (Number(event.key) >= 1 && Number(event.key) <= data.kinds.length) {
      at.kind = Number(event.key) - 1;
      show();
    } else if (event.key === "l" && data.leads.length > 1) {
      loop(!timer);
    } else {
      return;
    }
    event.preventDefault();
  });

  const wanted = decodeURIComponent(location.hash.slice(1)).split(",");
  if (wanted.length === 3) {
    at.field = Math.max(0, data.fields.findIndex((one) => one.name === wanted[0]));
    at.kind = Math.max(0, data.kinds.findIndex((one) => one.name === wanted[1]));
    at.lead = Math.max(0, data.leads.findIndex((one) => String(one.hours) === wanted[2]));
  }
  viewer.hidden = false;
  show();
})();
