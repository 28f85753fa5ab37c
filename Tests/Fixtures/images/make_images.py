"""Draw small pictures in every file form that the decoder must read, with the RGB bytes Pillow gives for each.

Run in this folder with Pillow 13.0.0; needs nothing else. Rewrites the pictures and images.json.
"""
import hashlib
import io
import json
import random
import struct
import zlib

from PIL import Image, ImageDraw


def drawing(width, height, seed):
    rng = random.Random(seed)
    picture = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            picture.putpixel((x, y), (x * 255 // width, y * 255 // height, (3 * x + 2 * y) % 256))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        box = sorted(rng.randrange(width) for _ in range(2)), sorted(rng.randrange(height) for _ in range(2))
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse((box[0][0], box[1][0], box[0][1], box[1][1]), fill=colour)
    return picture


def png(width, height, depth, colour, rows, extra=(), interlace=0):
    """A PNG from raw rows (lists of samples), for forms that Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def packed(row):
        if depth == 16:
            return b"".join(struct.pack(">H", s) for s in row)
        bits = "".join(format(s, f"0{depth}b") for s in row)
        bits += "0" * (-len(bits) % 8)
        return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for left, top, across, down in passes:
        for row in rows[top::down]:
            pixels = [row[i : i + channels] for i in range(0, len(row), channels)][left::across]
            if pixels:
                raw += b"\0" + packed([s for pixel in pixels for s in pixel])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = b"".join(chunk(name, data) for name, data in extra)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(raw, 9))
            + chunk(b"IEND", b""))


def saved(picture, **options):
    file = io.BytesIO()
    picture.save(file, **options)
    return file.getvalue()


def adobe_cmyk(jpeg):
    """The same JPEG without its Adobe marker: four inks, still taken as inverted."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + struct.unpack(">H", jpeg[start + 2 : start + 4])[0] :]


def ycck(jpeg):
    """Declares the colour transform YCCK; the planes then mean other colours, which is all the test needs."""
    start = jpeg.index(b"Adobe") + 11
    return jpeg[:start] + b"\x02" + jpeg[start + 1 :]


def files():
    rgb = drawing(53, 41, 1)
    rng = random.Random(2)
    alpha = Image.linear_gradient("L").resize(rgb.size)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    cmyk = rgb.convert("CMYK")
    cmyk.putpixel((3, 3), (10, 200, 30, 128))

    yield "baseline_420.jpg", saved(rgb, format="JPEG", quality=80, subsampling=2)
    yield "baseline_422.jpg", saved(rgb, format="JPEG", quality=80, subsampling=1)
    yield "baseline_444.jpg", saved(rgb, format="JPEG", quality=80, subsampling=0)
    yield "progressive.jpg", saved(rgb, format="JPEG", quality=70, progressive=True)
    yield "restart.jpg", saved(rgb, format="JPEG", quality=70, restart_marker_blocks=3)
    yield "gray.jpg", saved(rgb.convert("L"), format="JPEG", quality=75)
    yield "rgb_not_ycc.jpg", saved(rgb, format="JPEG", quality=75, keep_rgb=True)
    four = saved(cmyk, format="JPEG", quality=85)
    yield "cmyk.jpg", four
    yield "cmyk_no_marker.jpg", adobe_cmyk(four)
    yield "ycck.jpg", ycck(four)
    yield "trailing_bytes.jpg", saved(rgb, format="JPEG", quality=60) + b"after the end"
    stray = saved(rgb, format="JPEG", quality=60)
    table = stray.index(b"\xff\xdb")
    yield "stray_bytes.jpg", stray[:table] + b"\xff\0\xff\0" + stray[table:]

    yield "rgb.png", saved(rgb, format="PNG", optimize=True)
    yield "gray_alpha.png", saved(rgba.convert("LA"), format="PNG")
    yield "rgba.png", saved(rgba, format="PNG")
    yield "palette.png", saved(rgb.quantize(64), format="PNG")
    yield "palette_4bit.png", saved(rgb.quantize(13), format="PNG", bits=4)
    yield "palette_trns.png", saved(rgb.quantize(32), format="PNG", transparency=bytes(range(0, 256, 8)))
    yield "bilevel.png", saved(rgb.convert("1"), format="PNG")
    for depth in (2, 4):
        rows = [[rng.randrange(1 << depth) for _ in range(21)] for _ in range(9)]
        yield f"gray_{depth}bit.png", png(21, 9, depth, 0, rows)
    deep = [[rng.randrange(1 << 16) for _ in range(17 * 3)] for _ in range(11)]
    yield "rgb_16bit.png", png(17, 11, 16, 2, deep)
    yield "rgba_16bit.png", png(17, 11, 16, 6, [[rng.randrange(1 << 16) for _ in range(17 * 4)] for _ in range(11)])
    shallow = [[s >> 8 for s in row] for row in deep]
    yield "rgb_trns.png", png(17, 11, 8, 2, shallow, [(b"tRNS", struct.pack(">HHH", *shallow[0][:3]))])
    yield "gray_trns.png", png(17, 11, 8, 0, [row[:17] for row in shallow], [(b"tRNS", struct.pack(">H", 77))])
    yield "gamma.png", png(17, 11, 8, 2, shallow, [(b"gAMA", struct.pack(">I", 100000))])
    yield "interlaced.png", png(17, 11, 8, 2, shallow, interlace=1)
    bits = [[rng.randrange(2) for _ in range(19)] for _ in range(13)]
    yield "interlaced_bilevel.png", png(19, 13, 1, 0, bits, interlace=1)
    indices = [[rng.randrange(4) for _ in range(19)] for _ in range(13)]
    colours = bytes(rng.randrange(256) for _ in range(12))
    yield "interlaced_palette.png", png(19, 13, 2, 3, indices, [(b"PLTE", colours)], interlace=1)

    yield "lossy.webp", saved(rgb, format="WEBP", quality=70)
    yield "lossless.webp", saved(rgb, format="WEBP", lossless=True)
    yield "lossy_alpha.webp", saved(rgba, format="WEBP", quality=70)
    yield "lossless_alpha.webp", saved(rgba, format="WEBP", lossless=True, exact=True)
    yield "with_metadata.webp", saved(rgb, format="WEBP", quality=50, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    yield "animated.webp", saved(rgb, format="WEBP", save_all=True, append_images=[drawing(53, 41, 5)], quality=30)


def main():
    entries = []
    for name, data in files():
        with open(name, "wb") as file:
            file.write(data)
        picture = Image.open(io.BytesIO(data))
        pixels = picture.convert("RGB").tobytes()
        entries.append({
            "file": name, "mode": picture.mode, "width": picture.width, "height": picture.height,
            "rgb_sha256": hashlib.sha256(pixels).hexdigest(),
        })
    with open("images.json", "w") as file:
        json.dump(entries, file, indent=1)
        file.write("\n")


main()
