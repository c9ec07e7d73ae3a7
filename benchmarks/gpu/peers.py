"""torch-vggish-yamnet on the GPU, where it is installed: its YAMNet, from its own input [n, 1, 96, 64]."""

from benchmarks.gpu.piece import Plot, Table, Tables, median_ms, number, parse

CLIP_S, RATE_HZ = 5, 16_000


def patches_a_clip() -> int:
    """Into how many patches the package's own converter cuts a clip."""
    import torch
    from torch_vggish_yamnet.input_proc import WaveformToInput

    return len(WaveformToInput()(torch.zeros(1, CLIP_S * RATE_HZ), RATE_HZ))


def main() -> None:
    """Measure and write the table."""
    options = parse("peers")
    import torch
    from torch_vggish_yamnet import yamnet

    place = torch.device(options.device)
    model = yamnet.yamnet(pretrained=False).eval().to(place)
    count_a_clip = patches_a_clip()
    clips, seconds = ([1, 2], 0.02) if options.quick else ([1, 8, 64, 256], 0.3)
    rows: list[list[str]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, half in (("fp32", False), ("autocast in fp16", True)):
        if half and options.device != "cuda":
            continue
        times = []
        for count in clips:
            patches = torch.randn(count * count_a_clip, 1, 96, 64)

            def run(patches: torch.Tensor = patches, half: bool = half) -> object:
                with torch.inference_mode(), torch.autocast(place.type, torch.float16, half):
                    return model(patches.to(place))[0].cpu()

            times.append(median_ms(run, seconds))
        rows.append([name, *map(number, times), number(1000 * clips[-1] / times[-1])])
        lines[name] = list(zip(map(float, clips), times, strict=True))
    head = ["precision", *(f"{count} clips, ms" for count in clips), f"clips/s at {clips[-1]}"]
    note = f"a clip of {CLIP_S} s is {count_a_clip} patches, as the package cuts it"
    notes = (note, "their log-mels are there already", "random weights", f"median of {seconds:g} s of calls")
    numbers = {f"{name}, {count:.0f}": ms for name, points in lines.items() for count, ms in points}
    plot = Plot("torch-vggish-yamnet", "clips in a call", "ms", lines)
    Tables(options.json).put(Table("torch-vggish-yamnet: ms a call", head, rows, notes, plot, numbers))


if __name__ == "__main__":
    main()
