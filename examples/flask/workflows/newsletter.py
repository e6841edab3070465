import subscribers
from flask import current_app

import app as web  # leads the worker to the app, whose context handlers and steps then have
from tako import Context, workflow


@workflow
def newsletter(ctx: Context, subject: str) -> int:
    everybody = ctx.step("look-up", subscribers.addresses)
    for address in everybody:
        ctx.step(f"send-{address}", deliver, address, subject)
    return len(everybody)


def deliver(address: str, subject: str) -> None:
    assert current_app == web.app
    print(f"from {current_app.config['SENDER']} to {address}: {subject}")
