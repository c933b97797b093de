"""TensorBoard event files for tests, in the encoding of 2018, by TensorBoard's record writer."""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

BEGIN = 1_536_151_072.25  # wall time of the first event
NAME = "events.out.tfevents.1536151072.host"
EPOCH_IMAGES = 1_281_167
# of each epoch: seconds from BEGIN to its end with evaluation, seconds of evaluation, top-1, top-5
EPOCHS = ((100.5, 4.0, 40.0, 66.5), (201.25, 4.5, 70.25, 90.0), (333.125, 5.0, 75.5, 93.0), (444.0, 5.0, 76.0, 93.5))


VERSION_RECORD = b"\x18\0\0\0\0\0\0\0\xa3\x7fK\x22\t\0\0\x40\x6d\xdf\xe3\xd6A\x1a\rbrain.Event:2\0\0\0\0"


def value(tag: str, number: float) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=number)])


def event(seconds: float, step: int, tag: str, number: float) -> Event:
    return Event(wall_time=BEGIN + seconds, step=step, summary=value(tag, number))


def session_start(seconds: float, step: int) -> Event:
    return Event(wall_time=BEGIN + seconds, step=step, session_log=SessionLog(status=SessionLog.START))


def write(path: Path, events: list[Event]) -> Path:
    """A file of these events after the one that says the version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        first = events[0].wall_time if events else BEGIN
        for item in [Event(wall_time=first, file_version="brain.Event:2"), *events]:
            writer.write(item.SerializeToString())
    return path


def run_2018(epochs=EPOCHS, world: int = 8, numbered: bool = True) -> list[Event]:
    """What the 2018 code wrote, one value an event; `first` is long past in float32."""
    events = [event(0, 0, "first", BEGIN), event(0.5, 0, "sizes/world", world)]
    events += [event(20, 0, "sizes/batch", 128), event(20, 0, "sizes/image", 128), event(21, 0, "sizes/lr", 1.9220382)]
    for number, (seconds, evaluated, top1, top5) in enumerate(epochs):
        step = (number + 1) * EPOCH_IMAGES
        if number == 1:
            events += [event(seconds - 50, step - 100, "sizes/batch", 224)]
        events += [event(seconds - 10, step - 5, "sizes/lr", 2.0), event(seconds - 10, step - 5, "losses/xent", 3.0)]
        events += [event(seconds - 0.001, step, "losses/test_1", top1), event(seconds, step, "losses/test_5", top5)]
        events += [event(seconds + 0.001, step, "times/eval_sec", evaluated)]
        events += [event(seconds + 0.002, step, "epoch", number)] if numbered else []
    return events


def resumed_2018(folder: Path, cut: int = 0, second_begins: float = 0.0) -> Path:
    """Killed after the second epoch at step S + 40 (`cut` bytes of its last record are lost), resumed from step S
    500 s later; ours write their session start, `first` and sizes again. second_begins: seconds added to the clock of
    the second attempt."""
    at = 2 * EPOCH_IMAGES
    lost = [event(EPOCHS[1][0] + t, at + step, "losses/xent", 2.5) for t, step in ((5, 10), (9, 40))]
    killed = write(folder / f"{NAME}.1.0", run_2018(EPOCHS[:2]) + lost)
    killed.write_bytes(killed.read_bytes()[: -cut or None])
    begin = 701.25  # 201.252 is the last event that counts
    later = [(seconds + 500, *rest) for seconds, *rest in EPOCHS]
    again = [session_start(begin, at + 1), event(begin + 1, 0, "first", BEGIN), event(begin + 1, 0, "sizes/world", 16)]
    again += [event(begin + 2, at, "sizes/batch", 112), event(begin + 2, at, "sizes/image", 128)]
    again += [item for item in run_2018(later)[5:] if item.step > at]
    for item in again:
        item.wall_time += second_begins
    write(folder / f"events.out.tfevents.{1536151773 + int(second_begins)}.host.2.0", again)
    return folder
