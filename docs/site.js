// For readers with a keyboard or a screen reader: what scrolls can be reached, and no landmark or heading is nameless.
"use strict";

function mend() {
  for (const wide of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap")) {
    if (wide.scrollWidth > wide.clientWidth + 1) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
  }
  for (const buttons of document.querySelectorAll("nav.md-code__nav")) buttons.setAttribute("role", "none");
  for (const heading of document.querySelectorAll(".md-typeset th:empty")) {
    heading.replaceWith(document.createElement("td"));
  }
}

// The theme wraps tables and adds buttons after the page is there.
let isPlanned = false;
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    mend();
  });
}
new MutationObserver(plan).observe(document.body, { childList: true, subtree: true });
addEventListener("resize", plan);
plan();
