"""The pod's side of the protocol: messages to the control plane, the termination record, stopping, masked secrets."""

from chorus_client.masking import mask
from chorus_client.sender import Pace, Sender, Undelivered
from chorus_client.stop import StopFlag, Stopped
from chorus_client.termination import write_termination

__all__ = ["Pace", "Sender", "StopFlag", "Stopped", "Undelivered", "mask", "write_termination"]
