"""Small pictures with every Exif orientation, and checksums of what Pillow makes of them.

    python3 Tests/Fixtures/images/make_exif.py

Writes exif_*.{jpg,png,webp} and exif.json beside itself. Needs Pillow 13.
"""
import hashlib
import json
import os

from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
picture = Image.new("RGB", (13, 7))
picture.putdata([(20 * x, 36 * y, 255 - 7 * x - 9 * y) for y in range(7) for x in range(13)])

rows = []
for ending in ("jpg", "png", "webp"):
    for orientation in range(1, 9):
        if ending != "jpg" and orientation not in (3, 6):
            continue
        name = f"exif_{orientation}.{ending}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if ending == "webp" else {}
        picture.save(os.path.join(HERE, name), exif=exif, **options)
        upright = ImageOps.exif_transpose(Image.open(os.path.join(HERE, name))).convert("RGB")
        rows.append({"image": name, "width": upright.width, "height": upright.height,
                     "sha256": hashlib.sha256(upright.tobytes()).hexdigest()})
with open(os.path.join(HERE, "exif.json"), "w") as f:
    json.dump(rows, f, indent=1)
