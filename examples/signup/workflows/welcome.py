"""Greet somebody who has signed up."""

import mailer
from tako import Context, workflow


@workflow(group="mail", retries=4, key="welcome:{email}")
def welcome(ctx: Context, email: str) -> str:
    text = f"Hello {email},\n\ngood to have you here.\n"
    return ctx.step("deliver", mailer.deliver, ctx.run_id, email, "Welcome", text, retries=5, timeout="30s")
