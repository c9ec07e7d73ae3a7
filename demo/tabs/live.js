
// microphone.js says why there is no microphone. It can be sooner than Python's card for the start of a recording.
addEventListener("microphone-fault", async event => {
  for (let tries = 0; tries < 50 && !element.querySelector(".waiting"); tries++)
    await new Promise(next => setTimeout(next, 100));
  trigger("click", { reason: event.detail });
});
