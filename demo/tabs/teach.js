// The answers of the tab "Teach": a click on a button, or its key. Gradio defines `element` (the component), whose
// content it changes in place, and `trigger` (sends an event to the Python code).
let sent = null;  // the question that was answered last: a second answer to it is not sent
const send = button => {
  const step = element.querySelector("[data-step]")?.dataset.step;
  if (!button || step === sent) return;
  sent = step;
  trigger("click", { answer: button.dataset.answer });
};
element.addEventListener("click", event => send(event.target.closest("[data-answer]")));
document.addEventListener("keydown", event => {
  const typing = event.target.closest?.("input, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !element.checkVisibility()) return;
  const button = element.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!button) return;
  event.preventDefault();
  send(button);
});
