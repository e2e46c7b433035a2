"""The commands of the trainer: LightningCLI for fit, validate, test and predict."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.core import LightningDataModule
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from blend_pl.callbacks import (
    Distillation,
    Evaluation,
    LastCheckpoint,
    Multitask,
    Pretrained,
    RatesWriter,
    TrainingCost,
)
from blend_pl.cli import tracking
from blend_pl.compat import upgrade_config
from blend_pl.config import compose_arguments
from blend_pl.errors import ConfigError, TrainingInterrupted, first_parser_error
from blend_pl.report import print_scores
from blend_pl.runs.folder import (
    BEST_CHECKPOINT,
    CHECKPOINT_DIR,
    CONFIG_FILE,
    DEFAULT_MODE,
    DEFAULT_MONITOR,
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
from blend_pl.systems.base import stored_signature
from blend_pl.systems.checkpoint import AtomicCheckpointIO, read_checkpoint
from blend_pl.utils.exceptions import user_errors
from blend_pl.utils.files import atomic_file


class BlendCLI(LightningCLI):
    """Adds to LightningCLI what an experiment is made of: a name, a run folder, model selection and a teacher.

    Args:
        arguments: the command line without the program's name.
        locks: keeps the run's folder for this process until it is closed.
    """

    subcommand: str
    trainer: Any

    def __init__(self, arguments: Sequence[str], locks: ExitStack) -> None:
        self.locks = locks
        super().__init__(
            NeuralSystem,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                **{command: {"exit_on_error": False} for command in self.subcommands()},
            },
            args=[*compose_arguments(arguments)],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="name of the experiment")
        parser.add_argument("--output", type=str, default="runs", help="folder of all runs")
        parser.add_argument("--run_dir", type=str | None, default=None, help="folder of this run; default: a new one")
        parser.add_argument(
            "--resume", type=bool, default=False, help="go on with the run of these settings, if there is one"
        )
        parser.add_argument("--distillation", type=Distillation | None, default=None, help="teacher, loss and alpha")
        parser.add_argument("--pretrained", type=Pretrained | None, default=None, help="model that training begins as")
        parser.add_argument("--multitask", type=Multitask | None, default=None, help="control: decode behaviour too")
        parser.add_argument(
            "--teacher_args", type=list[str], default=[], help="more arguments to train a missing teacher"
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "checkpoint.filename": Path(BEST_CHECKPOINT).stem,
                "checkpoint.enable_version_counter": False,
                "checkpoint.monitor": DEFAULT_MONITOR,
                "checkpoint.mode": DEFAULT_MODE,
                "early_stopping.monitor": DEFAULT_MONITOR,
                "early_stopping.mode": DEFAULT_MODE,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning's own warns whoever hands over arguments that sys.argv holds too.
        command, *options = args
        if command in self.subcommands() and not any(option.startswith("--print_config") for option in options):
            # The parser of all commands, which alone prints, would check every setting of one twice.
            self.config = Namespace({"subcommand": command, command: self._parser(command).parse_args(options)})
        else:
            self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        # A private method of LightningCLI, without a public hook. Lightning's own knows neither the names of version
        # 0.1 nor a message for a bad checkpoint.
        checkpoint = self.config[self.config.subcommand].get("ckpt_path")
        if checkpoint:
            settings = dict(read_checkpoint(Path(checkpoint))["hyper_parameters"])
            settings.pop("_instantiator")
            model = {"class_path": settings.pop("_class_path"), "dict_kwargs": settings}
            self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        # Whoever uses them again means another run.
        self.settings = {**self._subcommand_config(), "run_dir": None, "ckpt_path": None, "resume": False}
        # Stored as hyperparameters; Lightning's own dump would check every setting once more.
        self.config_dump = self.settings
        self.fingerprint = config_fingerprint(self.settings)
        self.teachers: list[str] = []
        checkpoint = config.get("ckpt_path")
        if config.run_dir:
            run_dir = Path(config.run_dir)
        elif checkpoint:
            run_dir = run_dir_of(Path(checkpoint))
        elif self.subcommand != "fit":
            raise ConfigError(
                f"{self.subcommand} needs a trained model; add --ckpt_path RUN/{CHECKPOINT_DIR}/{BEST_CHECKPOINT}"
            )
        else:
            run_dir = Path(config.output) / config.name / f"seed{config.seed_everything}-{self.fingerprint}"
            if _is_main_process() and not config.resume:
                run_dir = create_run_dir(run_dir)
        self.run_dir = run_dir
        if self.subcommand == "fit":
            if _is_main_process():
                self.locks.callback(lock_run(run_dir).release)
            if config.resume and not checkpoint:
                config.ckpt_path = self._find_resume_checkpoint()
        config.run_dir = str(run_dir)
        config.checkpoint.dirpath = str(run_dir / CHECKPOINT_DIR)
        config.trainer.default_root_dir = str(run_dir)
        config.weights_only = True
        config.trainer.logger = tracking.select_logger(config.trainer.logger, run_dir)
        tracking.configure_wandb(config.trainer.logger, run_dir, config.name, resumed=bool(config.get("ckpt_path")))
        if self.subcommand == "fit" and config.pretrained:
            (config.pretrained.init_args.model,) = self._resolve_checkpoints(config.pretrained.init_args.model)
        if self.subcommand == "fit" and config.distillation:
            self.teachers = self._resolve_checkpoints(config.distillation.init_args.teacher)
            config.distillation.init_args.teacher = self.teachers

    def _find_resume_checkpoint(self) -> str | None:
        """The run's last checkpoint; None where it has none yet. Where nothing is left to do, the command ends."""
        config_path, last = self.run_dir / CONFIG_FILE, self.run_dir / CHECKPOINT_DIR / LAST_CHECKPOINT
        if (
            config_path.exists()
            and config_fingerprint(upgrade_config(yaml.safe_load(config_path.read_text()))) != self.fingerprint
        ):
            raise ConfigError(
                f"{self.run_dir} is a run of other settings; go on with --config {config_path}, or choose another --run_dir"
            )
        if is_finished(self.run_dir):
            rank_zero_only(print)(f"{self.run_dir} has finished; there is nothing to go on with")
            raise SystemExit(0)
        if not last.exists():
            return None
        read_checkpoint(last)
        return str(last)

    def _resolve_checkpoints(self, references: str | list[str]) -> list[str]:
        """Checkpoints of other models, each trained first where it is missing."""
        config = self.config[self.subcommand]
        paths = resolve_teachers(
            references,
            self.settings,
            config.teacher_args,
            Path(config.output),
            self._resolve_config,
            rank_zero_only(print),
        )
        return [str(path) for path in paths]

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            # The parser wraps whatever a class says of its arguments.
            raise ConfigError(first_parser_error(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        for name in ("pretrained", "distillation", "multitask"):
            callback = self._get(self.config_init, name)
            if callback is not None:
                trainer.callbacks.append(callback)
        self.cost = TrainingCost()
        trainer.callbacks.append(self.cost)
        self.last_checkpoint = LastCheckpoint(self.run_dir / CHECKPOINT_DIR)
        trainer.callbacks.append(self.last_checkpoint)
        if isinstance(trainer.strategy, DDPStrategy):
            # There is no other way to say so once Lightning has chosen the strategy.
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", self.model.has_unused_parameters)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment):
            # Lightning's way keeps a checkpoint of the middle of an epoch; `LastCheckpoint` one of its end.
            environment.auto_requeue = False
        return trainer

    def before_validate(self) -> None:
        self._build_model()

    def before_test(self) -> None:
        self._build_model()

    def before_predict(self) -> None:
        self._build_model()
        self.trainer.callbacks.append(RatesWriter(self.run_dir / f"rates_{self.datamodule.phase}.h5"))

    def _build_model(self) -> None:
        """A trained model keeps its sizes, whatever part of a session it runs on."""
        self.model.build(stored_signature(read_checkpoint(Path(self.config[self.subcommand].ckpt_path))))

    def before_fit(self) -> None:
        self.init_run_dir()
        if self.trainer.is_global_zero:
            tracking.log_settings(self.trainer.loggers, self.settings)

    def init_run_dir(self) -> None:
        """Writes the settings into the run's folder, and takes away what is known of earlier weights."""
        if self.trainer.is_global_zero:
            if not self.trainer.fast_dev_run:
                # Results of other weights, should this training be killed.
                (self.run_dir / RESULTS_FILE).unlink(missing_ok=True)
            with atomic_file(self.run_dir / CONFIG_FILE) as path:
                path.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def after_fit(self) -> None:
        if self.trainer.fast_dev_run:
            return
        if self.last_checkpoint.interrupted:
            if self.trainer.is_global_zero:
                raise TrainingInterrupted(
                    f"{self.run_dir} was ended by a signal after epoch {self.trainer.current_epoch}; the same command with "
                    "--resume true goes on"
                )
            return
        model_checkpoint = self.trainer.checkpoint_callback
        if not model_checkpoint.best_model_path:
            raise ConfigError(
                "training ended before its first validation, so that no checkpoint was chosen; lower "
                "trainer.check_val_every_n_epoch or train for longer"
            )
        self.evaluate_and_save(
            Path(model_checkpoint.best_model_path),
            self.trainer.current_epoch,
            float(model_checkpoint.best_model_score),
            self.cost.summary(),
        )

    def after_test(self) -> None:
        # results.json stays what training wrote: by it, others find this run.
        self._print_scores()

    def evaluate_and_save(
        self, checkpoint: Path, epoch: int, selection_score: float, cost: dict[str, float | int] | None
    ) -> None:
        """Scores a trained model and writes its results.

        Args:
            checkpoint: the chosen one.
            epoch: how many epochs training took.
            selection_score: the score that chose it.
            cost: as of `TrainingCost.summary`.
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
        config = self.settings
        results = Results(
            name=config["name"],
            role=derive_role(config),
            session=config["data"]["init_args"]["spec"]["name"],
            seed=config["seed_everything"],
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
            config=config,
        )
        results.write(self.run_dir)
        tracking.log_results(self.trainer.loggers, self.run_dir)

    def _print_scores(self) -> Evaluation | None:
        """Prints the scores of the last test, if it had any and this is the rank that prints."""
        evaluation = next((callback for callback in self.trainer.callbacks if isinstance(callback, Evaluation)), None)
        if evaluation is None or not self.trainer.is_global_zero:
            return None
        print_scores(self.settings["name"], evaluation.scores, evaluation.oracle, self.run_dir)
        return evaluation

    def _subcommand_config(self) -> dict[str, Any]:
        return _config_to_dict(self._parser(self.subcommand), self.config[self.subcommand])

    def _resolve_config(self, arguments: list[str]) -> dict[str, Any]:
        parser = self._parser("fit")
        return _config_to_dict(parser, parser.parse_args(arguments))


def _is_main_process() -> bool:
    """Whether this is the first of all processes, before they know of each other.

    Lightning's own launcher starts one process by hand on each node, which does not know its rank but its node.
    """
    node_rank = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return rank_zero_only.rank == 0 and node_rank == "0"  # type: ignore[attr-defined]


def _config_to_dict(parser: Any, config: Any) -> dict[str, Any]:
    return yaml.safe_load(parser.dump(config, skip_none=False, skip_validation=True))


def run_trainer(arguments: Sequence[str]) -> BlendCLI:
    """Runs a command of the trainer.

    Args:
        arguments: the command line without the program's name.

    Raises:
        BlendError: something that the user can mend.
    """
    command = next((argument for argument in arguments if argument in BlendCLI.subcommands()), "COMMAND")
    with ExitStack() as locks, user_errors(command):
        return BlendCLI(arguments, locks)
