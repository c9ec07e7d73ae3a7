/** The player of a recording: a line at the playback position, and clicks that play from a place (demo/player.js). */

export class Player {
  private url = "";

  constructor(
    private readonly audio: HTMLAudioElement,
    page: HTMLElement,
  ) {
    page.addEventListener("click", ({ target, clientX }) => this.seek(target as Element, clientX));
    const follow = () => {
      const picture = page.querySelector<HTMLElement>(".picture");
      const share = Math.min(this.audio.currentTime / Number(picture?.dataset.seconds ?? 1), 1);
      picture?.style.setProperty("--playhead", `${100 * share}%`);
      if (!this.audio.paused) requestAnimationFrame(follow);
    };
    for (const event of ["play", "seeked", "timeupdate"]) this.audio.addEventListener(event, follow);
  }

  load(file: Blob): string {
    URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
    this.audio.hidden = false;
    return this.url;
  }

  private seek(target: Element, clientX: number): void {
    const item = target.closest<HTMLElement>("[data-seek]");
    const axis = target.closest<HTMLElement>(".picture .plot, .strip");
    if ((!item && !axis) || this.audio.hidden) return;
    if (item) {
      this.audio.currentTime = Number(item.dataset.seek);
    } else {
      const box = axis!.getBoundingClientRect();
      const seconds = Number(axis!.dataset.seconds ?? axis!.closest<HTMLElement>(".picture")!.dataset.seconds);
      const wanted = ((clientX - box.left) / box.width) * seconds;
      this.audio.currentTime = Math.min(wanted, (this.audio.duration || wanted) - 0.01);
    }
    void this.audio.play().catch(() => undefined); // a click on another sound has stopped it
  }
}
