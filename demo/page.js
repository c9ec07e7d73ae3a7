// Draws a line at the playback position. Gradio's player calls play() of a media element that the page cannot name.
(() => {
  const play = HTMLMediaElement.prototype.play;
  let playing = null;
  const follow = () => {
    const picture = document.querySelector(".picture");
    if (picture && playing) {
      const share = playing.currentTime / Number(picture.dataset.seconds);
      picture.style.setProperty("--playhead", 100 * Math.min(share, 1) + "%");
    }
    if (playing && !playing.paused) requestAnimationFrame(follow);
  };
  HTMLMediaElement.prototype.play = function () {
    if (this.closest(".player")) return play.call(this);  // a recording of the library, not the one in the picture
    if (playing !== this) this.addEventListener("seeking", follow);
    playing = this;
    const started = play.call(this);
    requestAnimationFrame(follow);
    return started;
  };
})();

// By default, browsers process the microphone for voice calls: noise suppression lowers steady sounds by 20 dB.
(() => {
  const devices = navigator.mediaDevices;
  if (!devices) return;  // browsers have no devices on a page that is neither local nor HTTPS
  const open = devices.getUserMedia.bind(devices);
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  devices.getUserMedia = (wanted) =>
    open(wanted?.audio ? { ...wanted, audio: { ...Object(wanted.audio), ...untouched } } : wanted);
})();
