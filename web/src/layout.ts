/** The parts of the page that stay. */

import { WORDS } from "./demo_words";

export const LAYOUT = `
<header id="header"></header>
<div id="promise"></div>
<fieldset id="backend" class="preset" hidden><legend>run on</legend>
  <label><input type="radio" name="backend" value="wasm" checked> WebAssembly</label>
  <label><input type="radio" name="backend" value="webgpu"> WebGPU</label>
</fieldset>
<div class="tab-container" role="tablist" aria-label="what to name">
  <button type="button" role="tab" id="tab-name" aria-controls="panel-name">${WORDS.nameTab}</button>
  <button type="button" role="tab" id="tab-live" aria-controls="panel-live">${WORDS.liveTab}</button>
</div>
<main>
  <section id="panel-name" role="tabpanel" aria-labelledby="tab-name">
    <div class="columns">
      <div class="sources">
        <div id="sound">
          <label class="drop"><input type="file" accept="audio/*,video/webm,video/mp4,.flac,.opus,.ogg" aria-label="choose a sound file">
            <span><b>Drop a sound here</b><br>or click to choose a file</span></label>
          <button type="button" id="record" class="wide-button">Record</button>
          <p id="name" class="note"></p>
          <audio controls hidden aria-label="the recording"></audio>
        </div>
        <div class="examples" hidden><p class="note" id="examples-label">examples</p>
          <div id="examples" role="group" aria-labelledby="examples-label"></div></div>
        <div id="labels-name" class="naming"></div>
      </div>
      <div class="answers"><div id="ranking"></div></div>
    </div>
    <div id="timeline"></div>
    <div id="picture"></div>
  </section>
  <section id="panel-live" role="tabpanel" aria-labelledby="tab-live" hidden>
    <div class="columns">
      <div class="sources">
        <button type="button" id="listen" class="wide-button">Record</button>
        <div id="labels-live" class="naming"></div>
      </div>
      <div class="answers">
        <div id="live"></div>
        <div id="log"></div>
        <button type="button" id="save" hidden>Download the log as CSV</button>
      </div>
    </div>
  </section>
</main>
<p class="only-spoken" role="status" aria-live="polite" id="spoken"></p>
<footer><a href="licences.txt">licences</a></footer>
`;
