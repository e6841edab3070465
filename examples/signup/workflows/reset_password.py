"""Send somebody the link with which they choose a new password."""

from string import Template

import mailer
import tako
import users
from tako import Context, workflow

MAIL = Template("""Hello,

somebody asked for a new password for $email. If it was you, choose one here within the hour:

$link

If it was not, do nothing: the old password still works.
""")


# The key: whoever presses the button twice, while the first mail is on its way, gets one mail.
@workflow(retries=4, key="reset:{email}")
def reset_password(ctx: Context, email: str) -> str:
    if not ctx.step("look-up", users.exists, email):
        raise ctx.stop("nobody signed up with this address")
    # Saved: a later attempt goes on with the same token, so the link in a mail that was sent already works.
    token = ctx.step("make-token", users.make_token, email)
    text = ctx.step("render", render, email, token)
    subject = "Choose a new password"
    return ctx.step("deliver", mailer.deliver, ctx.run_id, email, subject, text, retries=5, timeout="30s")


def render(email: str, token: str) -> str:
    # The site's address comes from Tako, not from the request: a Host header says what its sender wants it to say.
    return MAIL.substitute(email=email, link=f"{tako.current.url}/reset/{token}")
