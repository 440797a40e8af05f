"""Fixed names that both sides of a boundary use: labels, paths, ports, environment variables."""

from __future__ import annotations

from pathlib import PurePosixPath

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "chorus"
PROJECT_LABEL = "chorus.dev/project"
PLUGIN_LABEL = "chorus.dev/plugin"
RUN_LABEL = "chorus.dev/run"
ATTEMPT_LABEL = "chorus.dev/attempt"
ROLE_LABEL = "chorus.dev/role"  # prepare | fetch | train | exchange | publish | describe
QUEUE_NAME_LABEL = "kueue.x-k8s.io/queue-name"  # Kueue's own, on a Job: the LocalQueue that it waits in
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"  # Kubernetes' own, on the pods of a Job
DESCRIBES_LABEL = "chorus.dev/describes"  # the Plugin that a describe Job asks
TRIGGER_KEY_ANNOTATION = "chorus.dev/trigger-key"
RUN_UID_ANNOTATION = "chorus.dev/run-uid"
MESSAGES_CONTAINER = "messages"
"""The sidecar that forwards what a container writes into its messages file."""
MAIN_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
"""kubectl's own, on pods: the container whose log and exit count, beside sidecars that others inject."""
SUSPENDED_ANNOTATION = "chorus.dev/suspended"
"""On a Job that Chorus has suspended itself: others that are suspended are not its to resume."""
FROZEN_DIGEST_ANNOTATION = "chorus.dev/frozen-digest"
"""On the Job of an attempt: digest of the frozen configuration that it was made from."""
PROJECT_ID_ANNOTATION = "chorus.dev/project-id"
PLUGIN_ID_ANNOTATION = "chorus.dev/plugin-id"
"""On a pod: the project_id and plugin_id that its messages carry, frozen when it was made."""
PLUGIN_UID_ANNOTATION = "chorus.dev/plugin-uid"
PLUGIN_GENERATION_ANNOTATION = "chorus.dev/plugin-generation"
"""On a describe pod: the Plugin that it speaks for."""
PREPARE_KEY_LABEL = "chorus.dev/prepare-key"
PREPARE_ANNOTATION = "chorus.dev/prepare"
"""On a Project: change its value to have the data looked at again."""

AUDIENCE = "chorus"
MESSAGES_PORT = 8443
MESSAGES_PATH = "/v1/messages"
PROGRESS_PATH = "/v1/progress"  # progress in Kubeflow Trainer's wire form
EXCHANGE_PORT = 8443
EXCHANGE_FRAME = "/v1/frame/"  # GET: train.parquet, eval.parquet, frame.json
EXCHANGE_ARTEFACT = "/v1/artefact/"  # PUT, DELETE: a file of the artefact, by its path
MAX_BODY_BYTES = 64 * 1024
MAX_TERMINATION_BYTES = 2048
MAX_CERTIFICATE_BYTES = 8 * 1024

CA_CONFIG_MAP = "chorus-ca"
CA_KEY = "ca.crt"
WEBHOOK_KEY = "webhook.pub"  # whpk_…: what this namespace's services are sent is signed with its other half
RECIPIENT_ATTRIBUTE = "recipient"  # of events to services: the URL that each is posted to
RUN_SERVICE_ACCOUNT = "chorus-run"

ROOT = PurePosixPath("/chorus")
RUN_CONFIG = ROOT / "run.json"
TRAINING_DATA = ROOT / "training_data.json"
DATA_DIR = ROOT / "data"  # the frame: train.parquet, eval.parquet, frame.json; read-only
BASE_DIR = ROOT / "base"  # the base model; read-only
RESUME_DIR = ROOT / "resume"  # adapter to start from; read-only, only with resumeFrom
RUN_DIR = ROOT / "run"  # this run's own directory
VOLUME_DIR = ROOT / "volume"  # the Project's whole claim (prepare, fetch and publish Jobs only)
SOURCE_DIR = ROOT / "source"  # the data to prepare; read-only
SOURCE_SECRET_DIR = PurePosixPath("/var/run/chorus-source")  # the Secret of the data's source; prepare Jobs only
SOURCE_CA_DIR = PurePosixPath("/var/run/chorus-source-ca")  # certificates that it is known by; prepare Jobs only
JOB_CONFIG = ROOT / "job.json"  # configuration of prepare, fetch and exchange Jobs, and of publish Jobs that sweep
IDENTITY_DIR = PurePosixPath("/var/run/chorus")  # ca.crt and token
TERMINATION_LOG = PurePosixPath("/dev/termination-log")

OUT_DIR = RUN_DIR / "out"  # the artefact
MESSAGES_DIR = ROOT / "messages"  # a container's messages as JSON lines, and how far they are forwarded
MESSAGES_FILE = MESSAGES_DIR / "messages.jsonl"
MESSAGES_SENT = MESSAGES_DIR / f"{MESSAGES_FILE.name}.sent"  # from when the forwarder runs, and knows how to stop
SCRIPT_DIR = ROOT / "script"  # a plugin's own script, once its digest is checked; read-only
IMAGE_SCRIPTS_DIR = PurePosixPath("/opt/chorus/scripts")  # of the trainer image: where scripts by path are
SCRIPT_SOURCE_DIR = ROOT / "script-source"  # the script before it is checked; only the init container sees it
FRAME_DIR = ROOT / "frame"  # the frame before it is written in the format that the plugin reads

SERVICE_SPEAKER = "service"
"""In `status.report.podUid`: a service says it, and no pod."""

JOB_CONFIG_VARIABLE = "CHORUS_JOB_CONFIG"  # what JOB_CONFIG would hold, of a publish Job without a ConfigMap
ATTEMPT_ENV = "CHORUS_ATTEMPT"
ROLE_ENV = "CHORUS_ROLE"  # train | describe
TRAINING_DATA_ENV = "CHORUS_TRAINING_DATA"
DATA_DIR_ENV = "CHORUS_DATA_DIR"
RUN_DIR_ENV = "CHORUS_RUN_DIR"
OUT_DIR_ENV = "CHORUS_OUT_DIR"
MESSAGES_URL_ENV = "CHORUS_MESSAGES_URL"
MESSAGES_FILE_ENV = "CHORUS_MESSAGES_FILE"
TOKEN_FILE_ENV = "CHORUS_TOKEN_FILE"
CA_FILE_ENV = "CHORUS_CA_FILE"
SUBJECT_UID_ENV = "CHORUS_SUBJECT_UID"
PROJECT_ID_ENV = "CHORUS_PROJECT_ID"
PLUGIN_ID_ENV = "CHORUS_PLUGIN_ID"
PROGRESS_URL_ENV = "KUBEFLOW_TRAINER_SERVER_URL"
PROGRESS_CA_ENV = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
PROGRESS_TOKEN_ENV = "KUBEFLOW_TRAINER_SERVER_TOKEN"
"""What transformers' own Trainer looks for: with these it reports progress to Chorus without a change."""

# Layout of a Project's claim
FRAMES = "frames"  # frames/<frame name>/
BASES = "base"  # base/<base key>/
RUNS = "runs"  # runs/<run uid>/
MODELS = "models"  # models/<model name>/
LATEST = "latest"  # latest/<plugin> -> ../models/<model name>
