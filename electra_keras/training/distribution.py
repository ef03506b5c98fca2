"""Where a run computes: the tf.distribute strategy and this process's part in it."""

import json
import os
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from absl import logging

from electra_keras.console import UsageError, UserError, reason
from electra_keras.options import RunOptions
from electra_keras.training.memory import keep_freed_memory
from electra_keras.training.waiting import reminders


def split_cpu(devices: int) -> None:
    """Splits the CPU into logical devices, to run MirroredStrategy without GPUs.

    Raises:
        UserError: TensorFlow has already started.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    except RuntimeError as error:
        raise UserError(f"--logical_cpus: {error}") from error


def _workers() -> list[str]:
    """Returns the addresses of the workers that TF_CONFIG names, none without one."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return []
    try:
        cluster = json.loads(text)["cluster"]
        return [str(worker) for job in ("chief", "worker") for worker in cluster.get(job, [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            'TF_CONFIG should be like {"cluster": {"worker": ["host:port", ...]}, '
            f'"task": {{"type": "worker", "index": 0}}}}, but is {text!r}'
        ) from None


def make_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """Returns the strategy of that name; must come before anything else that uses TensorFlow.

    Args:
        name: "one_device", "mirrored" (all GPUs, or all logical CPUs, of this machine),
            "multi_worker" (TF_CONFIG, or SLURM's variables), "tpu", or "auto": multi_worker where
            TF_CONFIG names several workers, mirrored with several GPUs, else one_device.
        tpu: for "tpu": its name or address, "local" on a TPU VM; default from the environment.

    Raises:
        UsageError: the devices or variables that the strategy needs are not there.
    """
    workers = _workers()
    if name == "auto":
        if len(workers) > 1:
            name = "multi_worker"  # decided first: listing logical devices starts TensorFlow
        else:
            gpus, cpus = (len(tf.config.list_logical_devices(kind)) for kind in ("GPU", "CPU"))
            name = "mirrored" if (gpus or cpus) > 1 else "one_device"
    if name == "tpu":
        return _tpu_strategy(tpu)
    if name == "multi_worker":
        if not workers and "SLURM_PROCID" not in os.environ:
            raise UsageError(
                "--strategy=multi_worker needs TF_CONFIG (or a SLURM job) that names the workers; "
                "see README.md, 'Several machines'"
            )
        try:
            resolver = None if workers else tf.distribute.cluster_resolver.SlurmClusterResolver()
            with reminders(workers):
                return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
            raise UserError(f"--strategy=multi_worker: {reason(error)}") from error
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [f"{kind}:{i}" for i in range(len(tf.config.list_logical_devices(kind)))]
    if name == "mirrored":
        if len(devices) < 2:
            raise UsageError(
                f"--strategy=mirrored needs several devices, but there is one {kind}: use "
                "--strategy=one_device, or --logical_cpus=2 to try it on a CPU"
            )
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def make_training_strategy(options: RunOptions) -> tf.distribute.Strategy:
    """Returns the strategy of a training run; must come before anything else that uses TensorFlow.

    Raises:
        UserError: as of `split_cpu` and `make_strategy`.
    """
    if options.logical_cpus > 1:
        split_cpu(options.logical_cpus)
    if not any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU")):
        keep_freed_memory()
    return make_strategy(options.strategy, options.tpu)


def _tpu_strategy(tpu: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UsageError(
            f"--strategy=tpu: no TPU can be reached ({reason(error)}); give --tpu=NAME, and see "
            "README.md, 'TPU', for the TensorFlow version it needs"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, summaries and metrics."""
    resolver = strategy.cluster_resolver
    if resolver is None or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type in ("worker", None)
        and not (resolver.task_id or 0)
        and "chief" not in resolver.cluster_spec().jobs
    )


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns a line such as "MirroredStrategy, 2 replicas on GPU"."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    if isinstance(strategy, tf.distribute.TPUStrategy):
        kind = "TPU"
    count = strategy.num_replicas_in_sync
    return f"{type(strategy).__name__}, {count} replica{'s' * (count > 1)} on {kind}"


def log_strategy(strategy: tf.distribute.Strategy) -> None:
    """Logs what the run computes on."""
    logging.info("%s", describe(strategy))


def distribute(
    strategy: tf.distribute.Strategy, make_dataset: Callable[..., tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """Returns a dataset of per-replica batches.

    Args:
        strategy: decides how many replicas each host feeds.
        make_dataset: takes num_hosts, host and replicas_per_host by keyword.
    """

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_dataset(
            num_hosts=context.num_input_pipelines,
            host=context.input_pipeline_id,
            replicas_per_host=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    return strategy.distribute_datasets_from_function(make)


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker is here: the chief's files are then complete."""

    @tf.function
    def count() -> tf.Tensor:
        return strategy.reduce(
            tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.constant(1.0)), axis=None
        )

    count()


def make_sum_over_workers(strategy: tf.distribute.Strategy) -> Callable[[float], float]:
    """Returns a function that adds up a number of every worker, which all call it."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return float

    @tf.function
    def add_up(own: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: own), axis=None)

    return lambda own: float(add_up(tf.constant(own, tf.float32)))


def gather_from_workers(
    strategy: tf.distribute.Strategy, values: Sequence[int]
) -> list[tuple[int, ...]]:
    """Returns the numbers of every worker, which all call it; on one worker its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [tuple(values)]

    @tf.function
    def gather(own: tf.Tensor) -> tf.Tensor:
        return strategy.gather(strategy.run(lambda: own[tf.newaxis]), axis=0)

    return [tuple(row) for row in gather(tf.constant(values)).numpy().tolist()]


def with_static_shape(batch: dict[str, tf.Tensor], rows: int) -> dict[str, tf.Tensor]:
    """Returns the batch with the number of rows that MultiWorkerMirroredStrategy has forgotten."""
    return {
        name: tf.ensure_shape(values, [rows, *values.shape[1:]]) for name, values in batch.items()
    }


def set_precision(options: RunOptions) -> None:
    """Sets what the whole process computes in."""
    keras.config.set_dtype_policy(options.precision)
    tf.config.experimental.enable_tensor_float_32_execution(options.allow_tf32)


def check_batches(options: RunOptions, replicas: int) -> None:
    """Checks that batches divide over replicas and micro-batches.

    Raises:
        UsageError: one does not.
    """
    parts = replicas * options.gradient_accumulation_steps
    if options.train_batch_size % parts:
        raise UsageError(
            f"--train_batch_size={options.train_batch_size} is not a multiple of {replicas} replicas "
            f"x {options.gradient_accumulation_steps} gradient accumulation steps"
        )
    if options.eval_batch_size % replicas:
        raise UsageError(
            f"--eval_batch_size={options.eval_batch_size} is not a multiple of {replicas} replicas"
        )
