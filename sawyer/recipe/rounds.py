"""How a feedback round goes, and what its gate lets through."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sawyer.recipe.section import Fraction, Positive, Spec

Confidence = Annotated[float, Field(gt=0.5, lt=1.0)]


class GateSpec(Spec):
    """What a candidate must show before it is promoted. Every condition must hold."""

    level: Confidence = Field(0.95, description="one-sided confidence of `better` and of `worse`")
    chance: Confidence = Field(
        0.9, description="confidence that a reward model is better than chance on held-out votes"
    )
    margin: float = Field(
        0.0, ge=0, description="how much better, in deviations of the rewards of the current version's replies"
    )
    forget: Fraction = Field(
        0.05, description="largest loss of the new reward model's accuracy on earlier held-out pairs, beyond noise"
    )
    fall: float = Field(
        0.25, ge=0, description="largest fall by the reward model of before these votes, in deviations, beyond noise"
    )
    kl: float = Field(15.0, gt=0, description="largest KL from the reference, in nats a response")
    shortest: float = Field(0.6, gt=0, description="least mean length over that of the current version")
    longest: float = Field(1.6, gt=0, description="largest mean length over that of the current version")
    repetition: Fraction = Field(0.05, description="largest rise of the share of repeated three-word runs")
    distinct: Fraction = Field(0.8, description="least distinct-2 over that of the current version, at equal lengths")

    @model_validator(mode="after")
    def _range(self) -> "GateSpec":
        if self.shortest >= self.longest:
            raise ValueError(f"shortest {self.shortest:g} must be below longest {self.longest:g}")
        return self


class RoundSpec(Spec):
    """One feedback round: votes in, a better version out, or a refusal with reasons."""

    fewest_votes: Positive = Field(50, description="votes that prefer an answer; with fewer there is no round")
    fewest_voters: Positive = Field(2, description="people behind them; 1 lets a single person decide")
    held_out: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.2,
        description="share of conversations the round learns nothing from, by hash; the judge leaves out another one",
    )
    earlier: float = Field(
        2.0, ge=0, description="earlier pairs (of reward.sources) for each new one, and prompts likewise, at most"
    )
    reward_from: Literal["current", "nothing"] = Field(
        "current", description="the reward model goes on from the current one, or from what the recipe names"
    )
    start: Literal["current", "sft"] = Field(
        "current", description="where PPO begins: at the current rlf, or at sft; the reference is sft either way"
    )
    steps: Positive | None = Field(
        None, description="steps of PPO in a round, which goes on from where rlf is; default: ppo.steps"
    )
    own_samples: int = Field(0, ge=0, description="pairs of a reference reply above sft's own, for reward and judge")
    judge_seed: Positive = Field(1, description="added to the recipe's seed for the judge")
    judge_text_steps: int = Field(
        60, ge=0, description="most steps of masked pretraining of a judge that begins at nothing"
    )
    prompts: Annotated[int, Field(ge=8)] = Field(120, description="held-out prompts that candidate and current answer")
    questions: Positive = Field(200, description="questions of TruthfulQA and of MMLU, where SAWYER_DATA has them")
    gate: GateSpec = GateSpec()
