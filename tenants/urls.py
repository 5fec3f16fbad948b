"""Addresses of people and teams."""

from django.urls import path

from tenants import views

urlpatterns = [
    path("", views.home, name="home"),
    path("theme/", views.theme, name="theme"),
    path("t/<str:tenant>/activity/", views.activity, name="activity"),
    path("t/<str:tenant>/admin/members/", views.members, name="members"),
]
