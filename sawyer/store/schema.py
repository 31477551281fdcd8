"""The tables of the feedback store, as the newest migration leaves them.

`votes`, `ratings` and `reviews` are append-only: changing one's mind is a new row. Their `seq` is the
order in which rows were committed, so "the newest row counts" does not depend on any machine's clock.
Times are seconds since the Unix epoch (UTC). A change here needs a migration in `migrations/versions`;
a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

ID = String(36)
FOLD = "sawyer_fold"  # a function that every SQLite connection of ours has: str.casefold
# SQLite gives a self-incrementing key only to a column declared exactly INTEGER, which is 64 bits there.
COUNTER = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("recipe", Text),
    Column("voter", Text, index=True),
    Column("created", Float(53), nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("id", ID, primary_key=True),
    Column("conversation_id", ID, ForeignKey("conversations.id"), nullable=False, index=True),
    Column("parent_id", ID, ForeignKey("turns.id")),
    # The shared history and the new user message: [{"role": ..., "content": ...}, ...]
    Column("messages", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
)

completions = Table(
    "completions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("turn_id", ID, ForeignKey("turns.id"), nullable=False, index=True),
    Column("stage", String(16), nullable=False),
    Column("adapter_version", Text),
    # What the model was really given: `messages` rendered for this stage.
    Column("prompt_text", Text, nullable=False),
    Column("sampling", JSON, nullable=False),
    Column("seed", BigInteger),
    Column("text", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("finish_reason", String(32)),
    Column("seconds", Float(53)),
    Column("reward", Float(53)),
    Column("created", Float(53), nullable=False),
)

votes = Table(
    "votes",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", ID, nullable=False),
    Column("turn_id", ID, ForeignKey("turns.id"), nullable=False),
    Column("voter", Text, nullable=False),  # "" is the anonymous voter, so that the index covers it
    Column("choice", String(16), nullable=False),
    Column("completion_id", ID, ForeignKey("completions.id")),  # the chosen answer; null for tie, bad, undo
    Column("shown", JSON, nullable=False),  # completion ids this vote compared, fixed when it was cast
    Column("ranking", JSON(none_as_null=True)),  # completion ids, best first
    Column("edited", Text),
    Column("comment", Text),
    Column("position", Integer),
    Column("idempotency_key", Text),
    Column("created", Float(53), nullable=False),
    Column("name", Text),
    Column("consent", Boolean, nullable=False, server_default=true()),
    UniqueConstraint("id", name="uq_votes_id"),
    UniqueConstraint("idempotency_key", name="uq_votes_idempotency_key"),
    Index("ix_votes_newest", "turn_id", "voter", "seq"),
    Index("ix_votes_voter", "voter", "seq"),
    sqlite_autoincrement=True,  # a deleted row's number is never handed out again
)

ratings = Table(
    "ratings",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", ID, nullable=False),
    Column("completion_id", ID, ForeignKey("completions.id"), nullable=False),
    Column("voter", Text, nullable=False),
    Column("up", Boolean),  # null takes an earlier thumb back
    Column("idempotency_key", Text),
    Column("created", Float(53), nullable=False),
    Column("consent", Boolean, nullable=False, server_default=true()),
    UniqueConstraint("id", name="uq_ratings_id"),
    UniqueConstraint("idempotency_key", name="uq_ratings_idempotency_key"),
    Index("ix_ratings_newest", "completion_id", "voter", "seq"),
    Index("ix_ratings_voter", "voter", "seq"),
    sqlite_autoincrement=True,
)

reviews = Table(
    "reviews",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", ID, nullable=False),
    Column("vote_id", ID, ForeignKey("votes.id"), nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", Text),
    Column("created", Float(53), nullable=False),
    UniqueConstraint("id", name="uq_reviews_id"),
    CheckConstraint("state IN ('pending', 'approved', 'rejected', 'flagged')", name="ck_reviews_state"),
    Index("ix_reviews_newest", "vote_id", "seq"),
    sqlite_autoincrement=True,
)

# That something was blacked out, by whom and why; never what.
redactions = Table(
    "redactions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("conversation_id", ID, ForeignKey("conversations.id"), nullable=False, index=True),
    Column("reviewer", Text, nullable=False),
    Column("places", Integer, nullable=False),
    Column("note", Text),
    Column("created", Float(53), nullable=False),
)

# The ledger of files made of this feedback, so that forgetting a person reaches them as well.
derived_files = Table(
    "derived_files",
    metadata,
    Column("id", ID, primary_key=True),
    Column("path", Text, nullable=False),
    Column("form", String(16), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("created", Float(53), nullable=False),
    UniqueConstraint("path", name="uq_derived_files_path"),
)

# Whose words are in which rows: `hashes` are those of the rows as they stand in the file.
derived_rows = Table(
    "derived_rows",
    metadata,
    Column("file_id", ID, ForeignKey("derived_files.id"), primary_key=True),
    Column("conversation_id", ID, primary_key=True),
    Column("voter", Text, primary_key=True),
    Column("hashes", JSON, nullable=False),
    Index("ix_derived_rows_voter", "voter"),
    Index("ix_derived_rows_conversation", "conversation_id"),
)
