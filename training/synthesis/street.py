"""Sounds of the street, one function a class, each named as in ESC-50.

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


def church_bells(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """One to four bells: hum, prime, minor tierce, quint, nominal and above, each a slowly beating pair."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.52, 3.0, 4.1])
    prime_hz, last_s, clapper_hz = rng.uniform(220, 620), rng.uniform(1.0, 3.5), rng.uniform(1500, 6000)
    n_bells, interval_s = int(rng.integers(1, 5)), rng.uniform(0.35, 1.3)
    levels = np.array([0.35, 0.6, 0.8, 0.3, 1.0, 0.35, 0.5, 0.3]) * rng.uniform(0.5, 1.3, len(ratios))
    strikes = group_times(take, n_samples / rate_hz, 1, interval_s, 0, 0.05)
    for number, step in enumerate(rng.permutation([0, 2, 4, 7, 9])[:n_bells]):
        own = strikes[number::n_bells]
        modes_hz = prime_hz * 2 ** (step / 12) * ratios * rng.uniform(0.995, 1.005, len(ratios))
        blows = np.zeros(n_samples, np.float32)
        for start_s in own:
            n = int(0.02 * rate_hz)
            clapper = noise(take, n, rate_hz, 150, clapper_hz) * pluck(n, rate_hz, 0.0005, 0.002)
            add_at(blows, start_s, take.uniform(0.7, 1) * clapper, rate_hz)
        for detune, share in ((1.0, 1.0), (rng.uniform(1.001, 1.004), 0.5)):
            wave += resonate(blows, modes_hz * detune, last_s / ratios, share * levels, rate_hz)
    return wave


def siren(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """A wail (slow sweep), a yelp (fast sweep) or two tones in turn, on a car that may drive past."""
    take = rng.spawn(1)[0]
    kind, low_hz, reach = int(rng.integers(3)), rng.uniform(500, 750), rng.uniform(1.6, 2.4)
    slow_hz, fast_hz, pair_hz = rng.uniform(0.15, 0.5), rng.uniform(2.5, 4.5), rng.uniform(0.5, 1.0)
    levels = rng.uniform(0.3, 1, 9) / np.arange(1, 10) ** rng.uniform(0.8, 2.0)
    shift, pass_s = rng.uniform(0, 0.06), take.uniform(0.2, 0.8) * n_samples / rate_hz
    time = np.arange(n_samples) / rate_hz
    cycle = time * (slow_hz, fast_hz, pair_hz)[kind] + take.uniform()
    # A motor or an RC circuit drives the sweep: quick up, slower down.
    sweep = np.minimum((cycle % 1) / 0.4, (1 - cycle % 1) / 0.6) if kind < 2 else np.floor(2 * cycle) % 2
    top = reach if kind < 2 else rng.choice([1.19, 1.26, 1.33])
    pitch = low_hz * top**sweep * (1 - shift * np.tanh(1.5 * (time - pass_s)))
    near = 1 / np.sqrt(1 + (rng.uniform(0, 0.8) * (time - pass_s)) ** 2)
    return harmonics(pitch, levels[:, None] * near.astype(np.float32), rate_hz)


def car_horn(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """One or two steel reeds a third or so apart, rich in harmonics, pressed once or several times."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    low_hz, third, both = rng.uniform(300, 480), rng.choice([1.19, 1.26, 1.34]), rng.uniform() < 0.8
    press_s, hasty = rng.uniform(0.3, 1.5), rng.uniform(0, 0.4)
    trumpet_hz, count = rng.uniform(1000, 2200), int(rng.integers(1, 4))
    number = np.arange(1, 25)
    for start_s in group_times(take, n_samples / rate_hz, count, 1.35 * press_s, rng.uniform(0.3, 1.0), 0.1):
        n = int(press_s * np.clip(1 + hasty * take.normal(), 0.4, 2) * rate_hz)
        settle = 1 - 0.03 * np.exp(-np.arange(n) / (0.03 * rate_hz))
        horn = np.zeros(n, np.float32)
        for hertz in (low_hz, low_hz * third) if both else (low_hz,):
            levels = 0.1 + 1 / (1 + ((number * hertz - trumpet_hz) / 900) ** 2)
            horn += harmonics(hertz * settle, levels / number**0.7, rate_hz)
        add_at(wave, start_s, horn * arch(n, 0.02, 0.04), rate_hz)
    return wave


def engine(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Uneven firings of two to eight cylinders through an exhaust, with the rush of air; idling or revved."""
    take = rng.spawn(1)[0]
    firing_hz, cylinders, revs = rng.uniform(18, 65), int(rng.integers(2, 9)), rng.choice([0.05, 0.1, 0.8])
    uneven, pipe_hz = rng.uniform(0.4, 1, cylinders), rng.uniform(90, 220) * np.array([1, 2.1, 3.3, 5.2, 8.5])
    levels = rng.uniform(0.3, 1, 5) / np.arange(1, 6)
    air, valves = rng.uniform(0.03, 0.15), rng.uniform(0, 0.15)
    pace = firing_hz * (1 + revs * wander(take, n_samples, rate_hz, 0.8))
    cycle = phase(pace, rate_hz) / (2 * np.pi)
    starts = np.flatnonzero(np.diff(np.floor(cycle), prepend=0.0))
    force = uneven[np.arange(len(starts)) % cylinders] * take.uniform(0.8, 1.1, len(starts))
    firings = impulses(n_samples, rate_hz, (starts + 0.5) / rate_hz, force)
    wave = resonate(firings, pipe_hz, 1.4 / pipe_hz, levels, rate_hz)
    wave = wave / np.sqrt(np.mean(wave**2))
    stroke = np.exp(-3 * (cycle % 1))
    rush = noise(take, n_samples, rate_hz, 200, 2500, -3) * (0.3 + stroke)
    clatter = noise(take, n_samples, rate_hz, 1500, 6000) * stroke**3
    return (wave * (pace / firing_hz) + air * rush + valves * clatter).astype(np.float32)


def helicopter(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Blade slaps at 9 to 22 Hz over a turbine's whine and wash of air, coming nearer or going away."""
    take = rng.spawn(1)[0]
    blade_hz, slap, dark_hz = rng.uniform(9, 22), rng.uniform(2, 7), rng.uniform(250, 1100)
    turbine_hz, whine, wash = rng.uniform(1500, 4500), rng.uniform(0, 0.12), rng.uniform(0.1, 0.5)
    tail_hz, tail = blade_hz * rng.uniform(4.5, 6.5), rng.uniform(0, 0.4)
    pace = 1 + 0.02 * (wander(take, n_samples, rate_hz, 0.5) - 0.5)
    turn = phase(blade_hz * pace, rate_hz) + take.uniform(0, 6.28)
    chop = np.exp(slap * (np.cos(turn) - 1)) + 0.15
    thud = noise(take, n_samples, rate_hz, 60, dark_hz, -3) * chop
    air = noise(take, n_samples, rate_hz, 300, 5000, -4) * (0.4 + 0.6 * chop)
    hum = tail * harmonics(tail_hz * pace, [0.3, 1, 0.6, 0.3], rate_hz)
    jet = whine * harmonics(turbine_hz * pace, [1, 0.3], rate_hz)
    near = np.linspace(take.uniform(0.4, 1), take.uniform(0.4, 1), n_samples)
    return ((thud + wash * air + hum * (0.5 + chop) + jet) * near).astype(np.float32)
