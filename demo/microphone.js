// The microphone. Browsers process it for voice calls by default: noise suppression lowers steady sounds by 20 dB.
// "Live" records with a WAV encoder that loads in the background. Its button waits for it, and so does a click that
// comes before. The event "microphone-fault" tells the tab why there is no microphone.
(() => {
  const PATIENCE_MS = 30_000;
  const devices = navigator.mediaDevices;  // browsers have none on a page that is neither local nor HTTPS
  let ready = false;
  performance.setResourceTimingBufferSize?.(2_000);

  const recorderReady = async () => {  // whether the recorder that Gradio has loaded knows WAV
    for (const { name } of performance.getEntriesByType("resource")) {
      if (!/\/module-[^/]*\.js$/.test(name)) continue;
      const { MediaRecorder } = await import(name);
      if (MediaRecorder?.isTypeSupported?.("audio/wav")) return true;
    }
    return false;
  };
  const button = () => document.querySelector("#microphone .record-button");
  const watch = async () => {
    const start = button();
    if (start) {
      ready = await recorderReady();
      start.disabled = !ready;
      start.toggleAttribute("data-loading", !ready);
    }
    if (!ready) setTimeout(watch, 100);
  };
  watch();

  const fault = reason => dispatchEvent(new CustomEvent("microphone-fault", { detail: reason }));
  const REASONS = {
    NotAllowedError: "the browser may not use it; allow it in the address bar",
    NotFoundError: "this machine has none; connect one",
    NotReadableError: "another program uses it",
  };
  if (!devices) {
    document.addEventListener("click", event => {
      if (event.target.closest?.("#microphone .record-button"))
        fault("browsers allow it only on this machine's own address or over HTTPS");
    }, true);
    return;
  }
  const open = devices.getUserMedia.bind(devices);
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  devices.getUserMedia = async wanted => {
    const live = document.querySelector("#microphone")?.checkVisibility();
    try {
      const stream = await open(wanted?.audio ? { ...wanted, audio: { ...Object(wanted.audio), ...untouched } } : wanted);
      const deadline = Date.now() + PATIENCE_MS;
      while (live && !ready && Date.now() < deadline) await new Promise(next => setTimeout(next, 50));
      return stream;
    } catch (error) {
      if (live) fault(REASONS[error.name] ?? error.message);
      throw error;
    }
  };
})();
