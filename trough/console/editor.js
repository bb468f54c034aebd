// The SQL editor: CodeMirror in a shadow root, where its styles need no exception from the policy.
import {h} from "./dom.js";
import {
  Compartment, EditorState, EditorView, HighlightStyle, SQLite, autocompletion, bracketMatching, closeBrackets,
  completionKeymap, defaultKeymap, drawSelection, history, historyKeymap, keymap, sql, syntaxHighlighting, tags,
} from "./vendor/codemirror.js";

const colours = HighlightStyle.define([
  {tag: tags.keyword, color: "var(--link)", fontWeight: "600"},
  {tag: tags.string, color: "var(--good)"},
  {tag: tags.comment, color: "var(--soft)"},
  {tag: tags.number, color: "var(--bad)"},
]);

const look = EditorView.theme({
  "&": {color: "var(--fore)", backgroundColor: "var(--back)", minHeight: "6rem", maxHeight: "24rem"},
  ".cm-content": {caretColor: "var(--fore)", fontFamily: "ui-monospace, monospace", padding: ".5rem", minHeight: "6rem"},
  ".cm-scroller": {overflow: "auto"},
  ".cm-cursor": {borderLeftColor: "var(--fore)"},
  "&.cm-focused": {outline: "3px solid var(--link)"},
  ".cm-tooltip": {backgroundColor: "var(--panel)", color: "var(--fore)", border: "1px solid var(--line)"},
});

export function makeEditor(text, run, changed) {
  const host = h("div", {class: "editor"});
  const root = host.attachShadow({mode: "open"});
  const language = new Compartment();
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        keymap.of([{key: "Mod-Enter", run: () => { run(); return true; }}]),
        history(), drawSelection(), bracketMatching(), closeBrackets(), autocompletion(), look,
        language.of(sql({dialect: SQLite})), syntaxHighlighting(colours), EditorView.lineWrapping,
        EditorView.contentAttributes.of({"aria-label": "SQL"}),
        EditorView.updateListener.of((update) => { if (update.docChanged) changed(); }),
        keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
      ],
    }),
  });
  return {
    element: host,
    get text() { return view.state.doc.toString(); },
    set text(value) { view.dispatch({changes: {from: 0, to: view.state.doc.length, insert: value}}); },
    complete(schema) { view.dispatch({effects: language.reconfigure(sql({dialect: SQLite, schema, upperCaseKeywords: true}))}); },
    destroy() { view.destroy(); },
  };
}
