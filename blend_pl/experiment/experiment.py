"""One experiment: reads settings, builds model and trainer, trains, scores, and writes results."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import Namespace
from lightning.pytorch import seed_everything

# Lightning has no public function that sets the hyperparameters that a module saves; LightningCLI uses this one.
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from blend_pl.callbacks import Evaluation, LastCheckpoint, RatesWriter, TrainingCost
from blend_pl.compat import upgrade_config
from blend_pl.data.settings import digest_of_settings, instantiate_datamodule
from blend_pl.distillation.true_rates import TRUE_RATES
from blend_pl.errors import ConfigError, DataError, TrainingInterrupted
from blend_pl.experiment import tracking
from blend_pl.experiment.parser import (
    Command,
    ExperimentConfig,
    make_parser,
    parse_settings,
    setting_names_of,
    to_arguments,
    to_dict,
)
from blend_pl.experiment.trainer import make_trainer
from blend_pl.experiment.validation import UNLIMITED, check_settings, instantiate
from blend_pl.report import print_scores
from blend_pl.runs.digest import other_data_message, resumable_run_dir, stored_digest
from blend_pl.runs.folder import (
    BEST_CHECKPOINT,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    LAST_CHECKPOINT,
    best_score_key,
    config_fingerprint,
    create_run_dir,
    is_finished,
    lock_run,
    run_dir_of,
)
from blend_pl.runs.results import RESULTS_FILE, Cost, Results, derive_role
from blend_pl.runs.teachers import resolve_teachers
from blend_pl.systems import NeuralSystem
from blend_pl.systems.base import INSTANTIATOR, stored_signature
from blend_pl.systems.checkpoint import read_checkpoint
from blend_pl.utils.exceptions import user_errors
from blend_pl.utils.files import atomic_file
from blend_pl.utils.quiet import quiet_libraries

CallbackType = TypeVar("CallbackType")
ClassType = TypeVar("ClassType")


class Experiment:
    """One experiment: the settings of a run, and, once it is built, its data, model, trainer and run folder.

    `Experiment("experiments/simulated_baseline.yaml").fit().results` trains, scores and returns the results. The
    methods `fit`, `validate`, `test` and `predict` are the commands of the same names.

    Args:
        config: path of an experiment file, a mapping of settings, or command-line arguments, which may begin with paths
            of experiment files.
        command: the method that is called later. All but `fit` need the setting `ckpt_path`.

    Attributes:
        settings: the resolved settings as plain data.
        fingerprint: equal for equal settings; see `config_fingerprint`.
        run_dir: the run's folder; set by `build`.
        checkpoint: the checkpoint that is loaded, or None; set by `build`.
        teachers: checkpoints of the teachers; set by `build`.
        datamodule: the data; set by `build`.
        model: the system; set by `build`.
        trainer: the trainer; set by `build`.

    Raises:
        ConfigError: a setting is unknown or has a value that is not allowed.
        TeacherError: the checkpoint cannot be used.
    """

    run_dir: Path
    checkpoint: Path | None
    teachers: list[str]
    datamodule: Any
    model: NeuralSystem
    trainer: Any

    def __init__(self, config: ExperimentConfig, command: Command = "fit") -> None:
        self.command = command
        self.parser = make_parser(command)
        with user_errors(command, lambda: setting_names_of(self.parser)):
            self.config = parse_settings(self.parser, to_arguments(config))
        if self.config.seed_everything is True:
            self.config.seed_everything = seed_everything(workers=True)
        # These settings apply to one call and are not part of the fingerprint.
        per_call = {"run_dir": None, "ckpt_path": None, "resume": False}
        self.settings = {**to_dict(self.parser, self.config), **per_call}
        self.fingerprint = config_fingerprint(self.settings)
        with self._guard():
            check_settings(self.parser, self.config, self.settings)

    @property
    def results(self) -> Results:
        """The results of the run.

        Raises:
            DataError: there are none, or they cannot be read.
        """
        return Results.read(self.run_dir)

    def fit(self) -> "Experiment":
        """Trains, trains missing teachers first, scores the best checkpoint and writes the results.

        If the setting `resume` is true and the run has finished, nothing is changed.

        Raises:
            BlendError: a setting, the data or a teacher cannot be used, or a signal ended training.
        """
        with ExitStack() as locks, self._guard():
            if not self.build(locks):
                return self
            if self.trainer.is_global_zero:
                tracking.log_settings(self.trainer.loggers, self.settings)
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, weights_only=True)
            if not self.trainer.fast_dev_run:
                self._finish_fit()
        return self

    def validate(self) -> "Experiment":
        """Computes the score that selects checkpoints, for the checkpoint `ckpt_path`."""
        self._build_trained()
        with self._guard():
            self.trainer.validate(
                self.model,
                datamodule=self.datamodule,
                ckpt_path=self.checkpoint,
                verbose=self.config.verbose,
                weights_only=True,
            )
        return self

    def test(self) -> "Experiment":
        """Computes and prints the benchmark scores of a checkpoint; the results file of the run is not changed."""
        self._build_trained()
        with self._guard():
            self.trainer.test(
                self.model,
                datamodule=self.datamodule,
                ckpt_path=self.checkpoint,
                verbose=self.config.verbose,
                weights_only=True,
            )
            self._print_scores()
        return self

    def predict(self) -> "Experiment":
        """Writes the predicted rates of a checkpoint to a file in the run's folder."""
        self._build_trained()
        with self._guard():
            self.trainer.callbacks.append(RatesWriter(self.run_dir / f"rates_{self.datamodule.phase}.h5"))
            self.trainer.predict(
                self.model,
                datamodule=self.datamodule,
                return_predictions=self.config.return_predictions,
                ckpt_path=self.checkpoint,
                weights_only=True,
            )
        return self

    def build(self, locks: ExitStack) -> bool:
        """Creates the run's folder, missing teachers, the data module, the model and the trainer.

        Args:
            locks: receives the lock of the run's folder, which is released when `locks` is closed.

        Returns:
            False if the run that should be resumed has finished, and nothing was created; True otherwise.

        Raises:
            BlendError: see `fit`.
        """
        with self._guard():
            config = self.config.clone()
            if config.seed_everything is not False:
                seed_everything(config.seed_everything, workers=True)
            self.datamodule = None
            self._claim_run_dir(config, locks)
            if config.resume and self.command == "fit" and not config.ckpt_path:
                if self._has_finished():
                    rank_zero_only(print)(f"{self.run_dir} has finished; there is nothing to resume")
                    return False
                self.checkpoint = self._last_checkpoint()
            self._set_run_paths(config)
            self._instantiate(config)
            if self.command == "fit":
                self._init_run_dir()
        return True

    def evaluate_and_save(
        self, checkpoint: Path, epoch: int, selection_score: float, cost: dict[str, float | int] | None
    ) -> None:
        """Scores a trained model and writes its results.

        Args:
            checkpoint: the selected checkpoint.
            epoch: number of epochs of training.
            selection_score: the score that selected it.
            cost: as returned by `TrainingCost.summary`.
        """
        scores: dict[str, float] = {}
        oracle = None
        if self.model.has_required_inputs(self.datamodule.eval_has_behavior):
            self.trainer.test(
                self.model, datamodule=self.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True
            )
            evaluation = self._print_scores()
            if evaluation is None:
                return
            scores, oracle = evaluation.scores, evaluation.oracle
            evaluation.save(self.run_dir)
        if not self.trainer.is_global_zero:
            return
        settings = self.settings
        results = Results(
            name=settings["name"],
            role=settings["role"] or derive_role(settings),
            session=settings["data"]["init_args"]["spec"]["name"],
            seed=settings["seed_everything"],
            fingerprint=self.fingerprint,
            phase=self.datamodule.phase,
            selection=self.datamodule.selection,
            teachers=tuple(self.teachers),
            checkpoint=f"{CHECKPOINT_DIR}/{checkpoint.name}",
            epoch=epoch,
            selected={best_score_key(self.trainer.checkpoint_callback.monitor): selection_score},
            scores=scores,
            oracle=oracle,
            cost=Cost.from_json(cost) if cost else None,
            config=settings,
            digest=self.datamodule.digest,
        )
        results.write(self.run_dir)
        tracking.log_results(self.trainer.loggers, self.run_dir)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Translates errors that a user can correct, and hides messages of libraries; see `quiet_libraries`."""
        with user_errors(self.command), quiet_libraries():
            yield

    def _claim_run_dir(self, config: Namespace, locks: ExitStack) -> None:
        """Sets `run_dir` and `checkpoint`; in `fit`, the main process also creates the folder and locks it."""
        self.checkpoint = Path(config.ckpt_path) if config.ckpt_path else None
        if config.run_dir:
            self.run_dir = Path(config.run_dir)
        elif self.checkpoint:
            self.run_dir = run_dir_of(self.checkpoint)
        elif self.command != "fit":
            raise ConfigError(
                f"{self.command} needs a trained model; add --ckpt_path RUN/{CHECKPOINT_DIR}/{BEST_CHECKPOINT}"
            )
        else:
            self.run_dir = Path(config.output) / config.name / f"seed{config.seed_everything}-{self.fingerprint}"
            if config.resume:
                self.run_dir = self._resumable_run_dir(self.run_dir)
            elif _is_main_process():
                self.run_dir = create_run_dir(self.run_dir)
        if self.command == "fit" and _is_main_process():
            locks.callback(lock_run(self.run_dir).release)

    def _resumable_run_dir(self, run_dir: Path) -> Path:
        """Returns the folder of the run with these settings that is of the data of now, and says if it is another."""
        resumable = resumable_run_dir(run_dir, self._data_digest)
        if resumable != run_dir:
            message = other_data_message(run_dir, stored_digest(run_dir), self._data_digest())
            rank_zero_only(print)(f"{message}: the run of these data is {resumable}")
        return resumable

    def _data_digest(self) -> str | None:
        """Returns the digest of the data, which are read, without drawing from the generators of the run.

        None if they cannot be read: a finished run needs no data, and any other reports the error when it reads them.
        """
        with isolate_rng():
            datamodule = self.datamodule or instantiate_datamodule(self.settings["data"])
            try:
                datamodule.setup("fit")
            except DataError:
                return None
        self.datamodule = datamodule
        digest: str | None = datamodule.digest
        return digest

    def _digest_of(self, data: dict[str, Any]) -> str | None:
        """Returns the digest of the data with given settings."""
        if data == self.settings["data"]:
            return self._data_digest()
        with isolate_rng():
            return digest_of_settings(data)

    def _n_steps(self, settings: dict[str, Any]) -> int | None:
        """Returns the largest number of steps of a training on one device with given settings and the data of now.

        None if the data cannot be read, or have other settings.
        """
        limits, data = settings["trainer"], settings["data"]
        if data != self.settings["data"] or self._data_digest() is None:
            return None
        with isolate_rng():
            n_batches = len(self.datamodule.train_dataloader())
        counts = [limits["max_steps"]] if limits["max_steps"] not in (None, UNLIMITED) else []
        if limits["max_epochs"] not in (None, UNLIMITED):
            counts.append(limits["max_epochs"] * -(-n_batches // (limits["accumulate_grad_batches"] or 1)))
        return min(counts, default=None)

    def _has_finished(self) -> bool:
        """Whether the run that should be resumed has finished.

        Raises:
            ConfigError: the folder belongs to a run with other settings, or of other data.
        """
        config_path = self.run_dir / CONFIG_FILE
        if config_path.exists() and _stored_fingerprint(config_path) != self.fingerprint:
            raise ConfigError(
                f"{self.run_dir} is a run with other settings; resume it with --config {config_path}, or choose "
                "another --run_dir"
            )
        stored = stored_digest(self.run_dir)
        message = None if stored is None else other_data_message(self.run_dir, stored, self._data_digest())
        if message is not None:
            raise ConfigError(f"{message}; choose another --run_dir to train again, or restore the recording")
        return is_finished(self.run_dir)

    def _last_checkpoint(self) -> Path | None:
        """Returns the checkpoint from which the run is resumed; None if there is none yet."""
        last = self.run_dir / CHECKPOINT_DIR / LAST_CHECKPOINT
        if not last.exists():
            return None
        read_checkpoint(last)
        return last

    def _set_run_paths(self, config: Namespace) -> None:
        """Sets the settings that depend on the run's folder (paths, loggers), and the checkpoints of teachers."""
        config.run_dir = str(self.run_dir)
        config.checkpoint.dirpath = str(self.run_dir / CHECKPOINT_DIR)
        config.trainer.default_root_dir = str(self.run_dir)
        config.trainer.logger = tracking.select_logger(config.trainer.logger, self.run_dir)
        tracking.configure_wandb(config.trainer.logger, self.run_dir, config.name, resumed=self.checkpoint is not None)
        self.teachers = []
        if self.command == "fit" and config.pretrained:
            (config.pretrained.init_args.model,) = self._resolve_checkpoints(config, config.pretrained.init_args.model)
        if self.command == "fit" and config.distillation:
            self.teachers = self._resolve_checkpoints(config, config.distillation.init_args.teacher)
            config.distillation.init_args.teacher = self.teachers

    def _resolve_checkpoints(self, config: Namespace, references: str | list[str]) -> list[str]:
        """Returns the checkpoints that `references` name; a missing model is trained first."""
        if references in (TRUE_RATES, [TRUE_RATES]):
            return [TRUE_RATES]
        paths = resolve_teachers(
            references,
            self.settings,
            config.teacher_args,
            Path(config.output),
            lambda arguments: to_dict(self.parser, parse_settings(self.parser, arguments)),
            self._digest_of,
            self._n_steps,
            rank_zero_only(print),
        )
        return [str(path) for path in paths]

    def _instantiate(self, config: Namespace) -> None:
        base_class: type = NeuralSystem
        self.parser.add_instantiator(self._instantiate_model, base_class, subclasses=True)
        instances = instantiate(self.parser, config)
        # Data that were read for their digest are not read again.
        self.datamodule = instances.data if self.datamodule is None else self.datamodule
        self.model = instances.model
        self.trainer = make_trainer(instances, self.model, self.run_dir)

    def _instantiate_model(self, class_type: type[ClassType], *args: Any, **kwargs: Any) -> ClassType:
        """Creates a system that saves its settings, not the instances made from them, in its checkpoints."""
        settings = self.settings["model"]
        hyper_parameters = {
            "_class_path": settings["class_path"],
            **settings.get("init_args", {}),
            **settings.get("dict_kwargs", {}),
        }
        with _given_hyperparameters_context(hparams=hyper_parameters, instantiator=INSTANTIATOR):
            return class_type(*args, **kwargs)

    def _build_trained(self) -> None:
        """Builds the experiment with the sizes that are stored in the checkpoint."""
        self.build(ExitStack())
        assert self.checkpoint is not None
        self.model.build(stored_signature(read_checkpoint(self.checkpoint)))

    def _init_run_dir(self) -> None:
        """Writes the settings into the run's folder and removes the results of an earlier training."""
        if self.trainer.is_global_zero:
            if not self.trainer.fast_dev_run:
                # If this training is killed, old results must not look like its results.
                (self.run_dir / RESULTS_FILE).unlink(missing_ok=True)
            with atomic_file(self.run_dir / CONFIG_FILE) as path:
                path.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def _finish_fit(self) -> None:
        """Scores the best checkpoint after training.

        Raises:
            TrainingInterrupted: a signal ended training.
            ConfigError: no checkpoint was saved.
        """
        if self._callback(LastCheckpoint).interrupted:
            if self.trainer.is_global_zero:
                raise TrainingInterrupted(
                    f"a signal ended the training of {self.run_dir} after epoch {self.trainer.current_epoch}; "
                    "continue it with the same command and --resume true"
                )
            return
        model_checkpoint = self.trainer.checkpoint_callback
        if not model_checkpoint.best_model_path:
            raise ConfigError(
                "training ended before its first validation, so no checkpoint was saved; decrease "
                "trainer.check_val_every_n_epoch or train for more epochs"
            )
        self.evaluate_and_save(
            Path(model_checkpoint.best_model_path),
            self.trainer.current_epoch,
            float(model_checkpoint.best_model_score),
            self._callback(TrainingCost).summary(),
        )

    def _print_scores(self) -> Evaluation | None:
        """Prints and returns the scores of the last test; None on ranks other than 0 or without an `Evaluation`."""
        evaluation = next((callback for callback in self.trainer.callbacks if isinstance(callback, Evaluation)), None)
        if evaluation is None or not self.trainer.is_global_zero:
            return None
        print_scores(self.settings["name"], evaluation.scores, evaluation.oracle, self.run_dir)
        return evaluation

    def _callback(self, cls: type[CallbackType]) -> CallbackType:
        return next(callback for callback in self.trainer.callbacks if isinstance(callback, cls))


def _stored_fingerprint(config_path: Path) -> str:
    return config_fingerprint(upgrade_config(yaml.safe_load(config_path.read_text())))


def _is_main_process() -> bool:
    """Whether this is the main process (global rank 0), before the process group is initialized.

    With Lightning's launcher, the user starts one process per node, in which only the node rank is set.
    """
    node_rank = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return rank_zero_only.rank == 0 and node_rank == "0"  # type: ignore[attr-defined]
