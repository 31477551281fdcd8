"""Every English sentence of the review page."""

TITLE = "Review"
TAGLINE = "For whoever runs this server: what trains the next version, and which version is served."

DOOR_TITLE = "An admin key, please"
DOOR_WHY = "This page reads every vote and decides what is served, so it asks for a key of role admin."
DOOR_HOW = "On the machine that runs the server, in its folder, make one:"
DOOR_COMMAND = "sawyer keys add --role admin"
DOOR_KEPT = "The key stays in this browser tab until you close it or sign out. It is sent to this server alone."
KEY_LABEL = "Admin key"
ENTER = "Enter"
LEAVE = "Sign out"
KEY_MISSING = "Give a key first."
KEY_REFUSED = "The server did not accept the key. {reason}"

TABS = {"feedback": "Votes", "voters": "Voters", "rounds": "Rounds", "versions": "Versions"}
TABS_LABEL = "Parts of the review"

# ---- votes ----
FILTER = "Filter"
SHOW = "Show"
ANY = "any"
FIELD_STATE = "State"
FIELD_CHOICE = "Choice"
FIELD_FINDING = "Finding"
FIELD_BLIND = "Blind"
FIELD_EDITED = "Edited"
FIELD_VOTER = "Voter"
FIELD_TEXT = "Text"
FIELD_TEXT_HINT = "in questions, answers, edits, comments, names"
FIELD_SINCE = "From day"
FIELD_UNTIL = "To day"
YES = "yes"
NO = "no"
STATES = {"pending": "pending", "approved": "approved", "rejected": "rejected", "flagged": "flagged"}
FINDINGS = {
    "duplicate": "asked before",
    "too_fast": "too fast",
    "one_position": "always one place",
    "contradicts": "contradicts itself",
    "disagrees": "against all others",
}
FINDING_WHY = {
    "duplicate": "This voter has voted on the same question before, so it may count twice.",
    "too_fast": "The vote came quicker than the answers can be read.",
    "one_position": "This voter nearly always picks the same place, whatever stands there.",
    "contradicts": "This voter has voted the other way on the same answers.",
    "disagrees": "This voter disagrees with nearly everybody who voted on the same questions.",
}
MATCHING = "{votes} match; {shown} shown, newest first."
NONE_MATCHING = "No vote matches this filter."
MORE = "Show older ones"
SELECT = "Select this vote"
SELECT_ALL = "Select all shown"
SELECTED = "selected"
NOTE = "Note for the record (optional)"
APPROVE = "Approve"
REJECT = "Reject"
FLAG = "Flag"
DECISIONS = {"approved": APPROVE, "rejected": REJECT, "flagged": FLAG}
KEYS = {"approved": "A", "rejected": "R", "flagged": "F"}
KEYS_HINT = "Keys: J and K go through the votes, A approves, R rejects, F flags, X selects."
STATES_HINT = "Rejected votes count nowhere; flagged ones train nothing until they are decided."
NOTHING_SELECTED = "Select votes first, with their boxes or the key X."
DECIDED = {
    "approved": "{votes} approved.",
    "rejected": "{votes} rejected: they train nothing and count nowhere.",
    "flagged": "{votes} flagged: they train nothing until they are decided.",
    "pending": "{votes} pending again.",
}
ANONYMOUS = "nameless voter"
CHOSE = "chose {name}"
CHOSE_TIE = "called it a tie"
CHOSE_BAD = "called all of them bad"
CHOSEN = "chosen"
AFTER_SECONDS = "{seconds:.0f} s after the last answer"
BLIND = "blind"
OPEN = "open"
NO_CONSENT = "no consent: trains nothing"
PLACE = "place {place}"
EARLIER = "{messages} before it"
EDITED = "What the answer should have said, in the voter's words"
COMMENT = "Comment"
REVIEWED = "Reviewed by {reviewer}"
RANKING = "Ranking"
NO_REWARD = "no reward"

REDACT = "Redact…"
REDACT_TEXT = "Text to black out, everywhere in this conversation"
REDACT_NOW = "Black out for ever"
REDACT_CONFIRM = "Black this text out in the whole conversation? It cannot be undone."
REDACTED = "Blacked out in {places}."
REDACTED_NOWHERE = "That text stands nowhere in this conversation, so nothing was changed."

EXPORT = "Export what the filter shows"
EXPORT_AS = {
    "preference": "Preference pairs (DPO, reward model)",
    "kto": "Liked and disliked (KTO)",
    "sft": "Edited answers (SFT)",
}
EXPORT_NOW = "Export"
EXPORTED = "{rows} exported as {name}; your browser has saved the file."
BAD_DAY = "{day} is no day; write one as 2026-11-22."

# ---- voters ----
VOTERS = "{voters}, the most suspicious first. A finding is a hint and no proof: read the votes before you reject any."
VOTERS_NONE = "Nobody has voted yet."
VOTER_COLUMNS = ("Voter", "Votes", "From – to", "Median time", "Favourite place", "Agrees with others", "Findings")
READ_VOTES = "Read"
READ_VOTES_OF = "Read the votes of {name}"
NOT_KNOWN = "–"

# ---- rounds ----
START_TITLE = "Train a new version on the votes"
START_WHY = (
    "A round snapshots the votes, trains a candidate, measures it against the current version, and promotes it only "
    "if the gate's conditions are met."
)
METHOD = "Method"
METHODS = {
    "ppo": "PPO, against a reward model of the votes",
    "dpo": "DPO, on the pairs",
    "ipo": "IPO, on the pairs",
    "kto": "KTO, on liked and disliked",
}
DRY_RUN = "Dry run: stop after the gate, promote nothing"
START = "Start the round"
START_CONFIRM = "Start a round? It takes a while and uses this machine."
CANNOT_START = "No round can be started now. {reason}"
ROUND_STARTED = "Round {number} has started."
ROUND_STOPPED = "Round {number} was told to stop."
ROUND_NUMBER = "Round {number}"
ROUNDS_TITLE = "Rounds"
ROUNDS_NONE = "No round has been run yet."
ROUND_COLUMNS = ("Round", "Started", "Method", "Learnt from", "Candidate", "Against", "Outcome", "")
LOOK = "Look"
LOOK_AT = "Look at round {number}"
BACK = "All rounds"
LEARNT_FROM = "learnt from {votes} of {voters}"
STEPS = "Steps"
STEP_NAMES = {
    "snapshot": "Snapshot of the votes",
    "reward": "Reward model",
    "normalise": "Scale of the rewards",
    "rlf": "Training the candidate",
    "evaluate": "Measuring it",
    "gate": "Gate",
    "promote": "Promotion",
}
STEP_STATES = {"waiting": "waiting", "running": "running", "done": "done", "failed": "failed"}
GATE = "The gate's conditions"
GATE_COLUMNS = ("Condition", "Measured", "Allowed", "Met")
MET = "met"
NOT_MET = "not met"
SAMPLES = "The same held-out questions, answered by both"
CANDIDATE = "candidate"
CURRENT = "current"
LOG = "What its process said last"
FIGURES = "Figures"
STOP = "Stop the round"
STOP_CONFIRM = "Stop this round? It can be resumed from the command line."
PROMOTE_CANDIDATE = "Promote {ref}"
PROMOTE_OVERRULE = "Promote {ref} although the gate refused it?"
PROMOTE_CONFIRM = "Serve {ref} from now on?"
IS_CURRENT = "{ref} is served now."
ROLL_BACK = "Roll {stage} back"
ROLL_BACK_CONFIRM = "Serve the version of {stage} before the current one again?"
WATCHING_FAILED = "No news of the server: {reason} What you see is the last that came; this page keeps asking."

# ---- versions ----
VERSIONS = "Versions of each stage"
VERSIONS_NONE = "No version has been stored yet: the server shows what its recipe names."
VERSION_COLUMNS = ("Version", "", "Made", "About", "")
SERVED = "served"
PROMOTE = "Promote"
PROMOTED = "{ref} is current now; the server has switched."
ROLLED_BACK = "{stage} was rolled back; current is {ref}."
NO_VERSION = "none"
HISTORY = "Promotions and rollbacks, newest first"
