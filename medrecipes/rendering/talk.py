"""A conversation with a model, turn by turn, as the prompts that its template makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from medrecipes.core.errors import MedRecipesError
from medrecipes.data.records import Message
from medrecipes.rendering.chat_template import ChatTemplate

# what a terminal may send and a model would take for text: the keys that move, and the control characters beside them
KEYS = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|O[ -~])?|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass
class Talk:
    """A conversation that always fits its model: the oldest turns go first, whole, and are counted."""

    template: ChatTemplate
    window: int
    messages: list[Message] = field(default_factory=list)

    def ask(self, question: str, room: int) -> tuple[list[int], int]:
        """The prompt's ids with a new question, `room` tokens left for the answer, and how many turns had to go for it."""
        asked, gone = [*self.messages, Message("user", KEYS.sub("", question))], 0
        while True:
            [ids] = self.template.prompts([asked])
            if len(ids) + room <= self.window:
                self.messages = asked
                return ids, gone
            if len(asked) == 1:
                raise MedRecipesError(
                    f"the question takes {len(ids)} tokens and its answer up to {room}, but the model was trained on "
                    f"{self.window}; shorten it, or lower eval.max_new_tokens"
                )
            asked, gone = asked[2:], gone + 1

    def answered(self, text: str, reasoning: str = "") -> None:
        """Remember the answer to the last question, and the reasoning before it where the template may write it again."""
        self.messages.append(Message("assistant", text, self.template.remembered(reasoning)))
