"""Stores in containers of Azure and buckets of Google Cloud, whose own protocols obstore speaks."""
