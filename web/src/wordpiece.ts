/** MiniLM's tokenizer: text -> token ids. BERT's normaliser and WordPiece (Devlin 2019, arXiv:1810.04805). */

const MOST_CHARACTERS = 100; // of a word; a longer one is one unknown token

export class WordPiece {
  private readonly vocabulary: Map<string, number>;

  /** From the content of a tokenizer.json, as the tokenizers library writes it. */
  constructor(
    stored: { model: { type: string; vocab: Record<string, number> }; normalizer: { lowercase: boolean } },
    private readonly mostTokens: number,
  ) {
    if (stored.model.type !== "WordPiece" || !stored.normalizer.lowercase) {
      throw new Error(`the tokenizer is a ${stored.model.type}; wanted a WordPiece in lower case`);
    }
    this.vocabulary = new Map(Object.entries(stored.model.vocab));
  }

  /** Token ids with [CLS] and [SEP] around them, at most mostTokens. */
  encode(text: string): number[] {
    const id = (token: string) => this.vocabulary.get(token)!;
    const pieces = this.pieces(text).slice(0, this.mostTokens - 2);
    return [id("[CLS]"), ...pieces.map(id), id("[SEP]")];
  }

  /** The tokens of a text, without special ones. */
  pieces(text: string): string[] {
    return splitWords(normalise(text)).flatMap((word) => this.piecesOf(word));
  }

  private piecesOf(word: string): string[] {
    const letters = [...word];
    if (letters.length > MOST_CHARACTERS) return ["[UNK]"];
    const pieces: string[] = [];
    let start = 0;
    while (start < letters.length) {
      let end = letters.length;
      let piece = "";
      for (; end > start; end--) {
        piece = (start ? "##" : "") + letters.slice(start, end).join("");
        if (this.vocabulary.has(piece)) break;
      }
      if (end === start) return ["[UNK]"];
      pieces.push(piece);
      start = end;
    }
    return pieces;
  }
}

/** BertNormalizer: control characters away, spaces around CJK characters, no accents, lower case. */
function normalise(text: string): string {
  const clean = [...text]
    .filter((character) => /[\t\n\r]/.test(character) || !/[\0\uFFFD\p{Cc}\p{Cf}\p{Cn}\p{Co}]/u.test(character))
    .map((character) => (/\s/u.test(character) ? " " : isChinese(character) ? ` ${character} ` : character))
    .join("");
  return clean.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
}

/** BertPreTokenizer: at white space, and around each punctuation character. */
function splitWords(text: string): string[] {
  return text
    .replace(/[!-/:-@[-`{-~\p{P}]/gu, " $& ")
    .split(/\s+/u)
    .filter(Boolean);
}

function isChinese(character: string): boolean {
  const code = character.codePointAt(0)!;
  return (
    (code >= 0x4e00 && code <= 0x9fff) ||
    (code >= 0x3400 && code <= 0x4dbf) ||
    (code >= 0x20000 && code <= 0x2a6df) ||
    (code >= 0x2a700 && code <= 0x2b73f) ||
    (code >= 0x2b740 && code <= 0x2b81f) ||
    (code >= 0x2b920 && code <= 0x2ceaf) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0x2f800 && code <= 0x2fa1f)
  );
}
