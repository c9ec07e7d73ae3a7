// The behaviour of the map of a library. Gradio defines `element` (the component) and `trigger` (sends an event to the
// Python code).
const dots = () => [...element.querySelectorAll(".dot")];
const middle = dot => {
  const box = dot.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
const play = dot => {
  for (const other of dots()) {
    other.tabIndex = other === dot ? 0 : -1;
    other.classList.toggle("played", other === dot);
  }
  trigger("click", {row: Number(dot.dataset.row)});
};
element.addEventListener("click", event => {
  const dot = event.target.closest(".dot");
  if (dot) return play(dot);
  const field = event.target.closest(".dots");
  if (!field) return;
  const distance = dot => Math.hypot(middle(dot)[0] - event.clientX, middle(dot)[1] - event.clientY);
  const nearest = dots().reduce((best, dot) => distance(dot) < distance(best) ? dot : best);
  if (distance(nearest) < 24) play(nearest);
});
element.addEventListener("keydown", event => {
  const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  const from = event.target.closest(".dot");
  if (!way || !from) return;
  event.preventDefault();
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const dot of dots()) {
    const dx = middle(dot)[0] - x, dy = middle(dot)[1] - y;
    const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (dot !== from && ahead > 0 && ahead + 2 * aside < least) { best = dot; least = ahead + 2 * aside; }
  }
  if (best) { from.tabIndex = -1; best.tabIndex = 0; best.focus(); }
});
