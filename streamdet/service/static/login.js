const error = document.getElementById("error");
const said = { "?wrong": "That is not the token.", "?wait": "Too many wrong tokens. Wait a minute, then try again." }[location.search];
if (said) {
  error.textContent = said;
  error.hidden = false;
}
