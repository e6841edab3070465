from fastapi import FastAPI, HTTPException
from workflows.report import report

import tako

app = FastAPI()
app.add_middleware(tako.contrib.asgi.Unhealthy)  # a refused enqueue is 503 and Retry-After


@app.get("/")
async def home() -> dict[str, str]:
    return {"make one with": "POST /reports/2026-11"}


@app.post("/reports/{month}", status_code=202)
async def make(month: str) -> dict[str, str]:
    run = await report.aenqueue(month=month)
    return {"id": run.id}


@app.get("/reports/{id}")
async def show(id: str) -> dict[str, str | None]:
    try:
        run = await tako.aget_run(id)
    except tako.RunNotFound:
        raise HTTPException(404, "there is no such report") from None
    status = await run.astatus()
    return {"status": status, "report": await run.aresult() if status == "succeeded" else None}
