"""Sounds of the house, one function a class, each named as in ESC-50.

training.synthesis.nature explains what is drawn from `rng` and what from its child.
"""

import numpy as np

from training.synthesis.building_blocks import (
    Rng,
    Wave,
    add_at,
    arch,
    group_times,
    harmonics,
    impulses,
    noise,
    phase,
    pluck,
    resonate,
    wander,
)


def footsteps(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """A walk: heel, then the sole a little later, on a floor between hollow wood and crunching gravel."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    interval_s, roll_s, gravel = rng.uniform(0.36, 0.65), rng.uniform(0.05, 0.14), rng.uniform()
    floor_hz, dull_hz = rng.uniform(90, 260) * np.array([1, 2.3, 4.1]), rng.uniform(1200, 5000)
    limp, n = rng.uniform(0, 0.25), int(0.3 * rate_hz)
    for number, start_s in enumerate(group_times(take, n_samples / rate_hz, 1, interval_s, 0, 0.04)):
        level = take.uniform(0.7, 1) * (1 - limp * (number % 2))
        for late_s, force in ((0.0, 1.0), (roll_s, take.uniform(0.3, 0.7))):
            hit = noise(take, n, rate_hz, 60, dull_hz) * pluck(n, rate_hz, 0.001, 0.006)
            thump = resonate(hit, floor_hz, [0.03, 0.015, 0.008], [0.5, 0.3, 0.2], rate_hz)
            grains = impulses(n, rate_hz, take.exponential(0.045, 40), take.lognormal(0, 0.8, 40))
            crunch = noise(take, n, rate_hz, 900, 7000) * resonate(grains, 60.0, 0.004, 10.0, rate_hz)
            step = (1 - gravel) * thump + 0.3 * gravel**2 * crunch
            add_at(wave, start_s + late_s, level * force * step, rate_hz)
    return wave


def door_wood_knock(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Knuckles on a panel: groups of two to six knocks, each exciting the same modes of the wood."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    modes_hz = rng.uniform(140, 300) * np.array([1, 1.9, 2.8, 4.3, 6.9]) * rng.uniform(0.9, 1.1, 5)
    decay_s = rng.uniform(0.02, 0.055) / np.array([1, 1.4, 1.9, 2.6, 4])
    levels, hard_hz = rng.uniform(0.4, 1, 5), rng.uniform(2500, 6500)
    count, interval_s, pause_s = int(rng.integers(2, 7)), rng.uniform(0.12, 0.32), rng.uniform(0.3, 1.1)
    n = int(0.3 * rate_hz)
    for start_s in group_times(take, n_samples / rate_hz, count, interval_s, pause_s, 0.08):
        knuckle = noise(take, n, rate_hz, 80, hard_hz) * pluck(n, rate_hz, 0.0005, 0.003)
        knock = resonate(knuckle, modes_hz, decay_s, levels, rate_hz) + 0.3 * knuckle
        add_at(wave, start_s, take.uniform(0.6, 1) * knock, rate_hz)
    return wave


def clock_tick(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """An escapement: even ticks, tick and tock of two pitches, each a click that rings in a small case."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    interval_s = 1 / rng.choice([2.0, 2.5, 3.0, 4.0, 5.0])
    case_hz, tock = rng.uniform(1500, 2600) * np.array([1, 1.7, 2.6, 3.1]), rng.uniform(0.75, 1.0)
    decay_s, levels = rng.uniform(0.004, 0.014), rng.uniform(0.4, 1, 4)
    quiet, recoil_s, n = rng.uniform(0.4, 1), rng.uniform(0.008, 0.03), int(0.15 * rate_hz)
    for number, start_s in enumerate(group_times(take, n_samples / rate_hz, 1, interval_s, 0, 0.002)):
        scale, level = (tock, quiet) if number % 2 else (1.0, 1.0)
        click = noise(take, n, rate_hz, 500, 7000) * pluck(n, rate_hz, 0.0002, 0.0012)
        tick = resonate(click, case_hz * scale, decay_s, levels, rate_hz) + 0.5 * click
        # The second, fainter click is the wheel falling on the other pallet.
        add_at(wave, start_s, level * take.uniform(0.9, 1) * tick, rate_hz)
        add_at(wave, start_s + recoil_s, 0.35 * level * tick, rate_hz)
    return wave


def clock_alarm(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """An alarm clock: mostly a beeper with groups of square-wave beeps, else a hammer on two small bells."""
    take, length_s = rng.spawn(1)[0], n_samples / rate_hz
    if rng.uniform() < 0.2:
        bell_hz = rng.uniform(1400, 2600) * np.array([1, 1.06, 2.1, 2.25, 3.0])
        blows = np.arange(take.uniform(0, 0.3), length_s, 1 / rng.uniform(14, 26))
        levels = take.uniform(0.6, 1, len(blows))
        hammer = impulses(n_samples, rate_hz, blows, levels)
        return resonate(hammer, bell_hz, rng.uniform(0.1, 0.4), [1, 1, 0.6, 0.5, 0.4], rate_hz)
    pitch_hz, beep_s = rng.uniform(1900, 3300), rng.uniform(0.05, 0.2)
    count, interval_s = int(rng.integers(1, 5)), beep_s * rng.uniform(1.5, 2.2)
    pause_s = rng.uniform(0.1, 0.8)
    odd = 1.0 / np.arange(1, 16) * (np.arange(1, 16) % 2) ** rng.choice([1, 1, 0.1])
    n, wave = int(beep_s * rate_hz), np.zeros(n_samples, np.float32)
    beep = harmonics(np.full(n, pitch_hz), odd, rate_hz) * arch(n, 0.03, 0.05)
    for start_s in group_times(take, length_s, count, interval_s, pause_s, 0.0):
        add_at(wave, start_s, beep, rate_hz)
    return wave


def keyboard_typing(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Keys: a press and a fainter release, each key of its own pitch, in bursts; the space bar thumps."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    speed, hold_s, clack = rng.uniform(4, 11), rng.uniform(0.06, 0.12), rng.uniform(0.2, 1)
    desk_hz, key_hz, n = rng.uniform(180, 420), rng.uniform(1300, 3200), int(0.1 * rate_hz)
    count, pause_s = int(rng.integers(4, 14)), rng.uniform(0.05, 0.5)
    for start_s in group_times(take, n_samples / rate_hz, count, 1 / speed, pause_s, 0.35):
        space, own = take.uniform() < 0.15, key_hz * np.exp(0.18 * take.normal())
        press, release = (0.0, take.uniform(0.5, 1)), (hold_s * take.uniform(0.8, 1.2), take.uniform(0.15, 0.5))
        for late_s, level in (press, release):
            touch = noise(take, n, rate_hz, 700, 7500) * pluck(n, rate_hz, 0.0003, take.uniform(0.002, 0.006))
            modes_hz = [desk_hz * (0.7 if space else 1), own, 1.8 * own]
            key = resonate(touch, modes_hz, [0.012, 0.004, 0.003], [0.3 if space else 0.1, 0.35, 0.2], rate_hz)
            add_at(wave, start_s + late_s, level * (key + clack * touch), rate_hz)
    return wave


def glass_breaking(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """A blow, then shards that ring high and short, dense at first and fewer as the last ones settle."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    low_hz, settle_s, shards = rng.uniform(1200, 3200), rng.uniform(0.15, 0.9), int(rng.integers(25, 110))
    ring_s, blow = rng.uniform(0.01, 0.07), rng.uniform(0.5, 2.0)
    first_s, n = take.uniform(0.05, 0.35 * n_samples / rate_hz), int(0.25 * rate_hz)
    hit = noise(take, n, rate_hz, 300, 7000) * pluck(n, rate_hz, 0.0005, rng.uniform(0.01, 0.05))
    add_at(wave, first_s, blow * hit, rate_hz)
    time = np.arange(n, dtype=np.float32) / rate_hz
    for late_s in take.exponential(settle_s, shards):
        hertz = take.uniform(low_hz, 7400, 2)[:, None]
        shard = (np.sin(2 * np.pi * hertz * time) * [[1.0], [0.6]]).sum(axis=0)
        shard = shard * pluck(n, rate_hz, 0.0005, ring_s * take.uniform(0.3, 1.5))
        level = take.uniform(0.15, 0.7) * np.exp(-0.5 * late_s / settle_s)
        add_at(wave, first_s + late_s, level * shard, rate_hz)
    return wave


def hand_saw(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Strokes to and fro: teeth that bite faster in the middle of the stroke, through a ringing board."""
    take = rng.spawn(1)[0]
    stroke_s, teeth_hz, back = rng.uniform(0.22, 0.6), rng.uniform(90, 260), rng.uniform(0.25, 0.9)
    board_hz, bite = rng.uniform(500, 1400) * np.array([1, 1.7, 2.9]), rng.uniform(0.4, 0.95)
    pace = 1 + 0.15 * (wander(take, n_samples, rate_hz, 1) - 0.5)
    place = phase(pace / (2 * stroke_s), rate_hz) / np.pi + take.uniform(0, 2)  # one whole number a stroke
    speed = np.abs(np.sin(np.pi * place))
    force = speed**1.2 * np.where(place.astype(int) % 2, back, 1.0)
    teeth = 0.5 + 0.5 * np.sin(phase(teeth_hz * (0.3 + 0.7 * speed), rate_hz))
    rasp = noise(take, n_samples, rate_hz, 700, 7000, -1) * force * (1 - bite + bite * teeth**2)
    return (rasp + resonate(rasp, board_hz, 0.0012, 0.2, rate_hz)).astype(np.float32)


def vacuum_cleaner(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """A motor's whine and hum in a rush of air, both dropping when the nozzle meets the carpet."""
    take = rng.spawn(1)[0]
    turn_hz, blades = rng.uniform(140, 300), int(rng.integers(5, 10))
    strokes, push = rng.uniform(0.3, 1.2), rng.uniform(0.02, 0.12)
    air_low_hz, air_high_hz, tilt_db = rng.uniform(150, 500), rng.uniform(2500, 7000), rng.uniform(-3, 0)
    whine, hum = rng.uniform(0.05, 0.5), rng.uniform(0.3, 1.2)
    load = wander(take, n_samples, rate_hz, strokes)
    turn = turn_hz * (1 - push * load) + 0.3 * noise(take, n_samples, rate_hz, 0.5, 30)
    motor = hum * harmonics(turn, rng.uniform(0.1, 1, 8) / np.arange(1, 9), rate_hz)
    fan = whine * harmonics(turn * blades, [1.0, 0.4, 0.15], rate_hz)
    air = noise(take, n_samples, rate_hz, air_low_hz, air_high_hz, tilt_db) * (1 - 2 * push * load)
    return (motor + fan + air).astype(np.float32)
