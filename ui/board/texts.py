"""Every English sentence of the board."""

TITLE = "Board"
TAGLINE = "What people prefer, and how sure that is."
LIVE = "Live: this page asks for new votes every few seconds while it is looked at."
LOADING = "Counting the votes…"
AWAY = "{reason} The figures below are the last ones that came."

SHOW = "Show"
BY = "Compare"
BY_STAGE = "stages"
BY_VERSION = "versions"
VOTES_OF = "Votes"
ALL_VOTES = "all"
BLIND_VOTES = "blind"
OPEN_VOTES = "open"

VOTES = "votes"
BLIND_NOTE = "blind votes alone"
OPEN_NOTE = "open votes alone"
ALL_NOTE = "blind and open votes"
SHARES = "What people chose"

EMPTY_TITLE = "No votes yet"
EMPTY_STEPS = (
    "Open {compare} and click an example question, or type one.",
    "Read the answers side by side as they come.",
    "Press the button below the best one. That is a vote.",
)
EMPTY_COMPARE = "the compare page"
EMPTY_AFTER = "This page notices by itself; the first figures appear with the first vote."
EMPTY_SELECTION = "No votes of this kind yet. Choose other votes above to see those that there are."

PAIRS = "Who wins against whom"
PAIRS_AXIS = "share of comparisons won, ties count half; 90 % interval"
PAIR_APART = "{better} is preferred to {worse}: {share} of {n}."
PAIR_OPEN = "{first} and {second} are not separable yet ({share} of {n})."
PAIRS_NONE = "No pair has been compared yet."
NOT_SEPARABLE = "not separable yet"
WON = "{wins} won, {ties} tied, {losses} lost"

LADDER = "Strength"
LADDER_CONTROLLED = "Strength, length set aside"
LADDER_AXIS = "Bradley–Terry log-odds against the average; 90 % interval"
LADDER_APART = "{first} is the strongest, and separable from {second}."
LADDER_OPEN = "Not separable yet: {first} is ahead of {second}, but that may be chance."
LADDER_NONE = "Too few comparisons for strengths."
LADDER_ALONE = "Only {first} has been compared so far."
LENGTH_HELPS = "Longer replies win more often ({effect} log-odds for one deviation longer, {interval})."
LENGTH_HURTS = "Longer replies win less often ({effect} log-odds for one deviation longer, {interval})."
LENGTH_OPEN = "No effect of length is separable from none ({effect}, {interval})."
APART_FROM = "separable from {names}"
APART_FROM_NONE = "separable from none yet"

DAYS = "Votes over time"
DAYS_AXIS = "counting votes per day (UTC)"
DAYS_FINDING = "{votes} on {days}; most on {day} ({most})."
DAYS_NONE = "No days to show yet."

POSITION = "Does the place matter?"
POSITION_AXIS = "preferred panes by place; dashed: equal shares"
POSITION_BIASED = "The places differ (p = {p}): part of the preference may be for the place, not the answer."
POSITION_FAIR = "No preference for a place can be seen (p = {p})."
POSITION_NONE = "Too few blind votes for a test."
PLACES = ("left", "middle", "right")

REWARDS = "Rewards of what people were shown"
REWARDS_AXIS = "reward of a reply; the mark is the mean"
REWARDS_FINDING = "Highest mean: {name} ({mean}). This is the reward model's opinion, not people's."
REWARDS_NONE = "No scored replies yet."

AGREEMENT = "Do reward model and people agree?"
AGREEMENT_LABEL = "Preferred had more reward"
AGREEMENT_AXIS = "share of pairs; 90 % interval; dashed: chance"
AGREEMENT_ABOVE = "They agree in {share} of {n}, more often than by chance."
AGREEMENT_BELOW = "They agree in only {share} of {n}, less often than by chance."
AGREEMENT_OPEN = "They agree in {share} of {n}; that is not separable from chance yet."
AGREEMENT_NONE = "Too few pairs with two rewards."

ROUNDS = "Training rounds"
ROUNDS_FINDING = "{rounds} so far, {promoted} promoted a new version."
ROUNDS_NONE = "No round has been run on these votes yet. Whoever runs the server starts one on the review page."
ROUND_STATES = {
    "running": "running",
    "interrupted": "interrupted",
    "promoted": "promoted",
    "refused": "refused",
    "failed": "failed",
    "dry": "passed, dry run",
}
ROUND_COLUMNS = ("Round", "Method", "Learnt from", "Candidate", "Against", "Outcome")

DOWNLOAD = "Download {title} as {kind}"
AS_TABLE = "Figures as a table"
