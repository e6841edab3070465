import os

SECRET_KEY = "for tests only"
INSTALLED_APPS = ["tako.contrib.django"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SHOP_DATABASE"],
        "TEST": {"NAME": os.environ["SHOP_DATABASE"] + ".test"},
    }
}
TASKS = {
    "default": {
        "BACKEND": "tako.contrib.django.tasks.TakoBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"workflows": {"mail": "mail_task"}},
    }
}
