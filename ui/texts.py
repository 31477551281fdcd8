"""Every English sentence of the page, in one place so that it can be read through, mended and translated."""

from typing import NamedTuple

TITLE = "SAWYER"
TAGLINE = "One question, three stages of the same model. See what training changes, and say which answer is best."

PLACEHOLDER = "Ask something…"
BOX_LABEL = "Your message"
ASK = "Ask"
STOP = "Stop"
NEW_CHAT = "New chat"
EXAMPLES_LABEL = "Try:"
EXAMPLES = (
    "Who are you?",
    "How do I boil an egg?",
    "Tell me a short story about a lighthouse.",
    "Why is the sky blue?",
)

LOGIN = "This SAWYER asks for an API key: give it as the password. Any name will do."

PICK = "This one is best"
PICKED = "✓ Your choice"
TIE = "Tie"
TIED = "✓ Tie"
BAD = "All bad"
BAD_CHOSEN = "✓ All bad"

SETTINGS = "Sampling settings"
MAX_TOKENS = "Max tokens"
MAX_TOKENS_INFO = "Where a reply is cut."
TEMPERATURE = "Temperature"
TEMPERATURE_INFO = "Low is predictable, high is varied."
TOP_P = "Top-p"
TOP_P_INFO = "Leaves out the unlikeliest words."
SEED = "Seed"
SEED_INFO = "Same number, same replies. Empty: random."
SYSTEM_PROMPT = "System prompt"
SYSTEM_PROMPT_INFO = "An instruction that precedes the conversation."

ANSWER_HERE = "Its answer appears here."
WAITING = "Waiting…"
EMPTY_REPLY = "(no text)"
STOPPED = "stopped"
CUT_SHORT = "cut at the longest length"
NO_REWARD = "no reward"
REWARD = "reward"

EARLIER_KEPT = "the conversation went on from here"
EARLIER_VOTED = "your choice"
OTHER_ANSWERS = "The other answers"
YOU = "You"

SERVER_LOADING = "The model is still loading. You can write your question already; this page notices when it is ready."
SERVER_FAILED = "The server could not load its model: {detail}"
SERVER_AWAY = "The server is not answering. Your text stays here; try again in a moment."
SERVER_AWAY_ON_LOAD = "The server is not answering yet. This page keeps trying."
BROKEN_OFF = "The connection to the server broke off."
SILENT = "The server has been silent for too long."
GARBLED = "The server sent something this page does not understand."
RATE_LIMITED = "That was a lot at once. Please try again {when}; your text stays here."
IN_A_MOMENT = "in a moment"
IN_SECONDS = "in {seconds} seconds"
CHAT_TOO_LONG = (
    "This chat has grown longer than the model can read. Press “New chat” to begin again, or ask something shorter."
)
SERVER_TROUBLE = "The server had a problem: {message}"
UNFINISHED = "This answer was never finished."
PANE_FAILED = "No answer from this stage."
STOPPED_EMPTY = "Stopped before it wrote anything."
BAD_SETTING = "{setting}: {problem}."
NOTHING_TO_ASK = "Type a question first."

VOTE_PROMPT = "Which answer is best?"
VOTE_SAVED = "Thank you! Your vote is saved."
VOTE_FAILED = "Your vote was not saved. {reason} Press again to retry."
CONTINUES = "The next question continues from the {stage} answer."
CONTINUES_UNLESS = "Unless you choose, the next question continues from the {stage} answer."
STOPPED_EARLY = "Stopped before any answer was complete, so there is no vote."
NOTHING_TO_VOTE = "No answer arrived, so there is nothing to vote on. Your question is back in the box."


class StageText(NamedTuple):
    """What a pane is called and the one line that explains it."""

    name: str
    description: str


def stage_text(stage: str) -> StageText:
    """Name and description of a pane; panes of a blind comparison (A, B, C) have no description."""
    match stage:
        case "base":
            return StageText("Base", "The raw model. It only continues your text.")
        case "sft":
            return StageText("SFT", "Taught by examples to answer.")
        case "rlf":
            return StageText("RLF", "Tuned further by reward, to answer better.")
        case _:
            return StageText(f"Answer {stage}", "")
