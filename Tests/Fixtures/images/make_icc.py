"""Small pictures with a colour profile that would change every colour, and checksums of what Pillow reads.

    python3 Tests/Fixtures/images/make_icc.py

Writes icc.{jpg,png,webp} and icc.json beside itself. Needs Pillow 13 with LittleCMS.
"""
import hashlib
import io
import json
import os

from PIL import Image, ImageCms

HERE = os.path.dirname(os.path.abspath(__file__))
picture = Image.new("RGB", (13, 7))
picture.putdata([(20 * x, 36 * y, 255 - 7 * x - 9 * y) for y in range(7) for x in range(13)])
# sRGB with red and blue exchanged, by the names of their tags.
srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
profile = srgb.tobytes().replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")

rows = []
for ending in ("jpg", "png", "webp"):
    name = f"icc.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    picture.save(os.path.join(HERE, name), icc_profile=profile, **options)
    stored = Image.open(os.path.join(HERE, name))
    assert stored.info["icc_profile"] == profile
    rgb = stored.convert("RGB")
    applied = ImageCms.profileToProfile(rgb, ImageCms.ImageCmsProfile(io.BytesIO(profile)), srgb)
    assert applied.tobytes() != rgb.tobytes()
    rows.append({"file": name, "width": rgb.width, "height": rgb.height,
                 "rgb_sha256": hashlib.sha256(rgb.tobytes()).hexdigest()})
with open(os.path.join(HERE, "icc.json"), "w") as f:
    json.dump(rows, f, indent=1)
    f.write("\n")
