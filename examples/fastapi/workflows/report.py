import asyncio

from tako import AsyncContext, workflow

REGIONS = ["north", "south", "west"]


@workflow(key="report:{month}")  # asked for twice, made once
async def report(ctx: AsyncContext, month: str) -> str:
    totals = await ctx.map("fetch", fetch, [f"{month} {region}" for region in REGIONS], retries=3)
    text = await ctx.step("write", write, month, totals)
    await ctx.step("tell", tell, f"{ctx.run_id}:tell", text)
    return text


async def fetch(part: str) -> int:
    await asyncio.sleep(0.01)  # stands for a slow service
    return len(part)


def write(month: str, totals: list[int]) -> str:
    return f"{month}: {sum(totals)} sold"


def tell(key: str, text: str) -> None:
    print(text)  # a mail, in a real app; the key makes it one mail even if this runs twice
