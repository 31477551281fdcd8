"""Conversations, turns, completions, votes, ratings, reviews.

The tables are spelled out instead of imported from `sawyer.store.schema`: a migration describes what
the schema was on its day, and the schema moves on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(36)
TIME = sa.Float(53)
COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_conversation_tables()
    create_feedback_tables()


def create_conversation_tables() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", ID, primary_key=True),
        sa.Column("recipe", sa.Text),
        sa.Column("voter", sa.Text),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("id", ID, primary_key=True),
        sa.Column("conversation_id", ID, sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("parent_id", ID, sa.ForeignKey("turns.id")),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_index("ix_turns_conversation_id", "turns", ["conversation_id"])
    op.create_table(
        "completions",
        sa.Column("id", ID, primary_key=True),
        sa.Column("turn_id", ID, sa.ForeignKey("turns.id"), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("adapter_version", sa.Text),
        sa.Column("prompt_text", sa.Text, nullable=False),
        sa.Column("sampling", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("finish_reason", sa.String(32)),
        sa.Column("seconds", TIME),
        sa.Column("reward", TIME),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_index("ix_completions_turn_id", "completions", ["turn_id"])


def create_feedback_tables() -> None:
    op.create_table(
        "votes",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", ID, nullable=False),
        sa.Column("turn_id", ID, sa.ForeignKey("turns.id"), nullable=False),
        sa.Column("voter", sa.Text, nullable=False),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("completion_id", ID, sa.ForeignKey("completions.id")),
        sa.Column("shown", sa.JSON, nullable=False),
        sa.Column("ranking", sa.JSON),
        sa.Column("edited", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("created", TIME, nullable=False),
        sa.UniqueConstraint("id", name="uq_votes_id"),
        sa.UniqueConstraint("idempotency_key", name="uq_votes_idempotency_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_votes_newest", "votes", ["turn_id", "voter", "seq"])
    op.create_table(
        "ratings",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", ID, nullable=False),
        sa.Column("completion_id", ID, sa.ForeignKey("completions.id"), nullable=False),
        sa.Column("voter", sa.Text, nullable=False),
        sa.Column("up", sa.Boolean, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("created", TIME, nullable=False),
        sa.UniqueConstraint("id", name="uq_ratings_id"),
        sa.UniqueConstraint("idempotency_key", name="uq_ratings_idempotency_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ratings_newest", "ratings", ["completion_id", "voter", "seq"])
    op.create_table(
        "reviews",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", ID, nullable=False),
        sa.Column("vote_id", ID, sa.ForeignKey("votes.id"), nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created", TIME, nullable=False),
        sa.UniqueConstraint("id", name="uq_reviews_id"),
        sa.CheckConstraint("state IN ('pending', 'accepted', 'rejected')", name="ck_reviews_state"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reviews_vote_id", "reviews", ["vote_id"])


def downgrade() -> None:
    for table in ("reviews", "ratings", "votes", "completions", "turns", "conversations"):
        op.drop_table(table)
