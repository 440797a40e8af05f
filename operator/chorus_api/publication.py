"""What a publish Job is told.

Apart from the other configurations, so that a pod which only publishes does not build the models of the kinds.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from chorus_api.file_model import FileModel


class ListedRuns(FileModel):
    """The runs that there are in the namespace."""

    own: list[str] = Field(description="uids of those of the Project: their directories are marked as its own.")
    others: list[str] = Field(description="uids of those of other Projects.")
    listed: AwareDatetime = Field(description="When the list was made: what was marked since then is needed too.")


class PublishConfig(FileModel):
    """/chorus/job.json of a publish Job."""

    run_name: str
    run_uid: str
    run_id: str
    plugin: str
    model_name: str
    expected_digest: str | None = Field(None, description="Digest that MODEL_NAME reported, if it did.")
    kind: Literal["adapter", "files"] = Field(
        "adapter", description="adapter: weights with sums and a run record. files: what a container left."
    )
    optional: bool = Field(False, description="files: there may be none, and then nothing is published.")
    promote: bool = Field(description="Move latest/<plugin> to this model.")
    project: str = Field("", description="Name of the Project.")
    namespace: str = Field("", description="Its namespace.")
    project_uid: str = Field(
        "", description="Its uid. Empty: nobody is known to own anything, so nothing is marked or swept."
    )
    promoted_before: str | None = Field(
        None, description="Model of the Project that latest/<plugin> should point to: it tells whose an old link is."
    )
    listed_runs: ListedRuns | None = Field(
        None,
        description="Directories under runs/ that the Project has marked and whose run is not listed are swept. "
        "None: nothing is swept.",
    )
