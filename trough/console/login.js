// The page on which somebody logs in: a token in, a cookie out that no script can read.
import {ask, h, problem} from "./dom.js";

export function loginPage(main, entered) {
  const token = h("input", {type: "password", id: "token", name: "token", autocomplete: "current-password", spellcheck: "false", required: true});
  const trouble = h("div");
  const button = h("button", {class: "primary", type: "submit"}, "Log in");

  async function enter(event) {
    event.preventDefault();
    button.disabled = true;
    trouble.replaceChildren();
    // Only these characters can be in a header.
    const text = token.value.trim();
    try {
      if (!/^[\x21-\x7e]+$/.test(text)) throw new Error("A token has letters, digits and signs without blanks.");
      await ask("/session", {method: "POST", headers: {Authorization: `Bearer ${text}`}});
      token.value = "";
      await entered();
    } catch (error) {
      trouble.replaceChildren(problem(error.status === 401 ? "This is not a token of this server. trough-admin token list names them." : error.message));
      button.disabled = false;
      token.select();
    }
  }

  main.replaceChildren(h("h1", {}, "Log in"),
    h("form", {class: "login", onsubmit: enter},
      h("label", {for: "token"}, "Token"), token,
      h("p", {class: "soft"}, "What you see and may do follows from its rights. The session ends with the browser, or after 12 hours."),
      h("div", {class: "row"}, button)), trouble);
  token.focus();
  return () => {};
}
