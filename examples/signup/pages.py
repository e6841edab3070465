"""The pages. Plain functions that return HTML; whatever comes from outside goes through `escape`."""

import re
from collections.abc import Sequence
from html import escape
from string import Template

from mailbox_files import Mail

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>$title</title>
  <link rel="stylesheet" href="/static/style.css">
  <link rel="icon" href="data:,">
  $head
</head>
<body>
  <header><a href="/">Sign-up</a> <nav><a href="/mailbox">Mailbox</a></nav></header>
  <main>
$body
  </main>
</body>
</html>
""")

NOTES = {
    "welcome": "Welcome! A mail is on its way.",
    "forgot": "If this address has an account, a mail is on its way to it.",
}


def home(message: str = "") -> str:
    return page(
        "Sign up",
        f"""{note(message)}
<section>
  <h1>Sign up</h1>
  <form method="post" action="/signup">
    <label>Address <input name="email" type="email" autocomplete="email" required></label>
    <label>Password <input name="password" type="password" autocomplete="new-password" minlength="8" required></label>
    <button>Sign up</button>
  </form>
</section>
<section>
  <h2>Forgotten your password?</h2>
  <form method="post" action="/forgot">
    <label>Address <input name="email" type="email" autocomplete="email" required></label>
    <button>Send me a link</button>
  </form>
</section>""",
    )


def choose_password(token: str, message: str = "") -> str:
    return page(
        "Choose a new password",
        f"""{note(message)}
<section>
  <h1>Choose a new password</h1>
  <form method="post" action="/reset/{escape(token)}">
    <label>Password <input name="password" type="password" autocomplete="new-password" minlength="8" required></label>
    <button>Change it</button>
  </form>
</section>""",
        head='<meta name="referrer" content="no-referrer">',  # the address of this page holds a token
    )


def mailbox(mails: Sequence[Mail], *, note: str) -> str:
    told = f'<p class="note" role="status">{NOTES[note]}</p>' if note in NOTES else ""
    shown = "\n".join(_mail(mail) for mail in mails) or "<p>No mail yet.</p>"
    return page(
        "Mailbox",
        f"""{told}
<h1>Mailbox</h1>
<p>Every mail of this demo arrives here. The page looks again every two seconds.</p>
{shown}""",
        head='<meta http-equiv="refresh" content="2; url=/mailbox">',
    )


def not_accepted(*, nothing_sent: bool, retry_after_s: int, reason: str | None) -> str:
    """What a user is told when the enqueue failed; and, in development, what the developer is told."""
    for_developers = ""
    if reason is not None:
        for_developers = f"""
<section class="developer">
  <h2>Shown in development only</h2>
  <pre id="reason">{escape(reason)}</pre>
</section>"""
    what = "nothing was sent and nothing was changed" if nothing_sent else "we cannot tell whether your mail was sent"
    when = "a moment" if retry_after_s <= 1 else f"{retry_after_s} seconds"
    return page(
        "That did not work",
        f"""<section>
  <h1>That did not work</h1>
  <p>We cannot send mail right now: <strong>{what}</strong>. Please try again in {when}.</p>
</section>{for_developers}""",
    )


def page(title: str, body: str, *, head: str = "") -> str:
    return PAGE.substitute(title=escape(title), body=body, head=head)


def note(message: str) -> str:
    return f'<p class="note" role="status">{escape(message)}</p>' if message else ""


def _mail(mail: Mail) -> str:
    text = re.sub(r"https?://[^\s&<>\"]+", lambda link: f'<a href="{link[0]}">{link[0]}</a>', escape(mail.text))
    return f"""<article>
  <h2>{escape(mail.subject)}</h2>
  <p class="to">to {escape(mail.to)}</p>
  <pre>{text}</pre>
</article>"""
