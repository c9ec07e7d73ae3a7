/**
 * The words and numbers that this page shares with the demo. tests/export/test_web_words.py holds both together: each
 * text is in the demo's code, with {} for what is filled in, and each number is the constant of that name.
 */

export const NUMBERS = {
  "demo.drawing.draw_ranking.MAX_BARS": 10,
  "demo.drawing.draw_heard.MAX_LISTED": 40,
  "demo.drawing.draw_live.MAX_SHOWN": 30,
  "demo.smoothing.TOGETHER_S": 3.0,
  "demo.verdict.SHORTEST_S": 0.025,
  "demo.labels.favour_new.STEP": 0.1,
  "demo.labels.favour_new.SHARE_OF_TEMPERATURE": 0.7,
  "demo.tabs.live.EVERY_S": 0.4,
  "demo.tabs.live.QUIET_DBFS": -50.0,
  "demo.drawing.spectrogram.MAX_COLUMNS": 2000,
  "demo.drawing.spectrogram.MAX_NAMED_WINDOWS": 12,
  "demo.drawing.spectrogram.MAX_LONG_NAMES": 5,
  "demo.drawing.spectrogram.MINUTES_FROM_S": 60,
  "demo.drawing.spectrogram.MIN_SPAN": 2.0,
  "demo.labels.typed_labels.MAX_LABELS": 200,
  "serving.zeroshot.label_text.MAX_LENGTH": 300,
  "serving.zeroshot.label_text.MAX_WORDS": 50,
} as const;

export const WORDS = {
  tagline: "Small neural networks that recognise sounds by text descriptions, including sounds they were not trained on.",
  good: "Good at the {} classes of its training: {}",
  rightAmongThem: "about {} first answers are right among them.",
  taughtMore: "Taught {} more by examples: {}",
  taughtRight: "{} % of the held-out examples are named right among all its classes.",
  taughtUnknown: "how often they are named right was not measured.",
  weaker:
    "Weaker on sounds that it knows only from words: the more labels, the more often the first answer is wrong (about {} right among 10).",
  noThreshold:
    "It always answers with one of the labels, even for a sound that is like none of them: this bundle has no threshold to refuse with.",
  oneName: "It gives one name to each stretch of sound, also where several sounds overlap.",
  alone: "One label alone cannot be compared with others: add labels that could be meant instead.",
  expectSeen: "Sounds of all of its classes together: about {} first answers are right.",
  expectSeenAlone: "Sounds of its trained classes: about {} first answers are right among these classes alone.",
  expectNew: "With {} labels it was never trained on, {}{}.",
  areRight: "about {} first answers are right",
  byChance: " (by chance: {})",
  newLabels: "{} new labels",
  newLabel: "new label",
  someLabels: "{} labels",
  oneLabel: "label",
  expectBoth: "Sounds of the {} that it was trained on: about {} first answers are right. Sounds of the {}: about {}.",
  expectMissed:
    "Sounds of its classes: about {} first answers are right. Sounds of the {} are missed more often; how often was not measured for this bundle.",
  expectTaught: "Sounds of its taught classes: {} of the held-out examples are named right.",
  startsFrom: "Google's YAMNet, which heard AudioSet's 521 classes",
  nameTab: "Name that sound",
  liveTab: "Live",
  nothingYet: "Upload a sound, record one, or choose an example:<br>the ranking appears here.",
  noResult: "No result.",
  noneOfThese: "none of these",
  nothingToHear: "nothing to hear",
  likeIt: "sounds like it",
  silent: "The recording is silent, so the ranking below means nothing.",
  tooShort: "The recording lasts only {} ms, so the ranking below means nothing.",
  evenNoise: "The sound is even noise, like that of a fan or an untuned radio.",
  likeNone: "The sound is like none of the labels. The nearest is “{}”.",
  tooSoft: "Its peak level is {} dBFS; below {} nothing can be named.",
  moreLabels: "{} more labels: {} together.",
  allTheSame: "All these labels are {}, so “favour new sounds” changes nothing.",
  oneAlone:
    "One label alone has no percentage, because there is nothing to compare it with. Its similarity to the sound is {} of 1",
  countsFrom: "; from {} it counts as heard.",
  unknownWords: "Not known to the text model, which is English: {} (in “{}”).",
  whole: "The recording as a whole",
  nothingHeard: "none of these labels",
  playHint: "Click one, or the picture below, to play from there.",
  moreStretches: "and {} more on the time line",
  stripLabel: "what is heard when; the list above has the same content",
  markTaught: "taught",
  markUnseen: "unseen",
  markTyped: "typed by you",
  seen: "trained on recordings of it",
  taught: "taught by examples after the training",
  unseen: "unseen: no recording of it was in the training, the model has only a description",
  typed: "typed by you: the model has only your words",
  ownPreset: "the bundle's classes",
  startFrom: "start from",
  labels: "labels",
  adviceText:
    'Type English words: one label or whole description a line, or short labels separated by commas; put a label with a comma in quotes ("dog, barking").',
  favourNew: "favour new sounds",
  favourNewInfo:
    "0 is the bundle's own balance. Further right, labels without recordings in the training win more often over the others; further left, less often.",
  liveBefore: "Turn on the microphone: the page names the last seconds of sound twice a second.<br>No sound is stored.",
  waiting: "Waiting for the microphone …",
  noMicrophone: "No microphone.",
  warmingUp: "Warming up",
  warmingSeconds: "{} of the first {} s are heard.",
  stopped: "Stopped",
  lastAnswer: "The last answer was: {}.",
  startAgain: "Press Record to start again; that clears the log.",
  heardSoFar: "Heard so far",
  quiet: "It is quiet: this ranking describes the noise of the microphone.",
  picture: "waveform and log-mel of {} seconds of sound",
  windowsSeen: "The network sees {} window{} of {} s.",
  padded: "silence added to fill the window",
  remainder: "remainder too short for another window",
} as const;

/** A text of WORDS with its places filled in. */
export function say(text: string, ...values: (string | number)[]): string {
  return text
    .split("{}")
    .map((part, i) => (i ? `${values[i - 1] ?? ""}${part}` : part))
    .join("");
}
