"""Sounds of animals and weather, one function a class, each named as in ESC-50.

    wave = rain(rng, n_samples, rate_hz)      # [n_samples] float32, dry, any level

The source (size, tempo, timbre) is drawn from `rng` itself; noise and timing come from a child generator that `rng`
spawns. Two generators with the same state and different children give two takes of one source.
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
    random_times,
    resonate,
    voice,
    wander,
)


def dog(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Barks: a short voice that jumps up in pitch and falls, harsh and breathy, in groups of one to three."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    size = rng.uniform()  # 0 a terrier, 1 a mastiff
    pitch_hz = 480 * (170 / 480) ** size * rng.uniform(0.9, 1.1)
    length_s = (0.11 + 0.13 * size) * rng.uniform(0.85, 1.3)
    throat = np.array([750, 1450, 2900]) * (1.2 - 0.4 * size) * rng.uniform(0.9, 1.1)
    breath, rough, count = rng.uniform(0.05, 0.3), rng.uniform(0.02, 0.06), int(rng.integers(1, 4))
    interval_s, pause_s = length_s + rng.uniform(0.08, 0.25), rng.uniform(0.2, 0.9)
    for start_s in group_times(take, n_samples / rate_hz, count, interval_s, pause_s, 0.15):
        n = int(length_s * take.uniform(0.8, 1.2) * rate_hz)
        place = np.linspace(0, 1, n)
        jump = take.uniform(0.35, 0.6)
        curve = pitch_hz * (0.7 + jump * np.sin(np.pi * place**0.55) + rough * noise(take, n, rate_hz, 20, 300))
        bark = voice(curve, list(throat), 350, 5, rate_hz)
        bark = bark + breath * noise(take, n, rate_hz, 500, 3500)
        add_at(wave, start_s, take.uniform(0.6, 1) * bark * pluck(n, rate_hz, 0.012, 0.6 * length_s), rate_hz)
    return wave


def frog(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Croaks: a train of pulses through resonances of the vocal sac; now and then a second frog answers."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    species_hz = rng.uniform(450, 850)
    for frog_level in (1.0, rng.choice([0.0, 0.4])):
        sac_hz = species_hz * rng.uniform(0.9, 1.1)
        modes_hz = sac_hz * np.array([1, rng.uniform(2.2, 2.9), rng.uniform(3.8, 4.6)])
        rate, length_s = rng.uniform(28, 75), rng.uniform(0.15, 0.55)
        count, pause_s = int(rng.integers(1, 4)), rng.uniform(0.2, 1.3)
        interval_s = length_s + rng.uniform(0.06, 0.25)
        levels = np.array([1, rng.uniform(0.4, 1.2), rng.uniform(0.1, 0.5)])
        for start_s in group_times(take, n_samples / rate_hz, count, interval_s, pause_s, 0.1):
            n = int(length_s * take.uniform(0.85, 1.15) * rate_hz)
            # The muscles speed up through the croak, which is what makes it "rib-bit".
            place = np.linspace(0, 1, n)
            cycle = phase(rate * (0.8 + 0.5 * place), rate_hz) / (2 * np.pi)
            knocks = np.diff(np.floor(cycle), prepend=-1) * take.uniform(0.7, 1.0, n)
            swell = arch(n, 0.35, 0.15) * (1 - 0.8 * np.exp(-(((place - 0.45) / 0.06) ** 2)))
            croak = resonate((knocks * swell).astype(np.float32), modes_hz, 0.006, levels, rate_hz)
            add_at(wave, start_s, frog_level * take.uniform(0.7, 1) * croak, rate_hz)
    return wave


def crow(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Caws: a harsh, noisy voice with a strong formant near 1.5 kHz, in series of two to five."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    pitch_hz, length_s = rng.uniform(330, 620), rng.uniform(0.2, 0.5)
    throat = np.array([1500, 2200, 4200]) * rng.uniform(0.8, 1.25)
    rough, rasp = rng.uniform(0.04, 0.12), rng.uniform(0.15, 0.5)
    count, pause_s = int(rng.integers(2, 6)), rng.uniform(0.3, 1.5)
    interval_s = length_s + rng.uniform(0.12, 0.4)
    for start_s in group_times(take, n_samples / rate_hz, count, interval_s, pause_s, 0.08):
        n = int(length_s * take.uniform(0.85, 1.15) * rate_hz)
        place = np.linspace(0, 1, n)
        curve = pitch_hz * (0.85 + 0.25 * np.sin(np.pi * place**0.8) + rough * noise(take, n, rate_hz, 40, 400))
        caw = voice(curve, [formant * (0.85 + 0.2 * arch(n, 0.3, 0.5)) for formant in throat], 450, 2, rate_hz)
        caw = caw + rasp * noise(take, n, rate_hz, throat[0] * 0.7, throat[1] * 1.2)
        add_at(wave, start_s, take.uniform(0.6, 1) * caw * arch(n, 0.12, 0.35), rate_hz)
    return wave


def crickets(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Stridulation: chirps of a few pulses of one high tone, each cricket at its own pitch and pace."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    for number in range(int(rng.integers(1, 5))):
        tone_hz, pulse_hz = rng.uniform(3700, 5400), rng.uniform(25, 55)
        pulses, pause_s = int(rng.integers(2, 7)), rng.uniform(0.08, 0.5)
        if rng.uniform() < 0.25:
            pulses = 400  # one that trills without a pause
        level = 1.0 if number == 0 else rng.uniform(0.15, 0.7)
        n = int(rate_hz / pulse_hz * rng.uniform(0.5, 0.9))
        starts = group_times(take, n_samples / rate_hz, pulses, 1 / pulse_hz, pause_s, 0.03)
        gate, pulse = np.zeros(n_samples, np.float32), arch(n, 0.3, 0.4)
        for start_s in starts:
            add_at(gate, start_s, pulse, rate_hz)
        pitch = tone_hz * (1 - 0.02 * gate + 0.006 * wander(take, n_samples, rate_hz, 6))
        swell = 0.75 + 0.25 * wander(take, n_samples, rate_hz, 1)
        wave += level * swell * gate * harmonics(pitch, [1, 0.12], rate_hz)
    return wave


def chirping_birds(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Songs: whistled syllables that sweep up, down or trill at 1.8 to 7 kHz, from one to three birds."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    for number in range(int(rng.integers(1, 4))):
        level = 1.0 if number == 0 else rng.uniform(0.15, 0.6)
        centre_hz, n_kinds = rng.uniform(2300, 4600), int(rng.integers(1, 4))
        sweep, bow = rng.choice([-1, 1], n_kinds) * rng.uniform(0.1, 0.35, n_kinds), rng.uniform(-0.25, 0.25, n_kinds)
        trill, trill_hz = rng.choice([0, 0, 0.08], n_kinds), rng.uniform(20, 60, n_kinds)
        length_s = rng.uniform(0.04, 0.22, n_kinds)
        count, interval_s, pause_s = int(rng.integers(2, 9)), rng.uniform(0.15, 0.3), rng.uniform(0.3, 1.0)
        starts = group_times(take, n_samples / rate_hz, count, interval_s, pause_s, 0.12)
        for order, start_s in enumerate(starts):
            kind = order % count % n_kinds
            n = int(length_s[kind] * take.uniform(0.9, 1.1) * rate_hz)
            place = np.linspace(0, 1, n)
            shape = sweep[kind] * (2 * place - 1) + bow[kind] * np.sin(np.pi * place)
            shape = shape + trill[kind] * np.sin(2 * np.pi * trill_hz[kind] * length_s[kind] * place)
            pitch = centre_hz * take.uniform(0.97, 1.03) * (1 + shape)
            add_at(wave, start_s, level * arch(n, 0.2, 0.35) * harmonics(pitch, [1, 0.06], rate_hz), rate_hz)
    return wave


def rain(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Far drops merge to noise; near drops are short clicks of random size, from a drizzle to a downpour."""
    take = rng.spawn(1)[0]
    drops, far = np.exp(rng.uniform(np.log(60), np.log(1500))), rng.uniform(0.3, 1.2)
    low_hz, tilt_db = rng.uniform(300, 1500), rng.uniform(-4, 1)
    drop_hz = rng.uniform(1200, 6000, 8)
    bed = noise(take, n_samples, rate_hz, low_hz, 7500, tilt_db) * (0.85 + 0.3 * wander(take, n_samples, rate_hz, 0.8))
    times = random_times(take, n_samples / rate_hz, drops)
    splash = np.zeros(n_samples)
    for kind, hertz in enumerate(drop_hz):
        own = times[kind :: len(drop_hz)]
        sizes = take.lognormal(0, 0.9, len(own)) * take.choice([-1, 1], len(own))
        splash += resonate(impulses(n_samples, rate_hz, own, sizes), hertz, 0.0005, 1.0, rate_hz)
    return (far * bed + splash / np.sqrt(np.mean(splash**2))).astype(np.float32)


def sea_waves(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Swells that rise slowly, break bright and drain back hissing, over a far surf."""
    take = rng.spawn(1)[0]
    period_s, sharp, foam = rng.uniform(2.2, 5.5), rng.uniform(1.5, 3.5), rng.uniform(0.3, 1.0)
    dark_hz, far = rng.uniform(250, 700), rng.uniform(0.08, 0.25)
    time = np.arange(n_samples) / rate_hz
    swell = np.full(n_samples, far)
    for crest_s in np.arange(-period_s * take.uniform(), n_samples / rate_hz + period_s, period_s):
        late = time - crest_s - take.normal(0, 0.12 * period_s)
        width = np.where(late < 0, 0.16, 0.3) * period_s
        swell += take.uniform(0.6, 1) * np.exp(-((np.abs(late) / width) ** 1.5))
    body = noise(take, n_samples, rate_hz, 60, dark_hz, -3) * swell
    hiss = noise(take, n_samples, rate_hz, dark_hz, 6500, -2) * swell**sharp
    return (body + foam * hiss * (0.8 + 0.4 * wander(take, n_samples, rate_hz, 12))).astype(np.float32)


def wind(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Gusts: a low roar, and one or two whistles of narrow noise whose pitch rises with the gust."""
    take = rng.spawn(1)[0]
    gust = wander(take, n_samples, rate_hz, rng.uniform(0.4, 1.3)) * 0.75
    gust = gust + 0.25 * wander(take, n_samples, rate_hz, 4)
    roar = noise(take, n_samples, rate_hz, 50, rng.uniform(250, 600), -3)
    wave = rng.uniform(0.4, 1.2) * roar * (0.2 + gust)
    for _ in range(int(rng.integers(1, 3))):
        rest_hz, reach, width_hz = rng.uniform(180, 600), rng.uniform(0.6, 1.6), rng.uniform(20, 110)
        angle = phase(rest_hz * (1 + reach * gust), rate_hz)
        whistle = noise(take, n_samples, rate_hz, 0.5, width_hz) * np.cos(angle)
        whistle = whistle + noise(take, n_samples, rate_hz, 0.5, width_hz) * np.sin(angle)
        wave = wave + rng.uniform(0.3, 1) * whistle * gust**1.5
    return wave.astype(np.float32)


def thunderstorm(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """A crack (if it is near) and a roll of many overlapping dark claps, mostly over rain."""
    take, length_s = rng.spawn(1)[0], n_samples / rate_hz
    near, dark_hz, roll = rng.uniform(), rng.uniform(150, 420), int(rng.integers(8, 30))
    rain_level, last_s = rng.choice([0.02, 0.05, 0.1]) * rng.uniform(0.5, 1.5), rng.uniform(1.5, 3.0)
    first_s = take.uniform(0.05, 0.3 * length_s)
    time = np.arange(n_samples) / rate_hz
    loud = np.zeros(n_samples)
    for late_s in np.concatenate([[0.0], take.exponential(0.45 * last_s, roll)]):
        since = np.maximum(0, time - first_s - late_s)
        level = np.exp(-late_s / last_s) * take.uniform(0.3, 1)
        loud += level * (1 - np.exp(-since / 0.03)) * np.exp(-since / take.uniform(0.1, 0.5))
    wave = noise(take, n_samples, rate_hz, 40, dark_hz, -2) * loud
    since = np.maximum(0, time - first_s)
    crack = np.where(since > 0, np.exp(-since / (0.05 + 0.15 * near)), 0) * (0.5 + wander(take, n_samples, rate_hz, 60))
    wave = wave + 2.5 * near**2 * crack * noise(take, n_samples, rate_hz, 200, 5000, -3)
    return (wave + rain_level * noise(take, n_samples, rate_hz, 800, 7000, -1)).astype(np.float32)


def crackling_fire(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Cracks of split wood at random times, few of them loud, over the low flutter of flames."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    cracks, flame_level, flame_hz = rng.uniform(8, 35), rng.uniform(0.02, 0.12), rng.uniform(300, 900)
    dull_hz, sharp_hz = rng.uniform(500, 1500), rng.uniform(4000, 7500)
    for start_s in random_times(take, n_samples / rate_hz, cracks):
        n = int(take.uniform(0.002, 0.018) * rate_hz)
        crack = noise(take, n, rate_hz, dull_hz, sharp_hz) * pluck(n, rate_hz, 0.0002, n / rate_hz / 4)
        add_at(wave, start_s, min(8.0, take.lognormal(0, 1)) * 0.15 * crack, rate_hz)
    flutter = 0.4 + wander(take, n_samples, rate_hz, 9) * wander(take, n_samples, rate_hz, 2)
    flames = flame_level * flutter * noise(take, n_samples, rate_hz, 60, flame_hz, -2)
    return (wave + flames).astype(np.float32)


def water_drops(rng: Rng, n_samples: int, rate_hz: int) -> Wave:
    """Drips: each pulls a bubble under, which sings a short tone that rises as it nears the surface."""
    take, wave = rng.spawn(1)[0], np.zeros(n_samples, np.float32)
    bubble_hz, decay_s = np.exp(rng.uniform(np.log(800), np.log(1800))), rng.uniform(0.015, 0.06)
    rise, plip = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.4)
    interval_s, jitter, spread = rng.uniform(0.2, 0.7), rng.uniform(0.02, 0.4), rng.uniform(0.02, 0.2)
    n = int(6 * decay_s * rate_hz)
    for start_s in group_times(take, n_samples / rate_hz, 1, interval_s, 0, jitter):
        pitch = bubble_hz * np.exp(spread * take.normal()) * (1 + rise * np.linspace(0, 1, n) ** 1.5)
        drop = harmonics(np.clip(pitch, 200, 7000), [1.0], rate_hz) * pluck(n, rate_hz, 0.002, decay_s)
        click = plip * noise(take, n, rate_hz, 1500, 7000) * pluck(n, rate_hz, 0.0003, 0.003)
        add_at(wave, start_s, take.uniform(0.4, 1) * drop, rate_hz)
        add_at(wave, start_s - 0.02 if start_s > 0.02 else start_s, click, rate_hz)
    return wave
