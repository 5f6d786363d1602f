"""Published weights from the Hugging Face hub: fetched aside, in place once all have come."""

from pathlib import Path

from emseg.datasets.fetch import check_hash
from emseg.errors import UserError
from emseg.progress import say
from emseg.runs.lock import working_in
from emseg.volumes.atomic import discard, publish, writing

REPOSITORY = "cyd0806/dbmim-neuron-segmentation"
FOLDER = "datasets/dbmim/weights"
# The folder of the repository that has them, and what is to be in it.
THERE = "weights"
FILES = tuple(
    f"{recipe}/{kind}_latest.pt"
    for recipe in ("publicem_dbmim_r17", "fullem_mixedmask_dbmim_r33")
    for kind in ("pretrained", "finetuned")
)


def download_weights(folder: str | None = None) -> None:
    """Nothing; the weights that dbMiM publishes lie in `folder`, or where its tutorials look.

    Each has its SHA-256 beside it, which a later call compares. UserError, in one line, where the
    extra `hub` is not installed, the hub is out of reach, or it has other files.
    """
    to = Path(folder or FOLDER)
    with working_in(to, "emseg download"):
        if not all((to / name).is_file() for name in FILES):
            _fetch(to)
        for name in FILES:
            check_hash(to / name, to / name, None)
        told = f"a network takes them by model.init_from={to / FILES[0]}"
        say(f"dbmim-weights: {to} holds them; {told}")


def _fetch(to: Path) -> None:
    # The hub goes on with what an interrupted call left here.
    room = to / "weights.partial"
    _snapshot(room, to)
    came = {path.relative_to(room / THERE).as_posix(): path for path in _files(room / THERE)}
    missing = [name for name in FILES if name not in came]
    if missing:
        # Offline, the hub hands back what an earlier call left, without an error.
        raise UserError(
            f"{REPOSITORY} gave no {', '.join(missing)}, but {', '.join(came) or 'no file'}: "
            f"see https://huggingface.co/{REPOSITORY}, and whether it is within reach"
        )
    with writing(to):
        for name, path in came.items():
            if not (to / name).exists():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                publish(path, to / name)
        discard(room)


def _snapshot(room: Path, to: Path) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            "download dbmim-weights needs the extra 'hub': pip install huggingface-hub"
        ) from error
    say(f"fetching {THERE}/ of huggingface.co/{REPOSITORY}")
    try:
        snapshot_download(repo_id=REPOSITORY, local_dir=str(room), allow_patterns=[f"{THERE}/**"])
    # Its errors are those of whichever libraries its version is built on.
    except Exception as error:
        raise UserError(
            f"cannot fetch {REPOSITORY} ({type(error).__name__}: {error}); the same command goes "
            f"on from what came; by hand: the folder {THERE} of https://huggingface.co/"
            f"{REPOSITORY} as {to}"
        ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
