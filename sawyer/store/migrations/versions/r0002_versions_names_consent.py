"""Votes by answer, names, consent, thumbs taken back, four states of review, redactions, the ledger of files.

Rankings named stages; now they name answers, those that the vote had been shown. Accepted reviews are approved ones.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(36)
TIME = sa.Float(53)
COUNTED = {"sqlite_autoincrement": True}  # SQLite's tables are copied; reflection does not see this
STATES = "state IN ('pending', 'approved', 'rejected', 'flagged')"


def upgrade() -> None:
    change_votes()
    change_ratings()
    change_reviews()
    create_tables()


def change_votes() -> None:
    # Not in a batch: that would copy the table on SQLite, and reviews refer to it.
    op.add_column("votes", sa.Column("name", sa.Text))
    op.add_column("votes", sa.Column("consent", sa.Boolean, nullable=False, server_default=sa.true()))
    op.create_index("ix_votes_voter", "votes", ["voter", "seq"])
    op.create_index("ix_conversations_voter", "conversations", ["voter"])
    name_answers_in_rankings()


def name_answers_in_rankings() -> None:
    connection = op.get_bind()
    answers = sa.table("completions", sa.column("id"), sa.column("stage"))
    votes = sa.table("votes", sa.column("seq"), sa.column("ranking", sa.JSON), sa.column("shown", sa.JSON))
    ranked = sa.select(votes.c.seq, votes.c.ranking, votes.c.shown).where(votes.c.ranking.is_not(None))
    for seq, ranking, shown in connection.execute(ranked).all():
        if not ranking:
            continue
        stages = connection.execute(sa.select(answers.c.stage, answers.c.id).where(answers.c.id.in_(shown)))
        by_stage = dict(stages.all())
        named = [by_stage[stage] for stage in ranking if stage in by_stage]
        connection.execute(sa.update(votes).where(votes.c.seq == seq).values(ranking=named))


def change_ratings() -> None:
    with op.batch_alter_table("ratings", table_kwargs=COUNTED) as table:
        table.alter_column("up", existing_type=sa.Boolean, nullable=True)
        table.add_column(sa.Column("consent", sa.Boolean, nullable=False, server_default=sa.true()))
        table.create_index("ix_ratings_voter", ["voter", "seq"])


def change_reviews() -> None:
    with op.batch_alter_table("reviews", table_kwargs=COUNTED) as table:
        table.drop_constraint("ck_reviews_state", type_="check")
        table.drop_index("ix_reviews_vote_id")
        table.create_index("ix_reviews_newest", ["vote_id", "seq"])
    op.execute("UPDATE reviews SET state = 'approved' WHERE state = 'accepted'")
    with op.batch_alter_table("reviews", table_kwargs=COUNTED) as table:
        table.create_check_constraint("ck_reviews_state", STATES)


def create_tables() -> None:
    op.create_table(
        "redactions",
        sa.Column("id", ID, primary_key=True),
        sa.Column("conversation_id", ID, sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("places", sa.Integer, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_index("ix_redactions_conversation_id", "redactions", ["conversation_id"])
    op.create_table(
        "derived_files",
        sa.Column("id", ID, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.UniqueConstraint("path", name="uq_derived_files_path"),
    )
    op.create_table(
        "derived_rows",
        sa.Column("file_id", ID, sa.ForeignKey("derived_files.id"), primary_key=True),
        sa.Column("conversation_id", ID, primary_key=True),
        sa.Column("voter", sa.Text, primary_key=True),
        sa.Column("hashes", sa.JSON, nullable=False),
    )
    op.create_index("ix_derived_rows_voter", "derived_rows", ["voter"])
    op.create_index("ix_derived_rows_conversation", "derived_rows", ["conversation_id"])


def downgrade() -> None:
    raise NotImplementedError("The first schema cannot hold what this one has. Restore the backup made before.")
