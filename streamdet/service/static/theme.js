// Before anything is painted: the theme chosen last, else what the system prefers.
{
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* no storage: the system's preference stands */ }
  const dark = chosen ? chosen === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
