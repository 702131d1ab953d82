"""A stream from source to sink: runner, schedulers, reports. Nothing that trains or measures."""
