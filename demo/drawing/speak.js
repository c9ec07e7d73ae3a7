// Tells screen readers the newest answer in short. Gradio defines `element` (the component), whose content is replaced
// by each answer; a live region must exist before its text changes.
const status = document.createElement("p");
status.className = "only-spoken";
status.setAttribute("role", "status");
status.setAttribute("aria-live", "polite");
element.parentElement.append(status);
const speak = () => {
  const text = element.querySelector("[data-spoken]")?.dataset.spoken ?? "";
  if (status.textContent !== text) status.textContent = text;
};
// Gradio changes the content in place where it can.
new MutationObserver(speak).observe(element, { childList: true, subtree: true, attributeFilter: ["data-spoken"] });
