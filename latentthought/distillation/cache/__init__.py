"""A teacher's states on disk, checked at every read: spec (what is in a cache), shards, manifest, store (reading), parquet."""
