"""``train``: a configuration in, a run directory out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from slimnet._foreign import no_exit
from slimnet.allocation import LiveFlops
from slimnet.attached import refuse_widths
from slimnet.data.splits import SPLIT_FILE, splits_bytes
from slimnet.data.transform import Transform, described
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import atomic_file, check_free, check_output, claim_run, json_bytes, write_bytes, write_json
from slimnet.files.untrusted import holds
from slimnet.models import Trust, check_trusted, resolved
from slimnet.models.trust import HUB, source_of
from slimnet.names import NO_MODEL
from slimnet.progress import NOBODY, Listener, listener, listening, say_from
from slimnet.settings import check_names
from slimnet.terminal import on_stderr
from slimnet.training.checkpoint import TENSORS, VALUES, load_checkpoint
from slimnet.training.config import TrainConfig
from slimnet.training.job import Job, prepare
from slimnet.training.loggers import Logs, check_loggers, open_logs
from slimnet.training.loop import Loop
from slimnet.training.metrics import METRICS, SELECTION, keep_epochs, read_metrics
from slimnet.training.optim import make_average, make_optimizer
from slimnet.training.result import write_result
from slimnet.training.run import CONFIG, MODEL, Run, is_finished, read_config, read_record
from slimnet.training.signals import SignalWatch
from slimnet.training.slim_start import check_slim_start, cut_at_once, is_slim_folder, slim_network
from slimnet.training.state import State, Totals
from slimnet.training.sync_norm import synced_norms
from slimnet.training.team import Team, is_main_process, join_team

_say = say_from(__name__)
AUTO = ("precision", "channels_last")  # settings whose "auto" becomes a choice when a run starts


def train(
    *,
    out: str | Path,
    model: str | None = None,
    data: str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Listener | bool | None = None,
    trust_code: bool = False,
    transform: Transform | None = None,
    **settings: Any,
) -> Run:
    """Train a network, with or without pruning, and leave a run directory.

    Args:
        out: the run directory.
        model: name of a model (see `slimnet.build_model`); ``"package.module:function"`` or ``"FILE.py:function"`` is a factory
            of your own: it is named here, so its code is run.
        data: name of a data set; ``"digits"`` if left out.
        resume: go on with the run in ``out``. Its own settings hold; those given again must be the same, but that ``epochs`` may
            be more: from where it stands, the learning rate is then that of a run so long, and pruning keeps to its own epochs.
        force: overwrite the run in ``out``.
        progress: None shows progress to whoever listens (see `slimnet.progress`), by default on stderr; False to nobody; or a
            listener of your own. The logger ``slimnet.training`` has the lines in any case.
        trust_code: let a factory of the user's own that a ``config.json`` names build the network of a run that is resumed,
            or of a teacher. Without it, only the one that ``model`` names does.
        transform: changes a training image, uint8 (C, H, W) in its own size, into one of the size of the images: a transform of
            torchvision's v2, or a function. In place of ``augment``; the same for the same seed, epoch and image. It is code, and
            not kept: whoever resumes the run gives it again.
        **settings: the other fields of :class:`~slimnet.training.TrainConfig`, e.g. ``method``, ``epochs``,
            ``lr``.

    Returns:
        The finished run.

    Raises:
        ArgumentError: if a setting is unknown or out of its range, ``out`` exists or is being written by another
            process, or a setting contradicts the run.
        DataError: if the data is missing or malformed.
        ModelError: if the model is unknown, or does not fit the data or the initial weights; or a run names a factory that is not
            trusted.
        FileFormatError: if the run to be resumed is missing or corrupt.
        TrainingError: if the loss is not a number.
        WriteError: if a file of the run cannot be written; the last checkpoint stands.
        Interrupted: after SIGINT or SIGTERM, with a checkpoint written; a KeyboardInterrupt.
    """
    folder = Path(out)
    given = {name: value for name, value in (("model", model), ("data", data)) if value is not None} | settings
    check_names(given)
    if transform is not None:
        given["transform"] = described(transform)
    if model is not None:
        given |= _as_recorded(model, given.get("model_args"))
    if is_main_process():  # what the others see may be the lock of their own first one
        check_free(folder)
    config = _resumed(folder, given, trust_code or model or False) if resume else _fresh(folder, given, trust_code, force=force)
    if config.transform and transform is None:
        raise ArgumentError(f"the run uses a transform of its own ({config.transform}): give it, transform=…, in Python.")
    trust: Trust = trust_code or config.model  # the network is named by the caller, or was checked
    longer = resume and config.epochs > read_config(folder, read_record(folder)).epochs
    if resume and is_finished(folder) and not longer:
        return Run.open(folder, trust_code=trust)
    check_loggers(config.log)
    team = join_team(config.device)
    team.wait()  # until all of them have looked into the folder
    told = listening(_listener(progress) if team.is_main else NOBODY)
    with told, claim_run(folder) if team.is_main else nullcontext(), no_exit(config.model):
        if team.is_main and not resume:
            check_output(folder, force=force)  # another process may have been faster
        _train(config, team, folder, resume=resume, longer=longer, trust_code=trust, transform=transform)
    return Run.open(folder, trust_code=trust)


def _as_recorded(model: str, model_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """The network as a run holds it: a name that needs no hub, and arguments where there are some."""
    if source_of(model)[0] != HUB or not isinstance(model_args or {}, Mapping):  # the settings refuse what is none
        return {}
    name, arguments = resolved(model, model_args)
    return {"model": name, **({"model_args": arguments} if arguments else {})}


def _listener(progress: Listener | bool | None) -> Listener:
    """Who is told of a training."""
    if isinstance(progress, Listener):
        return progress
    if progress is False:
        return NOBODY
    return on_stderr() if listener() is NOBODY else listener()


def _fresh(folder: Path, given: dict[str, Any], trust_code: Trust, *, force: bool) -> TrainConfig:
    if "model" not in given and is_slim_folder(given.get("init")):
        given = {**slim_network(given["init"], trust_code), **given}
    if "model" not in given:
        raise ArgumentError(NO_MODEL)
    config = TrainConfig(**given)
    if config.target:
        refuse_widths(config.method)
    if is_slim_folder(config.init):
        check_slim_start(config)
    if config.teacher and Path(config.teacher).resolve() == folder.resolve():
        raise ArgumentError(f"the run {folder} cannot be its own teacher: write it to another folder.")
    check_output(folder, force=force)
    return config


def _resumed(folder: Path, given: dict[str, Any], trust_code: Trust) -> TrainConfig:
    """The settings of the run in ``folder``; those that are given again must be the same."""
    try:
        record = read_record(folder)
        config = read_config(folder, record)
    except FileFormatError as error:
        raise FileFormatError(f"there is nothing to resume: {error}") from None
    if given.get("epochs", config.epochs) != config.epochs:
        if is_finished(folder) and not holds(folder, TENSORS):
            raise ArgumentError(f"the run in {folder} holds no {TENSORS}: it cannot be made longer.")
        config = config.lengthened(given["epochs"])
    asked = replace(config, **given)
    for name in given:
        had, value = getattr(config, name), getattr(asked, name)
        if name == "method" and config.target and not value.widths:  # the target has added the widths
            had = had.with_widths(())
        if value != had and not (name in AUTO and value == "auto"):
            raise ArgumentError(f"`{name}` was {had!r} when the run in {folder} began, got {value!r}: leave it out.")
    check_trusted(config.model, folder / CONFIG, trust_code, config.model_args)
    return config


def _train(
    config: TrainConfig,
    team: Team,
    folder: Path,
    *,
    resume: bool,
    longer: bool,
    trust_code: Trust,
    transform: Transform | None,
) -> None:
    """Take a run from nothing, or from its checkpoint, to its result; the folder is this process's own, or its first one's."""
    has_checkpoint = resume and holds(folder, TENSORS)
    recorded = read_record(folder)["data"] if resume else None
    of_run: dict[str, Any] = {"recorded": recorded, "folder": folder if resume else None, "transform": transform}
    job = prepare(config, team, weights=not has_checkpoint, say=_say, trust_code=trust_code, **of_run)
    state = start_state(job)
    flops = LiveFlops(job.model, job.groups, job.example.to(team.device))  # of the network at full size
    if has_checkpoint:
        load_checkpoint(folder, state)
    elif is_slim_folder(config.init):
        cut_at_once(state, job.example.to(team.device))
    if state.plan is not None and state.pruner.mask is None:  # what began small has no channels that are not live
        flops = LiveFlops(job.model, job.groups, job.example.to(team.device))
    if team.is_main:
        if longer:
            _lengthen(folder, config)
        _open_folder(folder, job, state, fresh=not resume)
    team.wait()
    synced = synced_norms(job.model, enabled=config.sync_bn and team.world_size > 1)
    with _logs(folder, job, fresh=not resume) as logs:
        with synced, SignalWatch() as watch:  # before and after, there is nothing to save: a signal just ends the process
            loop = Loop(job, state, folder, watch, _say, flops, logs)
            if not has_checkpoint:
                loop.begin()
                loop.save()
            loop.run()
        if team.is_main:
            _say("evaluating the best epoch")
            logs.result(write_result(job, state, folder, _say))
    team.wait()


def _logs(folder: Path, job: Job, *, fresh: bool) -> AbstractContextManager[Logs]:
    """The logs that the settings name; of several processes, only the first one has any."""
    if not job.team.is_main:
        return nullcontext(Logs({}))
    return open_logs(job.config.log, folder, job.record(), read_metrics(folder), fresh=fresh)


def start_state(job: Job) -> State:
    """A run before its first step."""
    optimizer = make_optimizer(job.model, job.config)
    pruner = job.config.method.start(job.model, job.groups, epochs=job.config.laid_out)
    average = make_average(job.model, job.config.ema)
    return State(job.model, optimizer, pruner, Totals.zero(job.team.device), average=average)


def _lengthen(folder: Path, config: TrainConfig) -> None:
    """Record that a run has more epochs; its result, of fewer, goes before: what is interrupted here is an unfinished run."""
    record = read_record(folder)
    (folder / MODEL).unlink(missing_ok=True)
    write_json(folder / CONFIG, {**record, "train": config.as_dict()})


def _open_folder(folder: Path, job: Job, state: State, *, fresh: bool) -> None:
    """Make the run directory ready: a fresh one, or no more metrics than epochs in a resumed one."""
    if not fresh:
        keep_epochs(folder, state.epoch)
        return
    record, splits = json_bytes(job.record()), splits_bytes(job.dataset)
    with atomic_file(folder / CONFIG) as file:
        file.write(record)
        file.flush()  # where the disk is full, the run that was there stays
        for name in (MODEL, METRICS, SELECTION, TENSORS, VALUES, SPLIT_FILE):
            (folder / name).unlink(missing_ok=True)
        if splits is not None:
            write_bytes(folder / SPLIT_FILE, splits)
