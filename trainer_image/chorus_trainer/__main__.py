"""`python -m chorus_trainer`: the entry point of a training pod."""

from __future__ import annotations

import os
import sys

from chorus_api.run_config import Messaging
from chorus_client.sender import Sender
from chorus_client.stop import StopFlag
from chorus_trainer.runner import main


def _sender(messaging: Messaging, attempt: int) -> Sender:
    return Sender(messaging, attempt=attempt)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported; nothing is fetched in a pod
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main(sys.argv[1:], environ=os.environ, stop=StopFlag().install(), make_messages=_sender))
