"""Compare the image decoder with Pillow on about 300 files: accepted or refused, orientation, and pixels.

Needs Pillow 13 and NumPy, and the programs (`make build`). Run on demand:

    python3 Tests/Parity/images.py --model ../shared/goldens/models/NAME

Every file goes through `pdrop-run --trace` with `--exif apply`; its `pixels_u8` is compared with Pillow's
`ImageOps.exif_transpose(Image.open(file)).convert("RGB")`, saved as PNG and run in the same way. Prints a table of the
differences and exits with status 1 if there are others than the expected ones (docs/models.md, section Images).

    python3 Tests/Parity/images.py --write Tests/Fixtures/images

writes variants.json and truncations.json, with which the tests check the decoder without Pillow.
"""
import argparse
import base64
import concurrent.futures
import hashlib
import io
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

from PIL import Image, ImageDraw, ImageOps, features

warnings.simplefilter("ignore")


def drawing(width, height, seed, mode="RGB"):
    rng = random.Random(seed)
    image = Image.merge(
        "RGB", [Image.linear_gradient("L").rotate(90 * i).resize((width, height)) for i in range(3)])
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, size = rng.randrange(width), rng.randrange(height), rng.randrange(1, 2 + max(width, height) // 3)
        draw.ellipse((x, y, x + size, y + size), fill=tuple(rng.randrange(256) for _ in range(3)))
    if mode.endswith("A"):
        image.putalpha(Image.radial_gradient("L").resize((width, height)))
    return image.convert(mode)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# PNG


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def packed(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    bits = "".join(format(s, f"0{depth}b") for s in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def filtered(kind, row, above, distance):
    result = bytearray([kind])
    for i, value in enumerate(row):
        left = row[i - distance] if i >= distance else 0
        corner = above[i - distance] if i >= distance else 0
        up = above[i]
        guess = left + up - corner
        paeth = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        result.append((value - (0, left, up, (left + up) // 2, paeth)[kind]) % 256)
    return bytes(result)


def png(width, height, depth, colour, seed, extra=(), interlace=0, after=(), data=None, split=1, level=9):
    """A PNG of random pixels with every filter, for forms that Pillow does not write."""
    rng = random.Random(seed)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    top = 2**depth
    base = [rng.randrange(top) for _ in range(channels)]
    rows = [[(base[i % channels] + x // channels * 3 + y * 5 + rng.randrange(3)) % top
             for x, i in enumerate(range(width * channels))] for y in range(height)]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for left, first, across, down in passes:
        above = None
        for y, row in enumerate(rows[first::down]):
            pixels = [row[i : i + channels] for i in range(0, len(row), channels)][left::across]
            if pixels:
                line = packed([s for pixel in pixels for s in pixel], depth)
                raw += filtered(rng.randrange(5), line, above or bytes(len(line)), max(1, depth * channels // 8))
                above = line
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = zlib.compress(raw, level) if data is None else data(raw)
    step = -(-len(body) // split)
    parts = [chunk(b"IDAT", body[i : i + step]) for i in range(0, len(body), step)]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*e) for e in extra) + b"".join(parts)
            + b"".join(chunk(*e) for e in after) + chunk(b"IEND", b""))


def png_files():
    palette = (b"PLTE", bytes(random.Random(9).randrange(256) for _ in range(768)))
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    seed = 0
    for colour, all_depths in depths.items():
        for depth in all_depths:
            for interlace in (0, 1):
                for width, height in ((37, 29), (1, 5), (5, 1), (9, 9)):
                    seed += 1
                    extra = [(b"PLTE", palette[1][: 3 * min(256, 2**depth)])] if colour == 3 else []
                    yield (f"png/c{colour}d{depth}i{interlace}_{width}x{height}.png",
                           png(width, height, depth, colour, seed, extra, interlace))
    size = {0: 2, 2: 6, 3: 4}
    for colour, count in size.items():
        for length in (count, count - 1, 0, 300):
            extra = [palette] if colour == 3 else []
            yield f"png/trns_c{colour}_{length}.png", png(9, 9, 8, colour, 70, extra + [(b"tRNS", bytes(length))])
    yield "png/gamma.png", png(9, 9, 8, 2, 71, [(b"gAMA", struct.pack(">I", 20000))])
    yield "png/gamma_short.png", png(9, 9, 8, 2, 71, [(b"gAMA", b"12")])
    yield "png/palette_short.png", png(9, 9, 8, 3, 72, [(b"PLTE", palette[1][:100])])
    yield "png/palette_long.png", png(9, 9, 8, 3, 72, [(b"PLTE", palette[1] + b"123")])
    yield "png/palette_none.png", png(9, 9, 8, 3, 72)
    yield "png/palette_twice.png", png(9, 9, 8, 3, 72, [palette, (b"PLTE", palette[1][::-1][:30])])
    yield "png/unknown_chunk.png", png(9, 9, 8, 2, 73, [(b"abCD", b"x" * 99), (b"ABCD", b"")])
    yield "png/many_data.png", png(13, 9, 8, 2, 74, split=40)
    yield "png/stored.png", png(13, 9, 8, 2, 74, level=0)
    yield "png/rows_missing.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(raw[: 40 * 4]))
    yield "png/rows_missing_inside.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(raw[: 40 * 4 + 5]))
    yield "png/rows_missing_palette.png", png(
        9, 9, 8, 3, 72, [palette], data=lambda raw: zlib.compress(raw[: 10 * 4]))
    yield "png/rows_too_many.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(raw * 2))
    yield "png/no_adler.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(raw)[:-4])
    yield "png/bad_adler.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(raw)[:-4] + b"1234")
    yield "png/bad_filter.png", png(13, 9, 8, 2, 74, data=lambda raw: zlib.compress(b"\x07" + raw[1:]))
    yield "png/text.png", png(9, 9, 8, 2, 75, [(b"tEXt", b"a\0b"), (b"zTXt", b"a\0\0" + zlib.compress(b"b" * 999))])
    yield "png/text_method.png", png(9, 9, 8, 2, 75, [(b"zTXt", b"a\0\1" + zlib.compress(b"b"))])
    yield "png/text_damaged.png", png(9, 9, 8, 2, 75, [(b"zTXt", b"a\0\0nonsense")])
    yield "png/text_large.png", png(9, 9, 8, 2, 75, [(b"zTXt", b"a\0\0" + zlib.compress(b"b" * (1 << 21)))])
    yield "png/text_large_after.png", png(
        9, 9, 8, 2, 75, after=[(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"b" * (1 << 21)))])
    yield "png/profile_large.png", png(9, 9, 8, 2, 75, [(b"iCCP", b"a\0\0" + zlib.compress(b"b" * (1 << 21)))])
    yield "png/profile_damaged.png", png(9, 9, 8, 2, 75, [(b"iCCP", b"a\0\0nonsense")])
    yield "png/profile_method.png", png(9, 9, 8, 2, 75, [(b"iCCP", b"a\0\2" + zlib.compress(b"b"))])
    good = png(13, 9, 8, 2, 76, [(b"tEXt", b"a\0b")], after=[(b"tEXt", b"c\0d")])
    end, data = good.rindex(b"IEND") - 4, good.index(b"IDAT") - 4
    after = good.rindex(b"tEXt") - 4
    yield "png/no_end.png", good[:end]
    yield "png/end_cut.png", good[: end + 8]
    yield "png/end_wrong.png", good[:-1] + b"0"
    yield "png/end_name.png", good[:end] + b"\0\0\0\0IE\xffD" + good[-4:]
    yield "png/junk_after.png", good + b"junk" * 50
    yield "png/text_crc.png", good[: data - 2] + b"xx" + good[data:]
    yield "png/data_crc.png", good[: after - 2] + b"xx" + good[after:]
    yield "png/after_crc.png", good[: end - 2] + b"xx" + good[end:]
    yield "png/after_cut.png", good[: after + 10]
    yield "png/data_crc_cut.png", good[: after - 2]
    yield "png/data_cut.png", good[: after - 9]
    yield "png/header_crc.png", good[:30] + b"x" + good[31:]
    yield "png/no_data.png", good[:data] + good[end:]
    yield "png/data_before_header.png", good[:8] + good[data:after] + good[8:]
    frame = struct.pack(">IIIIIHHBB", 0, 37, 29, 0, 0, 1, 10, 0, 0)
    small = struct.pack(">IIIIIHHBB", 0, 9, 5, 3, 2, 1, 10, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes([7 * y % 256] * 27) for y in range(5)))
    moves = [(b"acTL", struct.pack(">II", 2, 0))]
    second = [(b"fcTL", struct.pack(">IIIIIHHBB", 1, 37, 29, 0, 0, 1, 10, 0, 0)), (b"fdAT", struct.pack(">I", 2) + body)]
    yield "png/animated.png", png(37, 29, 8, 2, 77, moves + [(b"fcTL", frame)], after=second)
    yield "png/animated_default.png", png(37, 29, 8, 2, 77, moves)
    yield "png/animated_area.png", png(37, 29, 8, 2, 77, moves + [(b"fcTL", small)], data=lambda raw: body)
    yield "png/animated_outside.png", png(7, 7, 8, 2, 77, moves + [(b"fcTL", small)], data=lambda raw: body)
    yield "png/animated_order.png", png(37, 29, 8, 2, 77, moves + [(b"fcTL", b"\0\0\0\7" + frame[4:])])
    yield "png/animated_saved.png", saved(
        drawing(40, 30, 1), "PNG", save_all=True, append_images=[drawing(40, 30, 2)])


# JPEG


def jpeg(mode="RGB", size=(45, 37), seed=3, **options):
    return saved(drawing(*size, seed, mode), "JPEG", **options)


def without(data, marker):
    start = data.index(marker)
    return data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]


def with_sampling(data, sampling):
    """The same JPEG with other sampling factors: as damaged data, but the same for all decoders."""
    frame = next(i for i in range(2, len(data)) if data[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    data = bytearray(data)
    for i, factors in enumerate(sampling):
        data[frame + 11 + 3 * i] = factors
    return bytes(data)


def jpeg_files():
    for mode in ("RGB", "L", "CMYK"):
        for progressive in (False, True):
            for size in ((45, 37), (1, 1), (16, 16), (8, 200)):
                for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
                    yield (f"jpeg/{mode}_p{int(progressive)}_s{subsampling}_{size[0]}x{size[1]}.jpg",
                           jpeg(mode, size, progressive=progressive, subsampling=subsampling))
    yield "jpeg/restart.jpg", jpeg(restart_marker_blocks=2)
    yield "jpeg/restart_rows.jpg", jpeg(restart_marker_rows=1)
    yield "jpeg/rgb_kept.jpg", jpeg(keep_rgb=True)
    yield "jpeg/optimised.jpg", jpeg(optimize=True)
    cmyk = jpeg("CMYK")
    yield "jpeg/cmyk_plain.jpg", without(cmyk, b"\xff\xee")
    adobe = cmyk.index(b"Adobe") + 11
    for transform in (1, 2, 7):
        yield f"jpeg/cmyk_transform{transform}.jpg", cmyk[:adobe] + bytes([transform]) + cmyk[adobe + 1 :]
    rgb = jpeg(size=(24, 18), quality=80)
    for transform in (0, 1, 2):
        segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
        yield f"jpeg/rgb_transform{transform}.jpg", rgb[:2] + segment + without(rgb, b"\xff\xe0")[2:]
    yield "jpeg/rgb_plain.jpg", without(rgb, b"\xff\xe0")
    for i, sampling in enumerate(((0x41, 0x11, 0x11), (0x14, 0x11, 0x11), (0x31, 0x11, 0x11), (0x22, 0x21, 0x12),
                                  (0x11, 0x22, 0x22), (0x12, 0x11, 0x21))):
        yield f"jpeg/sampling{i}.jpg", with_sampling(jpeg(size=(48, 48), subsampling=0, quality=30), sampling)
    yield "jpeg/fill_bytes.jpg", rgb.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb")
    yield "jpeg/junk_between.jpg", rgb.replace(b"\xff\xdb", b"\0\1\2\xff\xdb", 1)
    yield "jpeg/junk_after.jpg", rgb + b"junk" * 100
    yield "jpeg/end_zeros.jpg", rgb[:-2] + b"\0\0"
    yield "jpeg/end_start.jpg", rgb[:-2] + b"\xff\xd8"
    yield "jpeg/end_half.jpg", rgb[:-1]
    yield "jpeg/end_none.jpg", rgb[:-2]
    yield "jpeg/end_other.jpg", rgb[:-1] + b"\xd8" + rgb
    yield "jpeg/end_zeros_junk.jpg", rgb[:-2] + b"\0" * 40
    yield "jpeg/end_restart.jpg", rgb[:-1] + b"\xd0" + b"abc" * 20
    yield "jpeg/end_comment.jpg", rgb[:-2] + b"\xff\xfe\xff\xff" + b"abc" * 20
    progressive = jpeg(size=(24, 18), progressive=True)
    yield "jpeg/progressive_end_zeros.jpg", progressive[:-2] + b"\0" * 40
    yield "jpeg/progressive_end_none.jpg", progressive[:-2]
    half = len(rgb) // 2
    yield "jpeg/cut_then_other.jpg", rgb[:half] + rgb
    yield "jpeg/cut_then_end.jpg", rgb[:half] + b"\xff\xd9"
    yield "jpeg/cut_then_end_twice.jpg", rgb[:half] + b"\xff\xd9" + rgb
    yield "jpeg/cut_then_html.jpg", rgb[:half] + b"<html>" * 300
    yield "jpeg/cut_then_zeros.jpg", rgb[:half] + b"\0" * 3000
    yield "jpeg/zero_height.jpg", with_size(rgb, 24, 0)
    yield "jpeg/taller.jpg", with_size(rgb, 24, 96)
    yield "jpeg/shorter.jpg", with_size(rgb, 24, 9)
    yield "jpeg/twelve_bits.jpg", rgb[: rgb.index(b"\xff\xc0") + 4] + b"\x0c" + rgb[rgb.index(b"\xff\xc0") + 5 :]
    stereo = saved(drawing(40, 30, 5), "MPO", save_all=True, append_images=[drawing(40, 30, 6)])
    yield "jpeg/stereo.mpo", stereo
    yield "jpeg/stereo_cut.mpo", stereo[: len(stereo) - 300]
    yield "jpeg/thumbnail.jpg", exif_jpeg(rgb, tiff([(0x112, 3, 1, struct.pack("<HH", 3, 0))]) + jpeg(size=(8, 8)))


def with_size(data, width, height):
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


# WebP


def riff(chunks):
    body = b"WEBP" + b"".join(n + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for n, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_files():
    for mode in ("RGB", "RGBA"):
        for lossless in (False, True):
            for size in ((45, 37), (1, 1), (17, 64)):
                name = f"webp/{mode}_{'lossless' if lossless else 'lossy'}_{size[0]}x{size[1]}.webp"
                yield name, saved(drawing(*size, 3, mode), "WEBP", lossless=lossless, exact=True)
            for count in (1, 2, 3):
                frames = [drawing(40, 30, i, mode) for i in range(count)]
                yield f"webp/{mode}_{count}_frames_{int(lossless)}.webp", saved(
                    frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless)
    still = {loss: saved(drawing(20, 16, 8, "RGBA"), "WEBP", lossless=loss, exact=True)[12:] for loss in (True, False)}

    def frame(image, x, y, width=20, height=16, flags=0):
        place = b"".join(struct.pack("<I", v)[:3] for v in (x // 2, y // 2, width - 1, height - 1, 100))
        return b"ANMF", place + bytes([flags]) + image

    def moving(frames, flags=0x12, width=40, height=30, background=b"\xff\x80\x40\xff", more=()):
        canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        return riff([(b"VP8X", bytes([flags, 0, 0, 0]) + canvas), (b"ANIM", background + b"\0\0"), *frames, *more])

    opaque = saved(drawing(20, 16, 8), "WEBP", lossless=True)[12:]
    yield "webp/one_frame.webp", moving([frame(opaque, 0, 0)], width=20, height=16)
    yield "webp/frame_offset.webp", moving([frame(opaque, 10, 6), frame(opaque, 0, 0)])
    yield "webp/frame_offset_opaque_file.webp", moving([frame(opaque, 10, 6)], flags=2)
    yield "webp/frame_outside.webp", moving([frame(opaque, 30, 6)])
    yield "webp/frame_size.webp", moving([frame(opaque, 0, 0, 22, 16)])
    yield "webp/frame_blend.webp", moving([frame(opaque, 4, 4, flags=2), frame(opaque, 0, 0, flags=1)])
    yield "webp/no_frames.webp", moving([])
    one = moving([frame(opaque, 0, 0), frame(opaque, 4, 4)])
    for cut in (1, 10, len(opaque) // 2, len(opaque) + 40):
        yield f"webp/frames_cut{cut}.webp", one[:-cut]
    yield "webp/frames_junk.webp", one + b"junk" * 9
    lossy = saved(drawing(45, 37, 3), "WEBP")
    yield "webp/junk_after.webp", lossy + b"junk" * 9
    yield "webp/odd_size.webp", lossy[:4] + struct.pack("<I", len(lossy) - 7) + lossy[8:]
    yield "webp/size_short.webp", lossy[:4] + struct.pack("<I", len(lossy) - 30) + lossy[8:]
    yield "webp/size_long.webp", lossy[:4] + struct.pack("<I", len(lossy) + 30) + lossy[8:]
    for loss, image in still.items():
        yield f"webp/no_container_{int(loss)}.webp", riff([]) + image
    small = lossy[12:]
    yield "webp/canvas_differs.webp", riff([(b"VP8X", b"\0" * 4 + b"\x63\0\0\x63\0\0")]) [:12] + b"VP8X" + struct.pack(
        "<I", 10) + b"\0" * 4 + b"\x63\0\0\x63\0\0" + small


# Exif


def tiff(entries, order="<", magic=42, extra=b"", start=8):
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", magic, start)
    table = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        table += struct.pack(order + "HHI", tag, kind, count) + value
    return head + bytes(start - 8) + table + bytes(4) + extra


def exif_jpeg(data, *blocks, name=b"Exif\0\0"):
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(name + b) + 2) + name + b for b in blocks)
    return data[:2] + segments + data[2:]


def xmp(value, form="attribute"):
    inner = f' tiff:Orientation="{value}"' if form == "attribute" else ""
    element = f"<tiff:Orientation>{value}</tiff:Orientation>" if form == "element" else ""
    return (f'<?xpacket?><x:xmpmeta><rdf:RDF><rdf:Description{inner}>{element}'
            "</rdf:Description></rdf:RDF></x:xmpmeta>").encode()


def exif_blocks():
    """Exif blocks by name; the orientation is 6 where it counts."""
    short = struct.pack("<HH", 6, 0)
    yield from ((f"value{v}", tiff([(0x112, 3, 1, struct.pack("<HH", v, 0))])) for v in range(10))
    yield "big_endian", tiff([(0x112, 3, 1, b"\0\6\0\0")], ">")
    values = {1: b"\6\0\0\0", 2: b"6\0\0\0", 4: b"\6\0\0\0", 6: b"\6\0\0\0", 7: b"\6\0\0\0", 8: short, 9: b"\6\0\0\0",
              11: struct.pack("<f", 6), 13: b"\6\0\0\0", 14: b"\6\0\0\0", 0: short}
    yield from ((f"type{kind}", tiff([(0x112, kind, 1, value)])) for kind, value in values.items())
    for kind, value in {5: struct.pack("<II", 6, 1), 10: struct.pack("<ii", 12, 2), 12: struct.pack("<d", 6),
                        16: struct.pack("<Q", 6)}.items():
        yield f"type{kind}", tiff([(0x112, kind, 1, struct.pack("<I", 26))], extra=value)
    yield "count0", tiff([(0x112, 3, 0, short)])
    yield "count2", tiff([(0x112, 3, 2, struct.pack("<HH", 6, 1))])
    yield "count3", tiff([(0x112, 3, 3, struct.pack("<I", 26))], extra=struct.pack("<3H", 6, 1, 1))
    yield "count3_outside", tiff([(0x112, 3, 3, struct.pack("<I", 9999))])
    yield "twice", tiff([(0x112, 3, 1, short), (0x112, 3, 1, struct.pack("<HH", 3, 0))])
    yield "unknown_type_first", tiff([(0x112, 99, 1, short), (0x112, 3, 1, short)])
    yield "after_text", tiff([(0x10F, 2, 5, struct.pack("<I", 38)), (0x112, 3, 1, short)], extra=b"Make\0")
    yield "after_cut_text", tiff([(0x10F, 2, 20, struct.pack("<I", 38)), (0x112, 3, 1, short)], extra=b"Make\0")
    yield "after_huge_text", tiff([(0x10F, 2, 2**31, struct.pack("<I", 38)), (0x112, 3, 1, short)], extra=b"Make\0")
    yield "cut_table", tiff([(0x112, 3, 1, short)])[:20]
    yield "no_next", tiff([(0x112, 3, 1, short)])[:22]
    yield "later_start", tiff([(0x112, 3, 1, short)], start=40)
    yield "start_outside", tiff([(0x112, 3, 1, short)])[:4] + b"\xff\xff\0\0"
    yield "wrong_order", b"MM*\0" + tiff([(0x112, 3, 1, b"\0\6\0\0")], ">")[4:]
    yield "wrong_order_little", b"II\0*" + tiff([(0x112, 3, 1, short)])[4:]
    yield "magic43", tiff([(0x112, 3, 1, short)], magic=43)
    yield "magic43_big", tiff([(0x112, 3, 1, b"\0\6\0\0")], ">", magic=43)
    yield "garbage", b"garbage!" * 4
    yield "empty", b""
    yield "only_other", tiff([(0x10F, 2, 4, b"abc\0")])


def exif_files():
    base = jpeg("L", size=(13, 9))
    six = tiff([(0x112, 3, 1, struct.pack("<HH", 6, 0))])
    other = tiff([(0x10F, 2, 4, b"abc\0")])
    for name, block in exif_blocks():
        yield f"exif/{name}.jpg", exif_jpeg(base, block)
    yield "exif/named_twice.jpg", exif_jpeg(base, b"Exif\0\0" + six)
    yield "exif/named_thrice.jpg", exif_jpeg(base, b"Exif\0\0Exif\0\0" + six)
    yield "exif/fill_bytes.jpg", base[:2] + b"\xff\xff\xff" + exif_jpeg(base, six)[2:]
    yield "exif/junk.jpg", base[:2] + b"\0\1" + exif_jpeg(base, six)[2:]
    yield "exif/in_two.jpg", exif_jpeg(base, six[:15], six[15:])
    yield "exif/after_tables.jpg", base.replace(b"\xff\xda", exif_jpeg(b"\xff\xd8", six)[2:] + b"\xff\xda", 1)
    yield "exif/second.jpg", exif_jpeg(base, other, six)
    yield "exif/lower_case.jpg", exif_jpeg(base, six, name=b"exif\0\0")
    yield "exif/one_zero.jpg", exif_jpeg(base, six, name=b"Exif\0")
    space = b"http://ns.adobe.com/xap/1.0/\0"
    for form in ("attribute", "element"):
        yield f"exif/xmp_{form}.jpg", exif_jpeg(base, xmp(6, form), name=space)
    yield "exif/xmp_0.jpg", exif_jpeg(base, xmp(0), name=space)
    yield "exif/xmp_12.jpg", exif_jpeg(base, xmp(12, "element"), name=space)
    yield "exif/xmp_twice.jpg", exif_jpeg(base, xmp(3), xmp(6), name=space)
    yield "exif/xmp_single_quotes.jpg", exif_jpeg(base, xmp(6).replace(b'"', b"'"), name=space)
    yield "exif/xmp_extension.jpg", exif_jpeg(base, xmp(6), name=b"http://ns.adobe.com/xmp/extension/\0")
    yield "exif/xmp_and_exif.jpg", exif_jpeg(exif_jpeg(base, xmp(6), name=space), other)
    yield "exif/exif_wins.jpg", exif_jpeg(exif_jpeg(base, xmp(3), name=space), six)
    yield "exif/exif_upright_wins.jpg", exif_jpeg(
        exif_jpeg(base, xmp(3), name=space), tiff([(0x112, 3, 1, struct.pack("<HH", 1, 0))]))
    yield "exif/exif_invalid_wins.jpg", exif_jpeg(
        exif_jpeg(base, xmp(3), name=space), tiff([(0x112, 3, 1, struct.pack("<HH", 9, 0))]))
    profile = b"\nexif\n%8d\n" % (6 + len(six)) + (b"Exif\0\0" + six).hex().encode() + b"\n"
    wrapped = b"\nexif\n%8d\n" % (6 + len(six)) + b"\n".join(
        (b"Exif\0\0" + six).hex().encode()[i : i + 20] for i in range(0, 80, 20))
    key = b"Raw profile type exif\0"
    forms = {
        "chunk": (b"eXIf", six), "chunk_named": (b"eXIf", b"Exif\0\0" + six), "text": (b"tEXt", b"exif\0" + six),
        "text_named": (b"tEXt", b"exif\0Exif\0\0" + six), "raw": (b"tEXt", key + profile),
        "raw_wrapped": (b"tEXt", key + wrapped), "raw_zip": (b"zTXt", key + b"\0" + zlib.compress(profile)),
        "raw_international": (b"iTXt", key + b"\0\0\0\0" + profile),
        "raw_damaged": (b"tEXt", key + profile[:-4] + b"xyz\n"), "raw_app1": (b"tEXt", key.replace(b"exif", b"APP1") + profile),
        "raw_odd": (b"tEXt", key + profile[:-2]), "raw_no_lines": (b"tEXt", key + b"nothing"),
        "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)),
        "xmp_zip": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(6, "element"))),
        "xmp_text": (b"tEXt", b"XML:com.adobe.xmp\0" + xmp(6)),
        "xmp_latin": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6) + b"\xff"),
        "xmp_raw": (b"tEXt", b"Raw profile type xmp\0" + b"\nxmp\n%8d\n" % len(xmp(6)) + xmp(6).hex().encode()),
    }
    for name, extra in forms.items():
        yield f"exif/{name}.png", png(13, 9, 8, 0, 90, [extra])
        yield f"exif/{name}_after.png", png(13, 9, 8, 0, 90, after=[extra])
    yield "exif/chunk_and_raw.png", png(13, 9, 8, 0, 90, [forms["raw"], (b"eXIf", other)])
    yield "exif/chunk_twice.png", png(13, 9, 8, 0, 90, [forms["chunk"], (b"eXIf", other)])
    yield "exif/raw_and_xmp.png", png(13, 9, 8, 0, 90, [forms["raw"], forms["xmp"]])
    image = saved(drawing(13, 9, 3), "WEBP")[12:]
    canvas = struct.pack("<I", 12)[:3] + struct.pack("<I", 8)[:3]
    for name, flags, chunk_name, block in (
            ("exif", 8, b"EXIF", six), ("exif_named", 8, b"EXIF", b"Exif\0\0" + six), ("no_flag", 0, b"EXIF", six),
            ("xmp", 4, b"XMP ", xmp(6)), ("xmp_no_flag", 8, b"XMP ", xmp(6)), ("wrong_order", 8, b"EXIF", b"\0" + six)):
        head = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + canvas
        tail = chunk_name + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
        body = b"WEBP" + head + image + tail
        yield f"exif/{name}.webp", b"RIFF" + struct.pack("<I", len(body)) + body
    body = b"WEBP" + image + b"EXIF" + struct.pack("<I", len(six)) + six
    yield "exif/no_container.webp", b"RIFF" + struct.pack("<I", len(body)) + body


def damaged_files(seed=11):
    """Files of each kind, truncated and with changed bytes."""
    rng = random.Random(seed)
    samples = {
        "rgb.png": png(37, 29, 8, 2, 80), "interlaced.png": png(37, 29, 8, 6, 81, interlace=1),
        "palette.png": png(37, 29, 4, 3, 82, [(b"PLTE", bytes(range(48)))]), "baseline.jpg": jpeg(size=(64, 48)),
        "progressive.jpg": jpeg(size=(64, 48), progressive=True), "cmyk.jpg": jpeg("CMYK", size=(64, 48)),
        "restart.jpg": jpeg(size=(64, 48), restart_marker_blocks=3), "lossy.webp": saved(drawing(45, 37, 3), "WEBP"),
        "lossless.webp": saved(drawing(45, 37, 3), "WEBP", lossless=True),
        "moving.webp": saved(drawing(40, 30, 1), "WEBP", save_all=True, append_images=[drawing(40, 30, 2)]),
    }
    for name, data in samples.items():
        stem, kind = name.split(".")
        for i in range(8):
            yield f"damaged/{stem}_cut{i}.{kind}", data[: rng.randrange(12, len(data))]
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(2, len(data))] = rng.randrange(256)
            yield f"damaged/{stem}_changed{i}.{kind}", bytes(changed)
            start = rng.randrange(2, len(data) - 9)
            yield f"damaged/{stem}_hole{i}.{kind}", data[:start] + data[start + rng.randrange(1, 9) :]


def all_files():
    for files in (png_files, jpeg_files, webp_files, exif_files, damaged_files):
        yield from files()


def pillow(data, transposes=True):
    """Pillow's image; None if it refuses the file. A file whose Exif block it refuses is not rotated."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
        image.load()
    except Exception:
        return None
    try:
        return (ImageOps.exif_transpose(image) if transposes else image).convert("RGB")
    except Exception:
        return image.convert("RGB")


# Differences with a reason, see docs/models.md: the beginning of a name, and the difference.
EXPECTED = {"png/c0d16": "pixels", "damaged/progressive": "pixels, by up to"}


def views(program, model, path, folder):
    """The samples of the views from a trace; None if the file is refused."""
    done = subprocess.run(
        [program, "-m", model, "--image", path, "--exif", "apply", "-p", "?", "-n", "1", "--trace", folder],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if done.returncode != 3 or done.stderr.count("\n") != 1:
            raise SystemExit(f"{path}: status {done.returncode}: {done.stderr}")
        return None
    with open(pathlib.Path(folder) / "trace.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        found = {}
        for name, tensor in header.items():
            if name.endswith("pixels_u8"):
                file.seek(start + tensor["data_offsets"][0])
                found[name] = file.read(tensor["data_offsets"][1] - tensor["data_offsets"][0])
    if not found:
        raise SystemExit("no pixels_u8 in the trace")
    return found


def compare(arguments, name, data, folder):
    """The difference of a file, or an empty text."""
    base = pathlib.Path(folder) / name.replace("/", "_")
    base.mkdir()
    path = base / name.split("/")[1]
    path.write_bytes(data)
    expected = pillow(data)
    ours = views(arguments.program, arguments.model, path, base / "ours")
    if (expected is None) != (ours is None):
        return "refused" if ours is None else "accepted"
    if ours is None:
        return ""
    expected.save(base / "expected.png")
    theirs = views(arguments.program, arguments.model, base / "expected.png", base / "theirs")
    if ours == theirs:
        return ""
    if any(len(ours[n]) != len(theirs[n]) for n in ours):
        return "size"
    worst = max(abs(a - b) for n in ours for a, b in zip(ours[n], theirs[n]))
    return f"pixels, by up to {worst}"


def write_fixture(path):
    """Writes the small files of `variants` with Pillow's size and checksum, or null for a file that it refuses."""
    rows = []
    for name, data in all_files():
        is_small = len(data) < 1500 and not name.startswith("damaged") and not re.search(r"_\d+x\d+\.", name)
        if is_small and not any(name.startswith(n) for n in EXPECTED):
            image = pillow(data)
            result = image and [image.width, image.height, hashlib.sha256(image.tobytes()).hexdigest()]
            rows.append({"name": name, "data": base64.b64encode(data).decode(), "result": result})
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def write_truncations(folder):
    """Writes the lengths to which Pillow accepts the truncated files of a folder."""
    names = ("baseline_420.jpg progressive.jpg restart.jpg gray.jpg cmyk.jpg rgb.png palette.png palette_4bit.png "
             "interlaced.png rgb_16bit.png gray_alpha.png lossy.webp lossless.webp lossy_alpha.webp "
             "lossless_alpha.webp with_metadata.webp animated.webp").split()
    lengths = {}
    for name in names:
        data = (folder / name).read_bytes()
        lengths[name] = [i for i in range(len(data)) if pillow(data[:i]) is not None]
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(accepted)}" for name, accepted in lengths.items())
    (folder / "truncations.json").write_text("{\n" + rows + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a small checkpoint")
    parser.add_argument("--write", type=pathlib.Path, help="a folder: write the fixtures of the tests instead")
    parser.add_argument("--program", default=".build/release/pdrop-run")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.write:
        write_fixture(arguments.write / "variants.json")
        write_truncations(arguments.write)
        return
    if not arguments.model:
        parser.error("--model is required")
    print("Pillow", Image.__version__, *(f"{n} {features.version(n)}" for n in ("libjpeg_turbo", "webp", "zlib")))
    files = dict(all_files())
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        results = dict(zip(files, pool.map(lambda item: compare(arguments, *item, folder), files.items())))
    unexpected = 0
    for name, difference in results.items():
        if difference:
            is_expected = any(name.startswith(n) and difference.startswith(d) for n, d in EXPECTED.items())
            unexpected += not is_expected
            print(f"{name:45} {difference}{' (expected)' if is_expected else ''}")
    print(f"{len(files)} files, {sum(1 for d in results.values() if d)} differences, {unexpected} of them not expected")
    sys.exit(unexpected > 0)


if __name__ == "__main__":
    main()
