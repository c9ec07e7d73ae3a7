// The player of "Name that sound": a line at the playback position, and clicks that play from a place.
(() => {
  const player = () => {  // Gradio draws the waveform, and its audio element, inside a shadow root
    for (const node of document.querySelectorAll("#sound [id=waveform], #sound [id=waveform] *")) {
      const found = node.tagName === "AUDIO" ? node : node.shadowRoot?.querySelector("audio");
      if (found) return found;
    }
    return document.querySelector("#sound audio");  // that of a long recording, without a waveform
  };
  const follow = () => {
    const picture = document.querySelector(".picture");
    const sound = picture && player();
    if (sound) {
      const share = Math.min(sound.currentTime / Number(picture.dataset.seconds), 1);
      const place = 100 * share + "%";
      if (picture.style.getPropertyValue("--playhead") !== place) picture.style.setProperty("--playhead", place);
    }
    if (sound && !sound.paused) requestAnimationFrame(follow);
    else setTimeout(follow, 200);
  };
  follow();
  document.addEventListener("click", event => {
    const item = event.target.closest?.("[data-seek]");
    const axis = event.target.closest?.(".picture .plot, .strip");
    const sound = (item || axis) && player();
    if (!sound) return;
    if (item) {
      sound.currentTime = Number(item.dataset.seek);
    } else {
      const box = axis.getBoundingClientRect();
      const seconds = Number(axis.dataset.seconds ?? axis.closest(".picture").dataset.seconds);
      sound.currentTime = Math.min((event.clientX - box.left) / box.width * seconds, sound.duration - 0.01);
    }
    sound.play();
  });
})();
