"""Generates the pictures and sounds of the example home, testdata/home, and its list of files.

    scripts/make-home          writes the pictures, the sounds, and testdata/home.sha256
    scripts/make-home --check  compares the existing files; the exit status is 1 if one differs

The tests copy the files listed in testdata/home.sha256, so that files created by a server running
on testdata/home do not affect them.

The pictures and sounds depend on this program and on one tune in ABC notation only, and are
identical on every machine and with every version of Python: sines are computed with integers, and
the pictures are stored without compression, whose output depends on the version of the library.
"""

import hashlib
import re
import struct
import sys
import zlib
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent.parent / "testdata/home"
FILES = HOME / "files"
MANIFEST = HOME.with_name("home.sha256")
HOME_BYTES_MAX = 2 * 1024 * 1024
RATE = 11025  # samples per second
WAVE = 1 << 16  # steps of a full circle, and the amplitude of a sine


def main():
    made = {
        "Photos/Tide Table.png": tide_table(),
        "Photos/Two Moles.png": two_moles(),
        "Photos/North Light.png": north_light(),
        "Music/Drunken Sailor.wav": wav(melody((FILES / "Music/Drunken Sailor.abc").read_text())),
        "Music/Harbour Bell.wav": wav(bell()),
    }
    faults = []
    if sys.argv[1:] == ["--check"]:
        for name, content in made.items():
            path = FILES / name
            if not path.is_file() or path.read_bytes() != content:
                faults.append(f"{name} differs from the generated file")
        if (FILES / "Movies/Joker").stat().st_size != 4096:
            faults.append("the length of Movies/Joker is not 4096 bytes")
        if sum(p.stat().st_size for p in HOME.rglob("*") if p.is_file()) > HOME_BYTES_MAX:
            faults.append(f"the home is larger than {HOME_BYTES_MAX} bytes")
        if MANIFEST.read_text() != manifest():
            faults.append(f"{MANIFEST.name} differs from the files; compare it with sha256sum -c")
    elif not sys.argv[1:]:
        for name, content in made.items():
            (FILES / name).write_bytes(content)
        MANIFEST.write_text(manifest())
    else:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    for fault in faults:
        print(f"make-home: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def manifest():
    """Returns the hash and path of each file, except the server's own, in sha256sum's format."""
    files = [path for path in HOME.rglob("*") if path.is_file()]
    paths = [path for path in files if not path.name.startswith(".tidegate")]
    paths = {path.relative_to(HOME).as_posix(): path for path in paths}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


# Integer sines, which are the same on every machine.


def quarter_wave():
    """Returns the sines of the first quarter of a circle of WAVE steps, times WAVE.

    Rotates a vector in small steps.
    """
    one = 1 << 60
    step = 314159265358979323846 * one // (10**20 * WAVE // 2)  # the angle of one step
    s, c = 0, one
    ds, dc = step - step**3 // (6 * one**2), one - step**2 // (2 * one)  # sine and cosine of a step
    table = []
    for _ in range(WAVE // 4 + 1):
        table.append((s * WAVE + one // 2) >> 60)
        s, c = (s * dc + c * ds) >> 60, (c * dc - s * ds) >> 60
    return table


QUARTER = quarter_wave()


def sine(steps):
    """Returns the sine of an angle in steps, from -WAVE to WAVE."""
    steps %= WAVE
    if steps >= WAVE // 2:
        return -sine(steps - WAVE // 2)
    return QUARTER[min(steps, WAVE // 2 - steps)]


# Pictures: PNG with a palette of 16 colours, 4 bits per pixel.


def png(width, height, palette, pixel):
    """Returns a picture of an even width.

    `pixel(x, y)` is an index into `palette`, a list of at most 16 strings RRGGBB.
    """
    rows = bytearray()
    for y in range(height):
        rows.append(0)  # filter type of the row: none
        rows.extend(pixel(x, y) << 4 | pixel(x + 1, y) for x in range(0, width, 2))
    blocks = [rows[i : i + 65535] for i in range(0, len(rows), 65535)]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block
        for block in blocks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),
            (b"PLTE", bytes.fromhex("".join(palette))),
            (b"IDAT", b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))),
            (b"IEND", b""),
        )
    )


DUSK = [
    "0b1d3a", "12305a", "1b4578", "275b93", "3a74a9", "5590bd", "79accd", "a3c8dd",
    "cfe2ea", "f4ead5", "f7d48a", "f2b04e", "e2843a", "b5532f", "6e2f2b", "2a1a22",
]


def level(hours):
    """Returns the water level in centimetres, at a time in hundredths of an hour.

    Adds the lunar tide, every 12.42 hours, and the solar tide, every 12 hours.
    """
    return (180 * sine(hours * WAVE // 1242) + 70 * sine(hours * WAVE // 1200 + WAVE // 3)) // WAVE


def tide_table():
    """Draws the tide of three days, with a line at each midnight and at the mean level."""
    width, height, middle = 480, 260, 130

    def pixel(x, y):
        surface = middle - level(x * 7200 // width) * 2 // 5
        if abs(y - surface) <= 1:
            return 9
        if y > surface:
            return 1 + min(6, (y - surface) // 18) if y != middle else 8
        return 12 if x % (width // 3) == 0 else 11 if y == middle else 0

    return png(width, height, DUSK, pixel)


def two_moles():
    """Draws the interference of waves from the ends of two moles, seen from above."""
    width, height = 480, 270

    def root(n):
        r = n
        while r * r > n:
            r = (r + n // r) // 2
        return r

    def distance(x, y, ex, ey):
        """Returns the distance in 32nds of a pixel."""
        return root(((x - ex) ** 2 + (y - ey) ** 2) << 10) if (x, y) != (ex, ey) else 0

    def pixel(x, y):
        if x < 150 and abs(y - 75) < 6 or x < 150 and abs(y - 195) < 6:
            return 15
        north, south = distance(x, y, 150, 75), distance(x, y, 150, 195)
        ripple = sine(north * WAVE // 640) + sine(south * WAVE // 640)
        return 1 + (ripple + 2 * WAVE) * 8 // (4 * WAVE + 1)

    return png(width, height, DUSK, pixel)


def north_light():
    """Draws the lighthouse of the north mole at dusk."""
    width, height, horizon, tower, lamp = 360, 270, 190, 100, 70

    def pixel(x, y):
        if abs(x - tower) <= 9 and lamp - 22 <= y < lamp - 12 and abs(x - tower) <= y - lamp + 22:
            return 14  # the roof
        if abs(x - tower) <= 10 and lamp - 12 <= y < lamp + 10:
            return 10 if abs(x - tower) <= 7 else 15  # the lantern
        if abs(x - tower) <= 14 and lamp + 10 <= y < lamp + 14:
            return 15  # the gallery
        if lamp + 14 <= y < horizon + 8 and abs(x - tower) <= 9 + (y - lamp) // 16:
            return 13 if (y - lamp) // 26 % 2 else 9  # the tower, red and white
        if y >= horizon + 8 - (x < tower + 60) * 4 and x < tower + 60 and y < horizon + 20:
            return 15  # the mole
        if x > tower and y < horizon and abs(y - lamp) * 8 < x - tower + 24:
            return 11 if abs(y - lamp) * 16 < x - tower + 24 else 12  # the beam
        if y < horizon:
            return min(4, y // 40)  # the sky
        glitter = sine(x * 1700 + y * 9000) + sine(y * y * 90 - x * 2300)
        return 7 if glitter > 3 * WAVE // 2 else 3 + (glitter > 0)

    return png(width, height, DUSK, pixel)


# Sounds: WAV, one channel of 16 bits.


def wav(samples):
    data = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE"
        + b"fmt " + struct.pack("<I", len(form)) + form
        + b"data" + struct.pack("<I", len(data)) + data
    )


# Thousandths of a hertz, in equal temperament over a' = 440 Hz.
PITCHES = {
    "C": 261626, "D": 293665, "E": 329628, "F": 349228, "G": 391995, "A": 440000, "B": 493883,
    "c": 523251, "d": 587330, "e": 659255, "f": 698456, "g": 783991,
}


def melody(abc):
    """Returns the samples of a tune in ABC notation; reads notes and their lengths only."""
    beats = int(re.search(r"^Q:1/4=(\d+)$", abc, re.M)[1])
    tune = abc[re.search(r"^K:.*\n", abc, re.M).end() :]
    samples = []
    for note, eighths in re.findall(r"([A-Ga-g])(\d?)", tune):
        samples += pluck(PITCHES[note], RATE * 30 * int(eighths or 1) // beats)
    return samples


def pluck(pitch, length):
    """Returns the samples of a plucked string with four partials; the high ones decay first."""
    samples = []
    for n in range(length):
        left = (length - n) * 1024 // length
        tone = sum(
            sine(n * pitch * partial * WAVE // (RATE * 1000))
            * left**partial
            // (1024**partial * partial)
            for partial in (1, 2, 3, 4)
        )
        # The first 60 samples fade in, to avoid a click.
        samples.append(tone * min(n, 60) // 60 * 12000 // WAVE)
    return samples


def bell():
    """Returns the samples of two strokes of a bell, whose partials are inharmonic."""
    length, second = RATE * 4, RATE * 3 // 2
    partials = (
        (220000, 10, 3), (440000, 8, 4), (523000, 6, 5),
        (660000, 5, 6), (880000, 4, 8), (1174000, 2, 11),
    )

    def stroke(n):
        left = max(0, RATE * 5 // 2 - n) * 1024 // (RATE * 5 // 2)
        return sum(
            sine(n * pitch * WAVE // (RATE * 1000)) * loud * left**fade // 1024**fade
            for pitch, loud, fade in partials
        )

    return [
        (stroke(n) + (stroke(n - second) if n >= second else 0)) * 700 // WAVE
        for n in range(length)
    ]


if __name__ == "__main__":
    main()
