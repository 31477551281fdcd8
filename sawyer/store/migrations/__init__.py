"""Schema changes, applied in order by Alembic when a store is opened."""
