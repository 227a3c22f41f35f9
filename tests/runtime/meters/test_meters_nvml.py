"""NVML through a made library, in which single calls can be missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.boards.nvml import open_nvml


class NVMLError(Exception):
    pass


ANSWERS = {
    "nvmlDeviceGetName": b"Made-up GPU",
    "nvmlDeviceGetIndex": "0",
    "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
    "nvmlDeviceGetPowerUsage": 71_000,
    "nvmlDeviceGetTemperature": 64,
    "nvmlDeviceGetClockInfo": {1: 1410, 2: 1593},
    "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x1 | 0x40,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37),
    "instant": 82_500,
}


def only(library):
    """Import of NVML; CUDA's bindings are not installed."""

    def load(name):
        if name != "pynvml":
            raise ImportError(name)
        return library

    return load


class Library:
    """`answers` by function; a function without one is not supported."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_FI_DEV_POWER_INSTANT = 0, 1, 2, 186

    def __init__(self, **changes):
        self.answers = {**ANSWERS, **changes}

    def nvmlInit(self):  # noqa: N802
        if "broken" in self.answers:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return f"handle {index}"

    def nvmlDeviceGetFieldValues(self, handle, fields):  # noqa: N802
        assert fields == [186]
        value = self.answers["instant"]
        return [SimpleNamespace(nvmlReturn=3 if value is None else 0, value=SimpleNamespace(uiVal=value))]

    def __getattr__(self, name):
        def ask(handle, *arguments):
            answer = self.answers.get(name)
            if answer is None:
                raise NVMLError("Not Supported")
            return answer[arguments[0]] if isinstance(answer, dict) else answer

        return ask


def gpu(**changes):
    library = Library(**changes)
    return open_nvml(load=only(library), environ={}), library


JETSON = dict.fromkeys(ANSWERS)


def test_the_counter_is_joules_since_it_was_opened_and_power_is_the_instant():
    opened, library = gpu()
    library.answers["nvmlDeviceGetTotalEnergyConsumption"] = 5_012_500
    tick = opened.read()
    assert (tick.energy_j, tick.power_w) == (12.5, 82.5)
    assert opened.name == "nvml:energy_counter+power_instant (GPU 0, Made-up GPU)"
    assert (opened.covers, opened.averaging_s) == ("gpu", None)


def test_without_an_instant_the_power_is_a_mean_over_one_second():
    opened, _ = gpu(instant=None)
    assert (opened.read().power_w, opened.averaging_s) == (71.0, 1.0)
    assert "power_usage" in opened.name


def test_each_call_may_be_missing_on_its_own():
    opened, _ = gpu(nvmlDeviceGetTotalEnergyConsumption=None, nvmlDeviceGetTemperature=None)
    assert opened.read().energy_j is None
    assert opened.read().power_w == 82.5
    assert opened.temperatures_c() == {}
    assert opened.clocks_hz() == {"nvml sm": 1.41e9, "nvml memory": 1.593e9}


def test_a_counter_that_goes_back_is_unknown_from_then_on():
    opened, library = gpu()
    library.answers["nvmlDeviceGetTotalEnergyConsumption"] = 12
    assert opened.read().energy_j is None
    library.answers["nvmlDeviceGetTotalEnergyConsumption"] = 6_000_000
    assert opened.read().energy_j is None
    assert opened.read().power_w == 82.5


def test_a_counter_that_misses_one_reading_goes_on_counting():
    opened, library = gpu()
    library.answers["nvmlDeviceGetTotalEnergyConsumption"] = None
    assert opened.read().energy_j is None
    library.answers["nvmlDeviceGetTotalEnergyConsumption"] = 5_030_000
    assert opened.read().energy_j == 30.0


def test_throttle_reasons_are_named_and_idling_is_none_of_them():
    opened, library = gpu()
    assert opened.throttle_reasons() == ("nvml power cap", "nvml hardware thermal slowdown")
    library.answers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x1 | 0x2
    assert opened.throttle_reasons() == ()


def test_an_older_driver_names_the_reasons_otherwise():
    opened, _ = gpu(nvmlDeviceGetCurrentClocksEventReasons=None, nvmlDeviceGetCurrentClocksThrottleReasons=0x8)
    assert opened.throttle_reasons() == ("nvml hardware slowdown",)


def test_reasons_that_nobody_gives_are_unknown():
    assert gpu(nvmlDeviceGetCurrentClocksEventReasons=None)[0].throttle_reasons() is None


def test_load_is_a_share():
    assert gpu()[0].load() == 0.37


def test_nvml_of_a_jetson_that_starts_and_answers_nothing_points_at_the_rails():
    with pytest.raises(MeasurementError, match="neither energy nor power.*jetson_rails"):
        gpu(**JETSON)


def test_a_missing_package_names_its_install_command():
    def missing(name):
        raise ModuleNotFoundError("No module named 'pynvml'")

    with pytest.raises(MeasurementError, match="pip install 'nvidia-ml-py>=12.535'"):
        open_nvml(load=missing, environ={})


def test_a_missing_driver_says_what_must_work():
    with pytest.raises(MeasurementError, match="Driver Not Loaded.*nvidia-smi"):
        gpu(broken=True)


# ------------------------------------------------------------------------------------------ several GPUs


class Several(Library):
    """GPUs by PCI bus id; NVML counts in the order of the bus."""

    def __init__(self, names=("Small", "Large", "Large"), **changes):
        super().__init__(**changes)
        self.names = names

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetHandleByPciBusId(self, bus):  # noqa: N802
        return {b"0000:01:00.0": 0, b"0000:02:00.0": 1, b"0000:03:00.0": 2}[bus]

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return f"{self.names[handle]} GPU"

    def nvmlDeviceGetIndex(self, handle):  # noqa: N802
        return handle

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-{handle}a0b-ffff".encode()


def measured(environ, names=("Small", "Large", "Large"), bus=None, status=0):
    """Which GPU is measured; `bus`: what CUDA says of its device 0."""
    library, plain = Several(names), only(Several(names))

    def load(name):
        if name == "cuda.bindings.runtime" and bus is not None:
            return SimpleNamespace(cudaDeviceGetPCIBusId=lambda length, device: (status, bus))
        return library if name == "pynvml" else plain(name)

    return open_nvml(load=load, environ=environ).name.partition("(")[2]


@pytest.mark.parametrize("bus", [b"0000:02:00.0", b"0000:02:00.0\0\0\0", "0000:02:00.0"])
def test_the_gpu_that_cuda_uses_is_measured_whatever_its_number(bus):
    assert measured({}, bus=bus) == "GPU 1, Large GPU)"
    assert measured({"CUDA_VISIBLE_DEVICES": "0"}, bus=bus) == "GPU 1, Large GPU)", "CUDA has taken that into account"


@pytest.mark.parametrize(("visible", "gpu"), [("GPU-2a0b-ffff", 2), ("GPU-2a", 2), ("GPU-1a0b-ffff,GPU-0a0b-ffff", 1)])
def test_a_uuid_names_the_gpu(visible, gpu):
    assert measured({"CUDA_VISIBLE_DEVICES": visible}).startswith(f"GPU {gpu},")


@pytest.mark.parametrize(("visible", "gpu"), [("2", 2), ("1,0", 1), (" 0 ,2", 0)])
def test_an_index_names_the_gpu_where_cuda_counts_as_nvml_does(visible, gpu):
    ordered = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert measured(ordered).startswith(f"GPU {gpu},")
    assert measured({"CUDA_VISIBLE_DEVICES": visible}, names=["Large"] * 3).startswith(f"GPU {gpu},")


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": "1"}])
@pytest.mark.parametrize("cuda", [{}, {"bus": b"", "status": 100}])
def test_where_nobody_knows_which_gpu_runs_use_none_is_measured(environ, cuda):
    with pytest.raises(MeasurementError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        measured(environ, **cuda)


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        ("", "hides every GPU"),
        ("-1", "hides every GPU"),
        ("7", "names GPU 7, NVML sees 3"),
        ("GPU-9", "no GPU"),
        ("GPU-", "3 GPUs"),
    ],
)
def test_a_gpu_that_is_not_there_is_named(visible, words):
    with pytest.raises(MeasurementError, match=words):
        measured({"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
