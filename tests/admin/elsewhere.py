"""Django's admin at another address, for test_narrowing.py."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("elsewhere/", admin.site.urls)]
