"""A sign-up form, a form for a forgotten password, and the mailbox in which the mails arrive."""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

import mailbox_files
import pages
import tako
import users

# Workflows are enqueued by name here. `from workflows.reset_password import reset_password`, and then
# `reset_password.enqueue(email=email)`, is the ordinary way: the type checker sees the arguments. But then this file
# can be imported only while that one can, so a typo in a workflow takes the whole site down. By name, the pages stay
# up, and only the request that needs the broken workflow fails.

app = FastAPI()
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")

Text = Annotated[str, Form(max_length=200)]


@app.exception_handler(tako.EnqueueError)
def not_accepted(request: Request, error: tako.EnqueueError) -> Response:
    """No run was stored, so nobody may be told that a mail is on its way."""
    retry_after_s = max(1, round(float(str(error.detail.get("retry_after") or 1))))
    reason = str(error) if tako.current.env == "development" else None
    # The one error after which a run may be stored all the same: the connection died before the reply.
    nothing_sent = not isinstance(error, tako.EnqueueUnknown)
    page = pages.not_accepted(nothing_sent=nothing_sent, retry_after_s=retry_after_s, reason=reason)
    return HTMLResponse(page, HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": str(retry_after_s)})


@app.get("/")
def home() -> HTMLResponse:
    return HTMLResponse(pages.home())


@app.post("/signup")
def sign_up(email: Text, password: Text) -> Response:
    email = email.strip().lower()
    if "@" not in email or len(password) < 8:
        message = "An address with an @, please, and a password of at least eight characters."
        return HTMLResponse(pages.home(message), HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        # The enqueue stands inside the transaction: if it raises, there is no user either, and signing up again works.
        with users.transaction() as connection:
            users.add(connection, email, password)
            tako.enqueue("welcome", {"email": email})
    except users.AlreadyThere:
        return HTMLResponse(pages.home("There is an account with this address."), HTTPStatus.CONFLICT)
    return see_other("/mailbox?note=welcome")


@app.post("/forgot")
def forgot(email: Text) -> Response:
    # Enqueued for every address, known or not, so that the answer does not tell who has an account.
    tako.enqueue("reset_password", {"email": email.strip().lower()})
    return see_other("/mailbox?note=forgot")


@app.get("/reset/{token}")
def choose_password(token: str) -> Response:
    if not users.is_valid(token):
        return HTMLResponse(pages.home("This link was used already, or is too old."), HTTPStatus.GONE)
    return HTMLResponse(pages.choose_password(token))


@app.post("/reset/{token}")
def set_password(token: str, password: Text) -> Response:
    if len(password) < 8:
        return HTMLResponse(
            pages.choose_password(token, "At least eight characters, please."), HTTPStatus.UNPROCESSABLE_ENTITY
        )
    if not users.set_password(token, password):
        return HTMLResponse(pages.home("This link was used already, or is too old."), HTTPStatus.GONE)
    return HTMLResponse(pages.home("Your password has been changed."))


@app.get("/mailbox")
def mailbox(note: str = "") -> HTMLResponse:
    return HTMLResponse(pages.mailbox(mailbox_files.newest_first(), note=note))


def see_other(url: str) -> RedirectResponse:
    return RedirectResponse(url, HTTPStatus.SEE_OTHER)
