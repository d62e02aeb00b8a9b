"""All nodes as one tree: a capability's settings live in a file of their own and are hooked in here with one line."""

from __future__ import annotations

from streamdet.config.cameras import CameraConfig, CameraName, LiveConfig
from streamdet.config.delivery import (
    EventLogConfig,
    KafkaConfig,
    MqttConfig,
    PostgresConfig,
    StoreConfig,
    WebhookConfig,
)
from streamdet.config.gpu import GpuConfig
from streamdet.config.pictures import PicturesConfig
from streamdet.config.record import BroadcastConfig, RecordConfig
from streamdet.config.serve import ServeConfig
from streamdet.config.tree import (
    DrawConfig,
    MergeConfig,
    ModelConfig,
    MotionConfig,
    Node,
    OutputConfig,
    RulesConfig,
    SourceConfig,
    TilesConfig,
    TrackerConfig,
)

__all__ = ["Config"]


class Config(Node, frozen=True):
    """Everything a run needs."""

    sources: list[str] = []
    source: SourceConfig = SourceConfig()
    motion: MotionConfig = MotionConfig()
    tiles: TilesConfig = TilesConfig()
    model: ModelConfig = ModelConfig()
    gpu: GpuConfig = GpuConfig()
    merge: MergeConfig = MergeConfig()
    tracker: TrackerConfig = TrackerConfig()
    rules: RulesConfig = RulesConfig()
    draw: DrawConfig = DrawConfig()
    output: OutputConfig = OutputConfig()
    live: LiveConfig = LiveConfig()
    cameras: dict[CameraName, CameraConfig] = {}
    store: StoreConfig = StoreConfig()
    mqtt: MqttConfig | None = None
    webhooks: list[WebhookConfig] = []
    kafka: KafkaConfig | None = None
    postgres: PostgresConfig | None = None
    event_log: EventLogConfig | None = None
    serve: ServeConfig = ServeConfig()
    pictures: PicturesConfig = PicturesConfig()
    record: RecordConfig = RecordConfig()
    broadcast: BroadcastConfig = BroadcastConfig()
