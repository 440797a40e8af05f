"""The plugin types that there are."""

from __future__ import annotations

from chorus_operator.decisions.run.plugin_type import PluginType
from chorus_operator.plugin_types.container.container_type import ContainerType
from chorus_operator.plugin_types.lora.lora_type import LoraType
from chorus_operator.plugin_types.service.service_type import ServiceType

PLUGIN_TYPES: dict[str, PluginType] = {each.name: each for each in (LoraType(), ContainerType(), ServiceType())}
