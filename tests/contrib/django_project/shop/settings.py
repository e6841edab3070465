import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["shop", "tako.contrib.django"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", BASE_DIR / "shop.sqlite3"),
        "ATOMIC_REQUESTS": True,
        "TEST": {"NAME": os.environ.get("SHOP_DATABASE", "") + ".test"},
    }
}
