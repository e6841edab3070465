"""What `rq cron` reads."""

from rq import cron

from app import tick

cron.register(tick, queue_name="default", cron="* * * * *")
