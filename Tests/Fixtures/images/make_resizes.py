"""Checksums of Pillow's bicubic resizes, both orders of its two passes included.

    python3 Tests/Fixtures/images/make_resizes.py > Tests/Fixtures/images/resizes.json

Needs Pillow 13: since then the vertical pass may come first.
"""
import hashlib
import json
import os

from PIL import Image

GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "Goldens", "images")
SIZES = {
    "tiny_20x30.png": [(20, 29), (21, 29), (19, 28), (19, 27), (18, 27), (18, 26), (18, 25), (10, 10), (9, 10), (336, 3),
                       (3, 336), (20, 40), (19, 31), (1, 1), (336, 504)],
    "gray_300x400.png": [(336, 336), (336, 449), (150, 100), (150, 99), (150, 101), (301, 399)],
    "palette_512x256.png": [(336, 336), (600, 200), (256, 128), (511, 250)],
}

rows = []
for name, sizes in SIZES.items():
    picture = Image.open(os.path.join(GOLDENS, name)).convert("RGB")
    for size in sizes:
        pixels = picture.resize(size, Image.BICUBIC).tobytes()
        rows.append({"image": name, "width": size[0], "height": size[1], "sha256": hashlib.sha256(pixels).hexdigest()})
print(json.dumps(rows, indent=1))
