/** Tabs by the ARIA pattern: arrow keys move between them, Tab leaves them. opened: is told the id of a tab. */
export function bindTabs(list: HTMLElement, opened: (id: string) => void): void {
  const tabs = [...list.querySelectorAll<HTMLButtonElement>("[role=tab]")];
  const open = (tab: HTMLButtonElement) => {
    for (const each of tabs) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.classList.toggle("selected", chosen);
      each.tabIndex = chosen ? 0 : -1;
      document.getElementById(each.getAttribute("aria-controls")!)!.hidden = !chosen;
    }
    opened(tab.id);
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      const next = step ? tabs[(i + step + tabs.length) % tabs.length] : { Home: tabs[0], End: tabs.at(-1) }[key];
      if (!next) return;
      open(next);
      next.focus();
    });
  });
  open(tabs[0]!);
}
