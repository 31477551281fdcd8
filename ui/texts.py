"""Every English sentence of the page, in one place so that it can be read through, mended and translated."""

from typing import NamedTuple

TITLE = "SAWYER"
COMPARE = "Compare"
ARENA = "Arena"
SUMMARIES = "Summaries"
BOARD = "Board"
REVIEW = "Review"
PAGES = "Pages"
TAGLINE = "One question, three stages of the same model. Say which answer is best: SAWYER learns from it."
ARENA_TAGLINE = "Three answers, no names. Vote first; then you see which stage wrote which."
SUMMARIES_TAGLINE = "Paste an article. The same model summarises it before and after tuning by reward."

HINT = (
    "Ask something, or press an example below.",
    "Three stages of one model answer side by side.",
    "Press the best answer. Votes train the next version.",
)
SUMMARIES_HINT = (
    "Paste an article, or press an example below.",
    "The same model summarises it twice: before and after its tuning.",
    "Press the better summary. Votes train the next version.",
)
HINT_DONE = "Got it"

PLACEHOLDER = "Ask something…"
ARTICLE_PLACEHOLDER = "Paste an article…"
BOX_LABEL = "Your message"
ASK = "Ask"
SUMMARISE = "Summarise"
BEFORE = "Before tuning by reward."
AFTER = "After tuning by reward."
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
PICKED = "Your choice"
TIE = "Tie"
TIED = "Tie: your choice"
BAD = "All bad"
BAD_CHOSEN = "All bad: your choice"
UNDO = "Undo"
ALL_ANEW = "All answers anew"
RETRY = "Try again"
THUMBS = {True: "Thumb up for {pane}", False: "Thumb down for {pane}"}
EDIT_REPLY = "Write what {pane} should have said"
ANSWER_ANEW = "Let {pane} answer anew"
EDIT_MESSAGE = "Edit your message"
CANCEL = "Cancel"

PRESENTER = "Presenter mode"
PRESENTER_SHORT = "Present"
JOIN = "Join in:"
ONLY_HERE = "This address works on this computer only. Start SAWYER with --host 0.0.0.0 --open to let others in."
QR_LABEL = "QR code of this page's address"

PAST_CHATS = "Past chats"
PAST_KEPT = "Kept in this browser only."
FORGET = "Delete the chat “{title}”"
SHARE = "Share"
COPY_LINK = "Copy link"
LINK_COPIED = "Copied"
LINK = "Link to this chat"
SHARE_ABOUT = "The link holds the whole chat; nothing is stored on the server."
MARKDOWN_FILE = "Download as Markdown"
JSON_FILE = "Download as JSON"

NAME = "Your name (optional)"
CONSENT = "My votes may train SAWYER"
COMMENT_PLACEHOLDER = "Why? (optional)"
COMMENT = "Comment on your vote"
SEND = "Send"
COMMENT_SAVED = "Saved with your vote:"
EDIT_ABOUT = "Write what {answer} should have said. Saving it also makes it your choice."
EDIT_BOX = "Your version of the answer"
SAVE = "Save"
YOUR_VERSION = "Your version"
REVISING = "You are changing your last message; the new one takes its place."

SETTINGS = "Settings"
WANTED = "Side by side"
WANTED_INFO = "Stages or versions, three at most; from the next question on."
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
REWARD_SCALE = "reward {reward}, on a scale from {low} to {high}"
REWARD_HIDDEN = "reward: after your vote"
PARTS = "Parts of the reward"
WAS = "was {pane}"

EARLIER_KEPT = "the conversation went on from here"
EARLIER_VOTED = "your choice"
EARLIER_EDITED = "your version of it"
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
CUT_OFF = "The page was closed or the server ended before this answer was finished."
CANNOT_ANSWER_ANEW = "There is no answer of this server to replace. Ask again instead."
NO_SUMMARIES = "This server runs a chat model, which does not summarise. One that does is trained and started so:"
SUMMARIES_COMMANDS = (
    "sawyer pipeline recipes/tiny-t5-neutral.yaml",
    "sawyer serve recipes/tiny-t5-neutral.yaml",
    "sawyer ui --api http://127.0.0.1:8000",
)
TO_COMPARE = "Talk to the chat model"
UNFINISHED = "This answer was never finished."
PANE_FAILED = "No answer from this stage."
STOPPED_EMPTY = "Stopped before it wrote anything."
BAD_SETTING = "{setting}: {problem}."
NOTHING_TO_ASK = "Type a question first."

VOTE_PROMPT = "Which answer is best?"
SUMMARIES_PROMPT = "Which summary is better?"
SAME_WORDS = "They are the same, word for word."
VOTE_SAVED = "Thank you! Your vote is saved."
KEYS = "Keys: {numbers}, T, B; U takes it back."
EDIT_SAVED = "Thank you! Your version is saved."
REVEALED = "The names are out, so this turn takes no other vote."
COPIED = "This is a copy of a shared chat. Ask on to continue it."
EDIT_SAME = "Change the answer first, or press Cancel."
UNDO_FAILED = "Your vote was not taken back. {reason}"
THUMB_FAILED = "Your thumb was not saved. {reason}"
VOTE_FAILED = "Your vote was not saved. {reason} Press again to retry."
CONTINUES = "The next question continues from {answer}."
CONTINUES_UNLESS = "Unless you choose, the next question continues from {answer}."
STOPPED_EARLY = "Stopped before any answer was complete, so there is no vote."
NOTHING_TO_VOTE = "No answer arrived, so there is nothing to vote on. Your question is back in the box."


def replies_ahead(count: int) -> str:
    """Why a pane waits."""
    return f"Waiting: {count} {'reply' if count == 1 else 'replies'} ahead of yours"


def tokens(count: int) -> str:
    """A reply's length."""
    return f"{count} token{'' if count == 1 else 's'}"


def choice_label(name: str) -> str:
    """A stage or version where it is chosen from a list."""
    return name if "@" in name else stage_text(name).name


def answer_of(stage: str) -> str:
    """A pane's answer in the middle of a sentence: ``the RLF answer``, ``answer A`` of a blind one."""
    name = stage_text(stage).name
    return f"answer {stage}" if name == f"Answer {stage}" else f"the {name} answer"


class StageText(NamedTuple):
    """What a pane is called and the one line that explains it."""

    name: str
    description: str


def stage_text(stage: str, summary: bool = False) -> StageText:
    """Name and description of a pane; panes of a blind comparison (A, B, C) have no description.

    ``summary``: of a model that summarises, whose stages are before and after PPO.
    """
    stage, _, version = stage.partition("@")
    number = f" {version}" if version else ""
    match stage:
        case "base":
            return StageText(f"Base{number}", BEFORE if summary else "The raw model: it continues your text.")
        case "sft":
            return StageText(f"SFT{number}", "Taught by examples to answer.")
        case "rlf":
            return StageText(f"RLF{number}", AFTER if summary else "Tuned further by reward.")
        case _:
            return StageText(f"Answer {stage}", "")
